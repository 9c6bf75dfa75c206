"""Checkpoints: bit for bit, whole or not there, the last N."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs import randomness
from jobs.checkpoint import Checkpoints
from jobs.context import JobContext
from jobs.metrics import Metrics
from jobs.reading import metrics as read_metrics
from jobs.sampler import Sampler


def state(n: int) -> dict[str, Any]:
    return {
        "model": {"file": np.full(3, n, np.float32), "b/c": np.array(n)},
        "plain": np.arange(n),
        "other": {"n": (n, None)},
    }


def test_round_trip_bit_for_bit(tmp_path: Path) -> None:
    odd = {"nan": np.array([np.nan, -0.0, np.inf]), "none": np.zeros((0, 3), np.int8), "words": np.array(["a", "bc"])}
    objects = {"o": np.array([{}, None], dtype=object)}
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(3, {"odd": odd, "objects": objects, **state(4)})
    found = checkpoints.load()
    assert found is not None
    assert (found.step, sorted(found)) == (3, ["model", "objects", "odd", "other", "plain"])
    for name, array in odd.items():
        assert (found["odd"][name].dtype, found["odd"][name].shape) == (array.dtype, array.shape)
        assert found["odd"][name].tobytes() == array.tobytes()
    assert found["other"] == {"n": (4, None)}
    assert list(found["model"]) == ["file", "b/c"]


def test_the_last_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (1, 2, 3):
        checkpoints.save(step, state(step))
    assert checkpoints.steps() == [2, 3]
    assert len(os.listdir(tmp_path)) == 2


@pytest.mark.parametrize("damage", ["flip", "cut", "gone", "manifest", "manifest gone"])
def test_a_damaged_one_is_passed_over(tmp_path: Path, damage: str) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, state(1))
    newest = checkpoints.save(2, state(2))
    entry, manifest = newest / "000.npz", newest / "manifest.json"
    content = entry.read_bytes()
    if damage == "flip":
        entry.write_bytes(content[:50] + bytes([content[50] ^ 1]) + content[51:])
    elif damage == "cut":
        entry.write_bytes(content[:-1])
    elif damage == "gone":
        entry.unlink()
    elif damage == "manifest":
        manifest.write_text(manifest.read_text().replace('"step": 2', '"step": 2 ').replace("sha256", "sha255", 1))
    else:
        manifest.unlink()
    with pytest.warns(RuntimeWarning, match="passed over"):
        found = checkpoints.load()
    assert found is not None
    assert found.step == 1
    # The run goes on from there; what was damaged goes.
    checkpoints.save(2, state(2))
    found = checkpoints.load()
    assert found is not None
    assert found["other"] == {"n": (2, None)}


def test_what_a_kill_left_half_done_is_never_loaded_and_goes(tmp_path: Path) -> None:
    (tmp_path / ".part-1-7").mkdir()
    (tmp_path / ".part-1-7" / "manifest.json").write_text("{}")
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.load() is None
    checkpoints.save(1, state(1))
    assert [name for name in os.listdir(tmp_path) if name.startswith(".")] == []


def test_a_failed_save_leaves_the_others_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(1, state(1))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        checkpoints.save(2, state(2))
    monkeypatch.undo()
    assert os.listdir(tmp_path) == ["step-000000000001.0000"]
    assert checkpoints.load() is not None


def test_nothing_there(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "absent").load() is None
    with pytest.raises(ValueError, match="name of an entry"):
        Checkpoints(tmp_path).save(1, {"../x": 1})


@settings(deadline=None)
@given(
    rows=st.integers(1, 50), batch=st.integers(1, 20), seed=st.integers(0, 9), cut=st.integers(0, 40),
    drop=st.booleans(),
)  # fmt: skip
def test_a_sampler_goes_on_where_it_was(rows: int, batch: int, seed: int, cut: int, *, drop: bool) -> None:
    drop = drop and batch <= rows
    whole, first, second = (Sampler(rows, batch, seed, drop_last=drop) for _ in range(3))
    expected = [whole.next().tolist() for _ in range(60)]
    found = [first.next().tolist() for _ in range(cut)]
    second.restore(first.state())
    assert found + [second.next().tolist() for _ in range(60 - cut)] == expected
    epoch = [row for part in expected[: whole.batches_per_epoch] for row in part]
    assert len(epoch) == len(set(epoch)) == (rows - rows % batch if drop else rows)


def test_a_place_of_another_sampler_is_refused() -> None:
    with pytest.raises(ValueError, match="another sampler"):
        Sampler(10, 3, 1).restore(Sampler(10, 3, 2).state())


def test_random_states() -> None:
    mine = np.random.default_rng(1)
    saved = randomness.capture({"mine": mine})
    first = (random.getrandbits(64), np.random.rand(), mine.random())
    randomness.restore(saved, {"mine": mine})
    assert (random.getrandbits(64), np.random.rand(), mine.random()) == first


def test_metrics_survive_a_kill_in_the_middle_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "m"
    metrics = Metrics(path)
    metrics.report(1, 3, loss=0.5)
    metrics.report(2, 3, loss=np.float32(0.25))  # type: ignore[arg-type]
    metrics.report(note="x", bad=float("nan"))
    metrics.close()
    with path.open("ab") as file:
        file.write(b'{"step": 3, "lo')
    metrics = Metrics(path)
    metrics.report(2, 3, loss=0.2)
    metrics.close()
    rows = [{name: value for name, value in row.items() if name != "at"} for row in read_metrics(path)]
    assert rows == [
        {"note": "x", "bad": "nan"}, {"step": 1, "total": 3, "loss": 0.5}, {"step": 2, "total": 3, "loss": 0.2},
    ]  # fmt: skip


def test_the_context_without_a_runner_and_the_notice_file(tmp_path: Path) -> None:
    notice = tmp_path / "notice.json"
    context = JobContext({"SLUICE_NOTICE_FILE": str(notice), "SLUICE_CHECKPOINT_INTERVAL_S": "3600"})
    assert not context.notice
    assert not context.checkpoint_due()
    notice.write_text("{}")
    assert context.notice
    assert context.checkpoint_due()
    context.saved()
    assert not context.checkpoint_due()
    with pytest.raises(SystemExit) as ended:
        context.requeue()
    assert ended.value.code == 75
