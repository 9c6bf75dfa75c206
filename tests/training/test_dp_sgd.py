"""DP-SGD by itself, where there are fewer rows than a batch would have."""

from __future__ import annotations

import torch

from jobs.trainers.dp_sgd import DpSgd


def test_a_table_smaller_than_a_batch_trains_on_all_of_it() -> None:
    head = torch.nn.Linear(3, 2)
    private = DpSgd(
        head, torch.optim.SGD(head.parameters(), lr=0.1), rows=40, batch=64, epochs=2, epsilon=4.0, delta=1e-3,
        clip=1.0, seed=1,
    )  # fmt: skip
    assert [len(rows) for rows in private.batches(torch.Generator().manual_seed(1))] == [40]
    assert private.noise > 0
