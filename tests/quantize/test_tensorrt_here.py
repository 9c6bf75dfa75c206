"""TensorRT 10/11 with a GPU: which one is chosen, and the way from a graph to a published engine.

There is no GPU in the tests: `tests.support.tensorrt_double` says what is real (the build) and what is not.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gateway import cli
from gateway.backends.device import Device, misfits
from gateway.registry.manifest import parse_manifest
from quantize import tensorrt_engine, tensorrt_here
from quantize.calibration import calibrate
from quantize.cuda import Cuda, CudaError
from quantize.errors import UnsupportedModel
from quantize.normalise import normalise
from quantize.policy import Recipe
from quantize.runtimes import OnnxRuntime
from quantize.sources import from_arrays
from quantize.targets import make, wanted_tensors
from quantize.tensorrt_here import NotHere, TensorRt, find
from quantize.tensorrt_layers import integer_nodes
from tests.support import onnx_models
from tests.support.tensorrt_double import HostCuda, module


def present(version: str = "10.13.2.6", **more: Any) -> Any:
    return lambda name: SimpleNamespace(__version__=version, **more)


def no_gpu() -> Cuda:
    return Cuda(HostCuda(code=100))


def missing(name: str) -> Any:
    raise ImportError(f"No module named {name!r}")


def test_which_tensorrt_and_gpu_are_here() -> None:
    whole = {"Builder": object, "OnnxParser": object}
    for version in ("10.13.2.6", "11.4.0.106"):
        compiler, cuda = find(present(version, **whole), lambda: Cuda(HostCuda()))
        assert (compiler.runtime, compiler.capability, cuda.capability()) == ("tensorrt", "9.0", "9.0")
        assert not compiler.names_capability
    for load, open_cuda, why in (
        (missing, no_gpu, "No module named 'tensorrt'"),
        (present("8.6.1", **whole), no_gpu, "not 10 or 11"),
        (present("100.0", **whole), no_gpu, "not 10 or 11"),
        (present(), no_gpu, "no builder"),
        (present(**whole), no_gpu, "no GPU: cudaGetDeviceCount: no CUDA-capable device is detected"),
        (present(**whole), lambda: Cuda(HostCuda(gpus=0)), "CUDA sees no GPU"),
    ):
        with pytest.raises(NotHere, match=why):
            find(load, open_cuda)


def built(version: str = "10.13.2.6") -> tuple[bytes, Any, Any, HostCuda]:
    model, _ = normalise(onnx_models.cnn())
    rows = from_arrays("rows", onnx_models.rows_for(model, 16, 1))
    found = calibrate(model, wanted_tensors(model, ["tensorrt"]), rows, rows=None)
    candidate = make("tensorrt", model, found, Recipe("", "minmax", True, ()))
    library = HostCuda()
    compiler = tensorrt_engine.Compiler("tensorrt", module(version), "9.0")
    return candidate.content, tensorrt_engine.build(candidate.content, compiler, rows=(1, 4, 8)), compiler, library


def test_an_engine_answers_what_its_graph_answers() -> None:
    content, engine, compiler, library = built()
    assert (engine.runtime, engine.version, engine.capability) == ("tensorrt", "10.13.2.6", "9.0")
    assert tensorrt_engine.target_name(engine) == "tensorrt-10.13.2.6-sm90"
    model, _ = normalise(onnx_models.cnn())
    runtime, plain = TensorRt(engine, ["logits"], compiler, Cuda(library)), OnnxRuntime(content, ["logits"])
    for rows in (1, 8, 3):
        feed = onnx_models.rows_for(model, rows, 5)
        assert runtime.run(feed)["logits"].tobytes() == plain.run(feed)["logits"].tobytes()
    assert library.allocations == 4, "buffers grow once, from 1 to 8 rows, and are used again"
    with pytest.raises(UnsupportedModel, match="beyond the engine's profile"):
        runtime.run(onnx_models.rows_for(model, 9, 5))
    del runtime
    assert not library.blocks


def test_an_engine_that_does_not_load_is_refused_with_its_words() -> None:
    _, engine, compiler, library = built()
    compiler = tensorrt_engine.Compiler("tensorrt", module(), "9.0")
    with pytest.raises(UnsupportedModel, match="plan file is not compatible"):
        TensorRt(engine, ["logits"], compiler, Cuda(library))


def test_memory_that_is_refused_has_cudas_words() -> None:
    cuda = Cuda(HostCuda())
    with pytest.raises(CudaError, match="cudaMemcpy"):
        cuda.to_device(12345, np.zeros(4, np.float32))


def test_only_layers_that_say_int8_count() -> None:
    def layer(names: list[str], kind: str) -> dict[str, Any]:
        metadata = "\x1e".join(f"[ONNX Layer: {name}]" for name in names)
        return {"Metadata": metadata, "Inputs": [{"Format/Datatype": kind}]}

    layers = [
        layer(["a", "a/relu"], "Int8 NC/32HW32"), layer(["b"], "Row major linear FP32"),
        layer(["c", "d"], "Int8 NC/32HW32"), {"Metadata": "[ONNX Layer: e]"}, "a name alone",
    ]  # fmt: skip
    assert integer_nodes(json.dumps({"Layers": layers}), ["a", "b", "c", "d", "e"]) == {"a"}
    assert integer_nodes(json.dumps({"Layers": [layer(["/l[0]/a"], "Int8")]}), ["/l[0]/a"]) == {"/l[0]/a"}
    for unknown in ("N/A due to dynamic shapes", ""):
        with pytest.raises(ValueError, match="does not say on what types"):
            integer_nodes(json.dumps({"Layers": [layer(["a"], unknown)]}), ["a"])


def publishing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], Path]:
    """Returns the command that publishes a small network for the TensorRT that seems to be here, and the registry."""
    compiler = tensorrt_engine.Compiler("tensorrt", module(), "9.0")
    cuda = Cuda(HostCuda())
    monkeypatch.setattr(tensorrt_here, "here", lambda: (compiler, cuda))
    model, calibration, evaluation = onnx_models.write(tmp_path, onnx_models.cnn())
    registry = tmp_path / "registry"
    registry.mkdir()
    return [
        "quantize", "publish", model, "--calibration", calibration, "--evaluation", evaluation, "--name", "tiny",
        "--registry", str(registry), "--target", "tensorrt", "--allow-slower", "--max-batch-size", "4", "--json",
    ], registry  # fmt: skip


def test_an_engine_that_does_not_say_what_it_runs_is_a_doubt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(TensorRt, "layers", lambda self: json.dumps({"Layers": ["names", "alone"]}))
    arguments, registry = publishing(tmp_path, monkeypatch)
    assert cli.main(arguments) != 0
    assert "is not known" in capsys.readouterr().out
    assert not (registry / "tiny" / "1").exists()
    assert cli.main([*arguments, "--force", "--reason", "looked at by hand"]) == 0, "a doubt, not a fault"


def test_a_full_gpu_ends_the_command_with_cudas_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model, _, evaluation = onnx_models.write(tmp_path, onnx_models.cnn())
    content, _, compiler, library = built()
    (tmp_path / "int8.onnx").write_bytes(content)
    monkeypatch.setattr(library, "cudaMalloc", lambda address, size: 2)
    monkeypatch.setattr(tensorrt_here, "here", lambda: (compiler, Cuda(library)))
    code = cli.main([
        "quantize", "evaluate", model, str(tmp_path / "int8.onnx"), "--evaluation", evaluation,
        "--target", "tensorrt", "--allow-slower", "--max-batch-size", "4",
    ])  # fmt: skip
    assert code == 5
    assert "cudaMalloc" in capsys.readouterr().err


def test_published_with_the_engine_that_was_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, registry = publishing(tmp_path, monkeypatch)
    code = cli.main(arguments)
    said = capsys.readouterr().out
    assert code == 0, said
    target = json.loads(said)["targets"][0]
    assert (target["judged_with"], target["executed_on_its_engine"]) == ("tensorrt", True)
    assert [found["rows"] for found in target["latency"]] == [1, 4]
    assert target["coverage"]["multiply_add_share"] > 0.7
    assert target["tensorrt"]["compute_capability"] == "9.0"
    assert target["tensorrt_rtx"] is None
    manifest = parse_manifest((registry / "tiny" / "1" / "manifest.json").read_bytes())
    first = manifest.targets[0]
    assert (first.name, first.kind) == ("tensorrt-10.13.2.6-sm90", "tensorrt")
    assert first.engine is not None
    assert first.engine.profiles["x"].largest[0] == 4
    here = Device(compute_capabilities=("9.0",), runtimes={"tensorrt": "10.13.2"})
    assert misfits(first.engine, manifest.inputs, manifest.max_batch_size, here) == []
    other = Device(compute_capabilities=("8.9",), runtimes={"tensorrt": "10.13.3"})
    assert len(misfits(first.engine, manifest.inputs, manifest.max_batch_size, other)) == 2


def test_evaluating_a_tensorrt_graph_says_what_executed_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model, _, evaluation = onnx_models.write(tmp_path, onnx_models.cnn())
    content, _, compiler, library = built()
    (tmp_path / "int8.onnx").write_bytes(content)
    arguments = [
        "quantize", "evaluate", model, str(tmp_path / "int8.onnx"), "--evaluation", evaluation,
        "--target", "tensorrt", "--allow-slower", "--max-batch-size", "4", "--json",
    ]  # fmt: skip
    said = []
    for here in ("no GPU", (compiler, Cuda(library))):
        monkeypatch.setattr(tensorrt_here, "here", lambda here=here: here)
        assert cli.main(arguments) == 0
        said.append(json.loads(capsys.readouterr().out)["targets"]["tensorrt"])
    emulated, executed = said
    assert (emulated["judged_with"], emulated["executed_on_its_engine"], emulated["latency"]) == ("openvino", False, [])
    assert "not executed on TensorRT (no GPU)" in emulated["notes"][0]
    assert (executed["judged_with"], executed["executed_on_its_engine"]) == ("tensorrt", True)
    assert [found["rows"] for found in executed["latency"]] == [1, 4]
