"""The pre-flight of TensorRT engines, over a table of machines and engines."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from gateway.backends.device import NO_DEVICE, Device, misfits
from gateway.backends.device_probe import probe
from gateway.backends.triton_repository import RenderOptions, choose_target, render
from gateway.errors import ErrorCode, GatewayError
from gateway.registry.engine_entry import EngineEntry, ProfileEntry
from gateway.registry.manifest import Manifest, TargetEntry, TensorEntry
from gateway.tensors import DataType
from gateway.versions import ModelVersion

INPUTS = (TensorEntry("image", DataType.FP32, (3, 224, -1)),)
PROFILE = ProfileEntry((1, 3, 224, 32), (8, 3, 224, 224), (32, 3, 224, 512))
ENGINE = EngineEntry("tensorrt", "10.13.2", "9.0", False, False, {"image": PROFILE})
H200 = Device(compute_capabilities=("9.0",), runtimes={"tensorrt": "10.13.2"})


def machine(capability: str = "9.0", version: str | None = "10.13.2", runtime: str = "tensorrt") -> Device:
    return Device(compute_capabilities=(capability,), runtimes={runtime: version} if version else {})


def engine(**changes: object) -> EngineEntry:
    return dataclasses.replace(ENGINE, **changes)  # type: ignore[arg-type]


def profile(smallest: tuple[int, ...] | None = None, largest: tuple[int, ...] | None = None) -> dict[str, ProfileEntry]:
    return {"image": ProfileEntry(smallest or PROFILE.smallest, PROFILE.best, largest or PROFILE.largest)}


@pytest.mark.parametrize(
    ("what", "where", "rows", "reason"),
    [
        (ENGINE, H200, 32, None),
        (ENGINE, H200, 8, None),
        (ENGINE, Device(compute_capabilities=("8.9", "9.0"), runtimes={"tensorrt": "10.13.2"}), 8, None),
        (ENGINE, NO_DEVICE, 8, "there is no GPU here, it was built for compute capability 9.0"),
        (ENGINE, NO_DEVICE, 8, "there is no TensorRT here, it was built by TensorRT 10.13.2"),
        (ENGINE, machine("8.9"), 8, "it was built for compute capability 9.0, the GPU here has 8.9"),
        (ENGINE, machine("10.0"), 8, "it was built for compute capability 9.0, the GPU here has 10.0"),
        (ENGINE, machine(version=None), 8, "there is no TensorRT here, it was built by TensorRT 10.13.2"),
        (ENGINE, machine(version="10.13.3"), 8, "built by TensorRT 10.13.2 and runs on no other, here is 10.13.3"),
        (engine(version="10.13.2.6"), H200, 8, None),
        (engine(version="10.13.2.6"), machine(version="10.13.2.7"), 8, "runs on no other, here is 10.13.2.7"),
        (engine(version="10.13.2.6", version_compatible=True), H200, 8, None),
        (engine(version="10.13"), H200, 8, "built by TensorRT 10.13 and runs on no other, here is 10.13.2"),
        (ENGINE, machine(version="11.4.0"), 8, "runs on no other, here is 11.4.0"),
        (engine(version_compatible=True), machine(version="10.16.1"), 8, None),
        (engine(version_compatible=True), machine(version="10.9.0"), 8, "later TensorRT 10 only, here is 10.9.0"),
        (engine(version_compatible=True), machine(version="11.4.0"), 8, "later TensorRT 10 only, here is 11.4.0"),
        (engine(hardware_compatible=True, compute_capability="8.0"), machine("8.9"), 8, None),
        (engine(hardware_compatible=True, compute_capability="8.0"), machine("12.0"), 8, None),
        (engine(hardware_compatible=True, compute_capability="8.0"), machine("7.5"), 8, "later, the GPU here has 7.5"),
        (engine(runtime="tensorrt-rtx", version="1.7.1"), H200, 8, "there is no TensorRT-RTX here, it was built by"),
        (engine(runtime="tensorrt-rtx", version="1.7.1"), machine(version="1.7.1", runtime="tensorrt-rtx"), 8, None),
        (ENGINE, H200, 33, "its profile of 'image' takes 1 to 32 rows, the version takes 1 to 33"),
        (engine(profiles=profile((2, 3, 224, 32))), H200, 8, "takes 2 to 32 rows, the version takes 1 to 8"),
        (engine(profiles=profile((1, 3, 256, 32), (32, 3, 256, 512))), H200, 8, "256 to 256 where the version has 224"),
        (engine(profiles=profile((1, 3), (8, 3))), H200, 8, "has 2 dimensions, not 4"),
        (engine(profiles={}), H200, 8, "it has no profile for 'image'"),
        (ENGINE, H200, 0, "has 4 dimensions, not 3"),
    ],
)  # fmt: skip
def test_an_engine_fits_or_it_is_said_why_not(what: EngineEntry, where: Device, rows: int, reason: str | None) -> None:
    found = misfits(what, INPUTS, rows, where)
    assert (reason is None) == (not found), found
    assert reason is None or any(reason in one for one in found), found


def version(*targets: TargetEntry) -> Manifest:
    return Manifest(
        version=ModelVersion("m", 7), max_batch_size=8, inputs=INPUTS,
        outputs=(TensorEntry("y", DataType.FP32, (10,)),), targets=targets, files=(),
    )  # fmt: skip


PLAN = TargetEntry("tensorrt-10.13.2-sm90", ("artifacts/t/net.plan",), {}, ENGINE)
OTHER = TargetEntry("tensorrt-10.13.2-sm89", ("artifacts/o/net.plan",), {}, engine(compute_capability="8.9"))
GRAPH = TargetEntry("tensorrt", ("artifacts/tensorrt/model.onnx",))
CPU = TargetEntry("openvino", ("artifacts/openvino/model.onnx",))


def test_the_first_target_that_fits_is_chosen() -> None:
    described = version(OTHER, PLAN, GRAPH, CPU)
    assert choose_target(described, (), H200) is PLAN
    assert choose_target(described, (), machine("8.9")) is OTHER
    assert choose_target(described, (), NO_DEVICE) is CPU
    assert choose_target(described, ("tensorrt", "openvino"), NO_DEVICE) is CPU
    assert choose_target(described, ("openvino",), H200) is CPU


def test_where_none_fits_every_target_has_its_reason() -> None:
    silent = TargetEntry("tensorrt-10.1-sm80", ("artifacts/s/net.plan",))
    with pytest.raises(GatewayError) as caught:
        choose_target(version(PLAN, GRAPH, silent), ())
    assert caught.value.code is ErrorCode.BACKEND_FAILED
    for part in (
        "m/7 has no target that runs here",
        "tensorrt-10.13.2-sm90: there is no GPU here, it was built for compute capability 9.0 and there is no",
        "tensorrt: a graph that TensorRT engines are built from",
        "tensorrt-10.1-sm80: its manifest does not say by what and for what the engine was built",
    ):
        assert part in caught.value.message
    with pytest.raises(GatewayError, match=r"runs here among tensorrt .*openvino: not asked for"):
        choose_target(version(PLAN, CPU), ("tensorrt",))


def test_an_engine_is_rendered_for_tritons_own_backend(tmp_path: Path) -> None:
    model = render(version(PLAN, CPU), tmp_path, RenderOptions(device=H200))
    assert model.target == PLAN.name
    assert model.files == {"1/model.plan": tmp_path / "artifacts/t/net.plan"}
    assert model.config["backend"] == "tensorrt"
    assert str(model.config["instance_group"][0]["kind"]) == "KIND_GPU"
    cpu = render(version(PLAN, CPU), tmp_path, RenderOptions())
    assert cpu.config["backend"] == "python"
    assert cpu.fingerprint != model.fingerprint


@pytest.mark.parametrize(
    ("said", "library", "found"),
    [
        ("", None, NO_DEVICE),
        ("9.0\n9.0\n", "libnvinfer.so.10.13.2", machine()),
        ("8.9\n", None, machine("8.9", None)),
        ("NVIDIA-SMI has failed because it could not communicate with the driver\n", "libnvinfer.so.10", NO_DEVICE),
    ],
)
def test_what_is_here_is_found_out(tmp_path: Path, said: str, library: str | None, found: Device) -> None:
    if library:
        (tmp_path / "tensorrt").mkdir()
        (tmp_path / "lib").mkdir()
        (tmp_path / "lib" / library).touch()
    device = probe(tmp_path, (tmp_path / "lib",), lambda: said)
    assert device.compute_capabilities == found.compute_capabilities
    assert device.runtimes == (found.runtimes or {})
    assert probe(tmp_path, ()).compute_capabilities == probe(tmp_path, ()).compute_capabilities
