"""DP-SGD (Abadi et al., 2016) with Opacus: per-row gradients are clipped and noise is added before every step.

Decides the noise: the smallest with which all planned steps stay within epsilon at delta (RDP accountant, Poisson
sampling). Batches are drawn as the accountant assumes: every row by itself with the same chance. What has been spent is
part of the checkpoint, so an interrupted training spends nothing twice and forgets nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch


class DpSgd:
    """Owns the network that computes per-row gradients, the optimizer that clips and adds noise, and the accountant."""

    def __init__(
        self, network: Any, optimizer: Any, *, rows: int, batch: int, epochs: int, epsilon: float, delta: float,
        clip: float, seed: int,
    ) -> None:  # fmt: skip
        from opacus import GradSampleModule
        from opacus.accountants import RDPAccountant
        from opacus.accountants.utils import get_noise_multiplier
        from opacus.optimizers import DPOptimizer

        batch = min(batch, rows)
        self._rows, self._chance, self._delta = rows, batch / rows, delta
        self._steps = math.ceil(rows / batch)
        self.noise = get_noise_multiplier(
            target_epsilon=epsilon, target_delta=delta, sample_rate=self._chance, steps=self._steps * epochs,
            accountant="rdp",
        )  # fmt: skip
        self.network = GradSampleModule(network)
        self._random = torch.Generator().manual_seed(seed + 1)
        self._optimizer = DPOptimizer(
            optimizer, noise_multiplier=self.noise, max_grad_norm=clip, expected_batch_size=batch,
            generator=self._random,
        )  # fmt: skip
        self._accountant = RDPAccountant()

    def batches(self, generator: Any) -> Iterator[Any]:
        """Yields the row numbers of an epoch's batches."""
        for _ in range(self._steps):
            yield (torch.rand(self._rows, generator=generator) < self._chance).nonzero().squeeze(1)

    def step(self) -> None:
        """Makes one private step with the gradients that are there."""
        self._optimizer.step()
        self._optimizer.zero_grad()
        self._accountant.step(noise_multiplier=self.noise, sample_rate=self._chance)

    def spent(self) -> dict[str, float]:
        """Returns epsilon (rounded up) and delta of all steps so far."""
        if not self._accountant.history:
            return {"epsilon": 0.0, "delta": self._delta}
        return {"epsilon": math.ceil(self._accountant.get_epsilon(self._delta) * 1e4) / 1e4, "delta": self._delta}

    def state(self) -> dict[str, Any]:
        return {"accountant": self._accountant.state_dict(), "random": self._random.get_state()}

    def restore(self, state: dict[str, Any]) -> None:
        self._accountant.load_state_dict(state["accountant"])
        self._random.set_state(state["random"])
