"""PyTorch models into `sluice quantize`: modules of a factory, TorchScript files and `torch.export` programs."""

from __future__ import annotations

import json
import os
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gateway import cli
from quantize import evaluation, torch_intake
from quantize.errors import BadInput
from quantize.runtimes import OnnxRuntime

ROWS = 500
WEIGHTS = "SLUICE_TEST_WEIGHTS"


def network() -> Any:
    torch.manual_seed(1)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3, padding=1), torch.nn.BatchNorm2d(16), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(), torch.nn.Dropout(0.5), torch.nn.Linear(16, 4),
    )  # fmt: skip


def factory() -> tuple[Any, dict[str, Any]]:
    """What a user writes: the module with its trained weights, and example inputs."""
    made = network()
    made.load_state_dict(torch_intake.load_weights(Path(os.environ[WEIGHTS])))
    return made, {"x": torch.zeros(2, 3, 8, 8)}


def no_module() -> Any:
    return {"x": 1}, {"x": torch.zeros(2, 3, 8, 8)}


def no_pair() -> Any:
    return network()


def trained() -> Any:
    """Returns the network with other weights than `network` has by itself, and statistics in its batch norm."""
    found = network()
    with torch.no_grad():
        for _ in range(3):
            found(torch.randn(8, 3, 8, 8) * 2 + 1)
        found[-1].weight.mul_(2)
    return found.eval()


def of_factory(folder: Path, model: Any) -> str:
    torch.save(model.state_dict(), folder / "weights.pth")
    return f"{__name__}:factory"


def scripted(folder: Path, model: Any) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(model).save(str(folder / "model.pt"))
    return str(folder / "model.pt")


def traced(folder: Path, model: Any) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.trace(model, torch.zeros(2, 3, 8, 8)).save(str(folder / "model.ts"))
    return str(folder / "model.ts")


def exported(folder: Path, model: Any) -> str:
    shapes = ({0: torch.export.Dim("rows", min=1, max=64)},)
    torch.export.save(torch.export.export(model, (torch.zeros(2, 3, 8, 8),), dynamic_shapes=shapes), folder / "m.pt2")
    return str(folder / "m.pt2")


def exported_for_one_row(folder: Path, model: Any) -> str:
    torch.export.save(torch.export.export(model, (torch.zeros(1, 3, 8, 8),)), folder / "one.pt2")
    return str(folder / "one.pt2")


@pytest.mark.parametrize("form", [of_factory, scripted, traced, exported, exported_for_one_row])
def test_every_form_is_exported_and_judged(
    form: Callable[[Path, Any], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for name, short in (("BLOCK_S", 0.001), ("ROUNDS", 2), ("PROBE_ROWS", 2)):
        monkeypatch.setattr(evaluation, name, short)
    monkeypatch.setenv(WEIGHTS, str(tmp_path / "weights.pth"))
    model = trained()
    where = form(tmp_path, model)
    rows = np.random.default_rng(0).normal(size=(ROWS + 32, 3, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "calibration.npz", x=rows[:32])
    np.savez(tmp_path / "evaluation.npz", x=rows[32:])
    code = cli.main([
        "quantize", "publish", where, "--name", "m", "--calibration", str(tmp_path / "calibration.npz"), "--evaluation",
        str(tmp_path / "evaluation.npz"), "--metric", "cosine", "--target", "openvino", "--max-batch-size", "4",
        "--allow-slower", "--registry", str(tmp_path), "--dry-run", "--json",
    ])  # fmt: skip
    found = json.loads(capsys.readouterr().out)
    assert (code, found["verdict"]) == (0, "pass"), found
    assert found["data"]["evaluation"]["rows"] == ROWS
    assert found["targets"][0]["absolute_loss"] < 0.01


def test_the_graph_answers_as_the_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the weights of the file, and as in serving: no dropout, the batch norm's kept statistics."""
    monkeypatch.setenv(WEIGHTS, str(tmp_path / "weights.pth"))
    model = trained()
    graph = torch_intake.export(of_factory(tmp_path, model))
    rows = np.random.default_rng(1).normal(size=(5, 3, 8, 8)).astype(np.float32)
    answers = OnnxRuntime(graph.SerializeToString(), ["output"]).run({"x": rows})["output"]
    with torch.inference_mode():
        assert np.abs(answers - model(torch.from_numpy(rows)).numpy()).max() < 1e-5


def test_what_is_no_model_is_said(tmp_path: Path) -> None:
    rows = {"x": np.zeros((2, 3, 8, 8), np.float32)}
    for name in ("model.pt", "model.pt2"):
        (tmp_path / name).write_bytes(b"no model")
        with pytest.raises(BadInput, match="not a readable"):
            torch_intake.export_file(tmp_path / name, rows)
    scripted(tmp_path, trained())
    with pytest.raises(BadInput, match="its inputs are"):
        torch_intake.export_file(tmp_path / "model.pt", rows | {"y": rows["x"]})
    for name, said in (("no_module", "not a module"), ("no_pair", "must return"), ("absent", "cannot be imported")):
        with pytest.raises(BadInput, match=said):
            torch_intake.export(f"{__name__}:{name}")


class Evil:
    """Would make a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_weights_that_are_a_program_are_not_run(tmp_path: Path) -> None:
    torch.save({"w": Evil(tmp_path / "ran")}, tmp_path / "evil.pth")
    with pytest.raises(pickle.UnpicklingError):
        torch_intake.load_weights(tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()
