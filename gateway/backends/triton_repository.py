"""Renders a registry version as Triton takes it; `triton_placement` brings it there.

Decides which target of a version this deployment runs, and the model configuration. One Triton model per version
(`resnet50.v7`), whose only Triton version is 1. Invariant: equal content rendered with equal options, and nothing
else, has an equal fingerprint.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from gateway.backends.device import NO_DEVICE, Device, EngineDescription, misfits
from gateway.backends.triton_config import EnumName, to_json, triton_datatype
from gateway.errors import ErrorCode, GatewayError
from gateway.messages import ParameterValue
from gateway.tensors import DataType
from gateway.versions import ModelVersion

_TEMPLATES = Path(__file__).parent / "triton_models"
_GRAPH_ENGINES = ("onnxruntime", "openvino")
_RUNNABLE = ("openvino", "onnxruntime", "python")
_FIRST = {"python": "model.py", "tensorrt": "model.plan"}
"""What Triton calls the first artifact."""
FINGERPRINT = "sluice_fingerprint"
"""The Triton parameter that says which version, rendered how, a loaded model is; only models of ours have it."""


class TensorDescription(Protocol):
    """One input or output; the shape is without batch dimension where the version batches."""

    @property
    def name(self) -> str: ...
    @property
    def datatype(self) -> DataType: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def optional(self) -> bool: ...
    @property
    def labels(self) -> str | None: ...


class TargetDescription(Protocol):
    """One way to execute a version; `kind` is the name up to the first dash."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def artifacts(self) -> tuple[str, ...]: ...
    @property
    def parameters(self) -> Mapping[str, ParameterValue]: ...
    @property
    def engine(self) -> EngineDescription | None: ...


class VersionDescription(Protocol):
    """What rendering needs to know of a version; a registry's manifest is one."""

    @property
    def version(self) -> ModelVersion: ...
    @property
    def max_batch_size(self) -> int: ...
    @property
    def inputs(self) -> Sequence[TensorDescription]: ...
    @property
    def outputs(self) -> Sequence[TensorDescription]: ...
    @property
    def targets(self) -> Sequence[TargetDescription]: ...
    @property
    def digest(self) -> str: ...


Lookup = Callable[[ModelVersion], tuple[VersionDescription, Path]]
"""Returns a version's description and its folder, files verified; may block. Raises ValueError with the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderOptions:
    """How versions are run; each None is left to the version's own target parameters, then to the built-in default.

    `target_order` ranks target names or kinds, and a version runs the first it has that runs here; empty means the
    first of its own targets that does. `instance_count` is Triton's instances per model, `intra_op_threads` an engine's
    threads (0 = the engine decides), `device` what TensorRT engines must fit. `dynamic_batching` switches Triton's own
    batcher on, with `max_queue_delay_us` of delay. Behind the gateway, which keeps one batch running and one staged, it
    has nothing to merge and its extra hop costs 10 to 20 % of the calls; callers who bypass the gateway need it.
    `owner` is the gateway that the models belong to in a Triton that several may use.
    """

    target_order: tuple[str, ...] = ()
    instance_count: int | None = None
    intra_op_threads: int | None = None
    dynamic_batching: bool = False
    max_queue_delay_us: int = 0
    device: Device = NO_DEVICE
    owner: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedModel:
    """A model as Triton takes it: its name, the target chosen, its configuration and its files.

    `files` maps a path in the model's folder to the file to take, or to the content itself.
    """

    name: str
    target: str
    config: Mapping[str, Any]
    files: Mapping[str, Path | bytes] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """What tells this version, rendered this way, from everything else of its name."""
        value: str = self.config["parameters"][FINGERPRINT]["string_value"]
        return value

    def load_parameters(self) -> dict[str, str | bytes]:
        """Returns the parameters of RepositoryModelLoad that carry the whole model to a Triton without a shared disk.

        Reads every artifact into memory (blocking).
        """
        parameters: dict[str, str | bytes] = {"config": to_json(self.config)}
        for path, content in self.files.items():
            parameters[f"file:{path}"] = content if isinstance(content, bytes) else content.read_bytes()
        return parameters


def triton_name(version: ModelVersion, owner: str = "") -> str:
    """Returns the name under which Triton knows the `version` of that owner."""
    return f"{version.model_name}.v{version.number}" + (f".{owner}" if owner else "")


def choose_target(
    description: VersionDescription, order: Sequence[str], device: Device = NO_DEVICE
) -> TargetDescription:
    """Returns the version's best target by `order` that runs on `device`; empty leaves the choice to the version.

    Raises:
        GatewayError: BACKEND_FAILED, none of its targets can run here; it says why for each.
    """
    reasons = {target.name: _why_not(target, description, device) for target in description.targets}
    runnable = [target for target in description.targets if not reasons[target.name]]
    if not order and runnable:
        return runnable[0]
    for wanted in order:
        for target in runnable:
            if wanted in (target.name, target.kind):
                return target
    asked = f" among {', '.join(order)}" if order else ""
    said = "; ".join(f"{name}: {' and '.join(why) or 'not asked for'}" for name, why in reasons.items())
    raise GatewayError(ErrorCode.BACKEND_FAILED, f"{description.version} has no target that runs here{asked} ({said})")


def _why_not(target: TargetDescription, description: VersionDescription, device: Device) -> list[str]:
    """Returns why the target cannot run here; empty if it can."""
    if target.kind in _RUNNABLE:
        return []
    if target.engine is not None:
        return misfits(target.engine, tuple(description.inputs), description.max_batch_size, device)
    if target.kind == "tensorrt" and target.name == target.kind:
        return ["a graph that TensorRT engines are built from, not an engine"]
    if target.kind == "tensorrt":
        return ["its manifest does not say by what and for what the engine was built"]
    return [f"this gateway runs {', '.join(_RUNNABLE)} and TensorRT engines"]


def render(description: VersionDescription, folder: Path, options: RenderOptions) -> RenderedModel:
    """Returns the version in `folder` as a Triton model. Reads no artifact.

    Raises:
        GatewayError: BACKEND_FAILED, no target runs here or two artifacts share a file name.
    """
    target = choose_target(description, options.target_order, options.device)
    parameters: dict[str, ParameterValue] = dict(target.parameters)
    instances = parameters.pop("instance_count", 1)
    if options.instance_count is not None:
        instances = options.instance_count
    if options.intra_op_threads is not None:
        parameters["intra_op_threads"] = options.intra_op_threads
    files: dict[str, Path | bytes] = {}
    if target.kind in _GRAPH_ENGINES:
        parameters |= {"engine": target.kind, "model_file": Path(target.artifacts[0]).name}
        files["1/model.py"] = _TEMPLATES / "onnx_model.py"
    for index, artifact in enumerate(target.artifacts):
        name = _FIRST.get(target.kind, Path(artifact).name) if index == 0 else Path(artifact).name
        _add(files, f"1/{name}", folder / artifact, description)
    for tensor in description.outputs:
        if tensor.labels is not None:
            files[Path(tensor.labels).name] = folder / tensor.labels
    return RenderedModel(
        name=triton_name(description.version, options.owner),
        target=target.name,
        config=_config(description, target, int(instances), parameters, options),
        files=files,
    )


def _add(files: dict[str, Path | bytes], path: str, source: Path, description: VersionDescription) -> None:
    if path in files:
        raise GatewayError(
            ErrorCode.BACKEND_FAILED, f"{description.version} has two artifacts that would both be {path} in Triton"
        )
    files[path] = source


def _config(
    description: VersionDescription,
    target: TargetDescription,
    instances: int,
    parameters: Mapping[str, ParameterValue],
    options: RenderOptions,
) -> dict[str, Any]:
    config: dict[str, Any] = {
        "name": triton_name(description.version, options.owner),
        "backend": "tensorrt" if target.engine is not None else "python",
        "max_batch_size": description.max_batch_size,
        "input": [_tensor(tensor) | ({"optional": True} if tensor.optional else {}) for tensor in description.inputs],
        "output": [
            _tensor(tensor) | ({"label_filename": Path(tensor.labels).name} if tensor.labels else {})
            for tensor in description.outputs
        ],
        "instance_group": [
            {"count": instances, "kind": EnumName("KIND_GPU" if target.engine is not None else "KIND_CPU")}
        ],
    }
    if description.max_batch_size > 0 and options.dynamic_batching:
        config["dynamic_batching"] = {"max_queue_delay_microseconds": options.max_queue_delay_us}
    spelled = {key: {"string_value": _spelled(value)} for key, value in parameters.items()}
    config["parameters"] = spelled
    identity = f"{description.digest}\n{to_json(config)}".encode()
    spelled[FINGERPRINT] = {"string_value": hashlib.sha256(identity).hexdigest()[:32]}
    return config


def _tensor(tensor: TensorDescription) -> dict[str, Any]:
    return {"name": tensor.name, "data_type": triton_datatype(tensor.datatype), "dims": list(tensor.shape)}


def _spelled(value: ParameterValue) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
