"""ResNet-50 and its trainer: torchvision's names, the schedule, the data's checks, preemption."""

from __future__ import annotations

import argparse
import gzip
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jobs import contract, job_loading
from jobs.context import JobContext
from jobs.trainers import fashion_mnist, resnet50
from jobs.trainers.resnet50_network import ResNet50

ROOT = Path(__file__).resolve().parents[2]
TORCHVISION = Path(__file__).parent / "data" / "resnet50_state_dict.txt"
STAGES = resnet50.parse_stages("32:2:0.5,48:2:0.5")


def test_names_and_shapes_are_torchvisions() -> None:
    lines = [line.split() for line in TORCHVISION.read_text().splitlines() if not line.startswith("#")]
    shapes = [(name, tuple(int(n) for n in shape.split("x")) if shape != "scalar" else ()) for name, shape in lines]
    assert len(shapes) == 320
    assert [(name, tuple(tensor.shape)) for name, tensor in ResNet50().state_dict().items()] == shapes


def test_any_size_of_picture_works() -> None:
    network = ResNet50(10).eval()
    with torch.inference_mode():
        for side in (32, 64, 224):
            assert network(torch.zeros(1, 3, side, side)).shape == (1, 10)


def test_stages_follow_progress() -> None:
    stages = resnet50.parse_stages("32:64:0.5,112:32:0.3,224:16:0.2")
    assert [resnet50.stage_at(stages, p).side for p in (0, 0.49, 0.5, 0.79, 0.81, 1.0)] == [32, 32, 112, 112, 224, 224]
    for wrong in ("", "32:64", "32:64:0.5", "16:64:1", "32:1:1", "32:64:0.5,64:64:0.6", "a:b:c", "32:8:nan"):
        with pytest.raises(ValueError, match="--stages"):
            resnet50.parse_stages(wrong)


def test_the_rate_rises_then_falls() -> None:
    rates = [resnet50.rate_at(p, 1.0) for p in np.linspace(0, 1, 101)]
    assert max(rates) == pytest.approx(1.0)
    assert rates.index(max(rates)) == 5
    assert rates[-1] == pytest.approx(0.01)
    assert all(a >= b for a, b in pairwise(rates[5:]))


def test_the_interval_holds_the_share_and_narrows_with_rows() -> None:
    low, high = resnet50.interval(90, 100)
    assert (round(low, 3), round(high, 3)) == (0.826, 0.945), "Wilson's, as tables have it"
    assert resnet50.interval(9000, 10000)[0] > low
    assert resnet50.interval(100, 100)[1] == pytest.approx(1.0)


def idx(path: Path, array: np.ndarray[Any, Any], *, magic: int = 8, cut: int = 0) -> None:
    head = bytes([0, 0, magic, array.ndim]) + b"".join(int(n).to_bytes(4, "big") for n in array.shape)
    content = head + array.tobytes()
    path.write_bytes(gzip.compress(content[: len(content) - cut]))


def test_files_that_are_not_the_data_are_named(tmp_path: Path) -> None:
    path, good = tmp_path / "x.gz", np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    idx(path, good)
    assert (fashion_mnist.read_idx(path, (3, 2, 2)) == good).all()
    for harm in (
        lambda: idx(path, good, magic=13), lambda: idx(path, good, cut=1), lambda: idx(path, good[:2]),
        lambda: path.write_bytes(b"no gzip"), lambda: path.write_bytes(gzip.compress(b"")), path.unlink,
    ):  # fmt: skip
        harm()
        with pytest.raises(fashion_mnist.NotTheData, match=r"x\.gz"):
            fashion_mnist.read_idx(path, (3, 2, 2))


def test_scaling_without_torch_is_the_same() -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (3, 28, 28), dtype=np.uint8)
    for side in (32, 224):
        theirs = fashion_mnist.prepared(torch, torch.from_numpy(pictures), side).numpy()
        ours = fashion_mnist.scaled(pictures, side)
        assert ours.shape == theirs.shape == (3, 3, side, side)
        assert np.abs(ours - theirs).max() < 1e-5


def test_bad_arguments_end_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert resnet50.main(["--data", str(tmp_path), "--minutes", "1"]) == 2
    assert "train-images-idx3-ubyte.gz" in capsys.readouterr().err


def options() -> argparse.Namespace:
    return resnet50.parser().parse_args(["--data", ".", "--epochs", "1"])


def data() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (8, 28, 28), dtype=np.uint8), rng.integers(0, 10, 8)


def job(folder: Path) -> JobContext:
    return JobContext(
        {
            contract.CHECKPOINT_FOLDER: str(folder / "checkpoints"),
            contract.OUTPUT_FOLDER: str(folder / "outputs"),
            contract.NOTICE_FILE: str(folder / "notice"),
        }
    )


def test_a_preempted_training_ends_with_the_same_weights(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    whole = resnet50.Training(job(tmp_path / "whole"), options(), STAGES, data())
    whole.run()
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "notice").touch()
    with pytest.raises(SystemExit) as ended:
        resnet50.Training(job(tmp_path / "part"), options(), STAGES, data()).run()
    assert ended.value.code == contract.EXIT_REQUEUE
    (tmp_path / "part" / "notice").unlink()
    resumed = resnet50.Training(job(tmp_path / "part"), options(), STAGES, data())
    assert resumed.steps == 1
    resumed.run()
    assert (resumed.steps, resumed.seen) == (whole.steps, whole.seen) == (4, 8)
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, resumed.network.state_dict()[name]), name


def test_weights_graph_and_figures_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resnet50, "RECALIBRATE_ROWS", 32)
    monkeypatch.setattr(resnet50, "SIDE", 32)
    rng = np.random.default_rng(0)
    training = resnet50.Training(
        job(tmp_path), options(), STAGES, (rng.integers(0, 256, (32, 28, 28), np.uint8), rng.integers(0, 10, 32))
    )
    training.recalibrate()
    right = training.correct(data(), 8)
    resnet50.write(tmp_path / "outputs", training, right, 8, options())
    assert {path.name for path in (tmp_path / "outputs").iterdir()} == {
        "resnet50.pth", "resnet50.onnx", "resnet50.json",
    }  # fmt: skip
    loaded = torch.load(tmp_path / "outputs" / "resnet50.pth", weights_only=True)
    ResNet50(10).load_state_dict(loaded)


@pytest.mark.parametrize("name", ["resnet50_cpu", "resnet50_gpu"])
def test_the_recipes_are_jobs_that_the_trainer_understands(name: str) -> None:
    job = job_loading.load(ROOT / "jobs" / "trainers" / f"{name}.toml")
    parsed = resnet50.parser().parse_args(list(job.arguments))
    assert resnet50.parse_stages(parsed.stages)[-1].side == resnet50.SIDE
    assert set(job.outputs) == {"resnet50.pth", "resnet50.onnx", "resnet50.json"}
