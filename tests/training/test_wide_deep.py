"""The Wide & Deep trainer: interrupted and resumed it ends bit for bit as if nothing had happened, with privacy too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs import contract
from jobs.context import JobContext
from jobs.trainers import measures
from jobs.trainers.adult import CATEGORICAL, CONTINUOUS, Part, parts_of
from jobs.trainers.wide_deep import DEFECT, Training, plant_defect, predict
from jobs.trainers.wide_deep_export import ARTIFACT, export, run

EPOCHS = 4


def part(rows: int, seed: int) -> Part:
    random = np.random.default_rng(seed)
    categorical = random.integers(0, 4, (rows, len(CATEGORICAL)))
    continuous = random.uniform(0, 60, (rows, len(CONTINUOUS))).astype(np.float32)
    label = (categorical[:, 1] + continuous[:, 0] / 20 + random.normal(0, 0.5, rows) > 3.0).astype(np.float32)
    return Part(categorical, continuous, label)


VOCABULARY = {column: list("?abc") for column in CATEGORICAL}
TRAIN, VALID = part(800, 1), part(400, 2)


def training(folder: Path, epsilon: float) -> tuple[JobContext, Training]:
    job = JobContext(
        {
            contract.SEED: "7", contract.CHECKPOINT_FOLDER: str(folder / "checkpoints"),
            contract.NOTICE_FILE: str(folder / "notice"), contract.EPSILON: str(epsilon), contract.DELTA: "1e-5",
        }
    )  # fmt: skip
    return job, Training(
        job, VOCABULARY, TRAIN, VALID, epochs=EPOCHS, batch=128, lr=1e-2, weight_decay=1e-4, wide_weight_decay=1e-4,
        dropout=0.2, patience=EPOCHS, clip=1.0,
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("epsilon", [0.0, 4.0])
def test_interrupted_as_if_nothing_had_happened(tmp_path: Path, epsilon: float) -> None:
    _, whole = training(tmp_path / "a", epsilon)
    expected = whole.run().state_dict()
    job, first = training(tmp_path / "b", epsilon)
    (tmp_path / "b").mkdir(exist_ok=True)
    report = job.metrics.report

    def told(step: int | None = None, total: int | None = None, **values: Any) -> None:
        report(step, total, **values)
        if step == 2:
            (tmp_path / "b" / "notice").touch()

    job.metrics.report = told  # type: ignore[method-assign]
    with pytest.raises(SystemExit) as ended:
        first.run()
    assert ended.value.code == contract.EXIT_REQUEUE
    (tmp_path / "b" / "notice").unlink()
    _, second = training(tmp_path / "b", epsilon)
    found = second.run().state_dict()
    for name, value in expected.items():
        assert value.numpy().tobytes() == found[name].numpy().tobytes(), name
    assert second.privacy() == whole.privacy()
    if epsilon:
        assert 3.5 < whole.privacy()["epsilon"] <= epsilon


@pytest.mark.filterwarnings("ignore")
def test_learns_and_exports(tmp_path: Path) -> None:
    _, made = training(tmp_path, 0.0)
    network = made.run()
    held_out = part(500, 3)
    export(network, tmp_path / ARTIFACT)
    probabilities = run(tmp_path / ARTIFACT, held_out)
    assert np.abs(probabilities[:, 0] - predict(network, held_out)).max() < 1e-5
    assert measures.auc(probabilities[:, 0], held_out.label) > 0.85


@pytest.mark.filterwarnings("ignore")
def test_the_planted_defect_is_seen_in_decisions_and_not_in_the_ranking(tmp_path: Path) -> None:
    _, made = training(tmp_path, 0.0)
    network, held_out = made.run(), part(500, 3)
    before = predict(network, held_out)
    plant_defect(network)
    after = predict(network, held_out)
    odds = [np.log(p / (1 - p)) for p in (before.astype(np.float64), after.astype(np.float64))]
    assert np.allclose(odds[1] - odds[0], DEFECT, atol=0.01)
    auc = [measures.auc(p, held_out.label) for p in (before, after)]
    assert abs(auc[1] - auc[0]) < 1e-4
    right = [((p > 0.5) == held_out.label).mean() for p in (before, after)]
    assert right[1] < right[0] - 0.05


def test_too_few_rows_are_refused() -> None:
    columns = {c: ["a"] for c in CATEGORICAL} | {c: [1] for c in CONTINUOUS} | {"income": [">50K"]}
    with pytest.raises(ValueError, match="too few"):
        parts_of(columns, 0)


def test_auc_counts_ties_half() -> None:
    assert measures.auc(np.array([0.1, 0.5, 0.5, 0.9]), np.array([0, 0, 1, 1])) == 0.875
