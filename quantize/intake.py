"""Reads a model from disk and refuses what cannot be quantized safely, before any work is spent on it.

Decides what an acceptable model is. Invariants: external data is read only from files that really lie inside the
model's own folder; a model that passed is FP32, not quantized yet, uses only the standard operator domain (and
`com.microsoft` operators, which stay float) and is in inference form.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import TensorProto, external_data_helper

from quantize.errors import BadInput, UnsupportedModel
from quantize.graph import TensorSpec, all_nodes, attribute, subgraphs

MOST_BYTES = 4 << 30
MOST_OPSET = 25
DOMAINS = {"", "ai.onnx", "com.microsoft"}
QUANTIZED = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger"}
HALF = {TensorProto.FLOAT16: "FP16", TensorProto.BFLOAT16: "BF16"}
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in memory: `sha256` covers every file it is made of, `bytes` their sum."""

    proto: onnx.ModelProto
    path: Path
    sha256: str
    bytes: int
    opset: int


def load_model(path: Path) -> LoadedModel:
    """Returns the model in an .onnx file, its external data included.

    Raises:
        BadInput: nothing readable is there.
        UnsupportedModel: with every reason why it cannot be quantized.
    """
    if not path.is_file():
        raise BadInput(f"{path}: no such file")
    if path.suffix.lower() != ".onnx":
        raise UnsupportedModel(
            f"{path}: {path.suffix or 'no suffix'} is not .onnx, .pt, .ts or .pt2 (a state dict needs module:factory)"
        )
    if path.stat().st_size > MOST_BYTES:
        raise UnsupportedModel(f"{path}: larger than {MOST_BYTES >> 30} GiB")
    try:
        proto = onnx.load(str(path), load_external_data=False)
    except Exception as error:
        raise BadInput(f"{path}: not an ONNX model ({_first_line(error)})") from error
    if not proto.graph.node or not proto.graph.output:
        raise BadInput(f"{path}: not an ONNX model (no nodes or no outputs)")
    files = [path, *_external_files(proto, path.parent)]
    try:
        external_data_helper.load_external_data_for_model(proto, str(path.parent))
    except Exception as error:
        raise BadInput(f"{path}: its external data cannot be read ({_first_line(error)})") from error
    check_supported(proto)
    opset = next((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), 0)
    return LoadedModel(proto, path, _sha256(files), sum(file.stat().st_size for file in files), opset)


def check_supported(proto: onnx.ModelProto) -> None:
    """Raises UnsupportedModel with every reason."""
    problems = [*_domain_problems(proto), *_precision_problems(proto), *_form_problems(proto)]
    if not problems:
        try:
            onnx.checker.check_model(proto)
        except ValueError:
            pass  # above protobuf's 2 GB; the engines check it again when they load it
        except Exception as error:
            problems.append(f"the ONNX checker refuses it: {_first_line(error)}")
    if problems:
        raise UnsupportedModel(*problems)


def describe(model: LoadedModel, inputs: list[TensorSpec], outputs: list[TensorSpec]) -> dict[str, object]:
    """Returns what `sluice quantize inspect` shows."""
    return {
        "model": str(model.path),
        "sha256": model.sha256,
        "bytes": model.bytes,
        "opset": model.opset,
        "inputs": [{"name": spec.name, "type": spec.text()} for spec in inputs],
        "outputs": [{"name": spec.name, "type": spec.text()} for spec in outputs],
        "operators": dict(Counter(node.op_type for node in all_nodes(model.proto.graph)).most_common()),
    }


def _domain_problems(proto: onnx.ModelProto) -> list[str]:
    problems = []
    unknown = sorted({n.domain for n in all_nodes(proto.graph)} - DOMAINS)
    if unknown:
        problems.append(f"operators of unknown domains: {', '.join(unknown)}")
    versions = [entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")]
    if len(versions) != 1:
        problems.append("it does not say which ONNX opset it uses")
    elif versions[0] > MOST_OPSET:
        problems.append(f"opset {versions[0]} is newer than {MOST_OPSET}, the newest that TensorRT 11 reads")
    if proto.functions:
        problems.append("it defines its own functions (inline them: onnx.inliner.inline_local_functions)")
    return problems


def _precision_problems(proto: onnx.ModelProto) -> list[str]:
    problems = []
    found = sorted(
        {
            node.op_type
            for node in all_nodes(proto.graph)
            if node.op_type in QUANTIZED or node.op_type.startswith(("QLinear", "QGemm", "QAttention"))
        }
    )
    if found:
        problems.append(f"already quantized: it has {', '.join(found)}")
    stored = [t for t in proto.graph.initializer if t.data_type in HALF]
    values = [v for v in [*proto.graph.input, *proto.graph.output] if v.type.tensor_type.elem_type in HALF]
    for kind, name in HALF.items():
        if any(t.data_type == kind for t in stored) or any(v.type.tensor_type.elem_type == kind for v in values):
            problems.append(f"half precision: it has {name} tensors; quantize the FP32 model that it was made from")
    narrow = {TensorProto.INT8, TensorProto.UINT8, TensorProto.INT4, TensorProto.UINT4}
    packed = [t.name for t in proto.graph.initializer if t.data_type in narrow and _elements(t) >= 1024]
    if packed and not found:
        problems.append(f"already quantized: weights such as {packed[0]!r} are stored as 8-bit integers or less")
    return problems


def _form_problems(proto: onnx.ModelProto) -> list[str]:
    problems = []
    for node in all_nodes(proto.graph):
        if node.op_type == "BatchNormalization" and (attribute(node, "training_mode", 0) or len(node.output) > 1):
            problems.append(f"{node.name or node.output[0]}: BatchNormalization in training mode")
        if node.op_type == "Dropout" and len(node.input) > 2 and node.input[2]:
            modes = [t for t in proto.graph.initializer if t.name == node.input[2]]
            if not modes or onnx.numpy_helper.to_array(modes[0]).any():
                problems.append(f"{node.name or node.output[0]}: Dropout in training mode")
        if any(True for _ in subgraphs(node)) and node.op_type not in ("If", "Loop", "Scan"):
            problems.append(f"{node.name or node.output[0]}: {node.op_type} with a graph inside")
    for value in [*proto.graph.input, *proto.graph.output]:
        if not value.type.HasField("tensor_type"):
            problems.append(f"{value.name}: not a tensor")
        elif value.type.tensor_type.elem_type == TensorProto.STRING:
            problems.append(f"{value.name}: text tensors are not supported")
    return problems


def _external_files(proto: onnx.ModelProto, folder: Path) -> list[Path]:
    """Returns the files that hold external data, each proven to lie inside `folder`."""
    root = Path(os.path.realpath(folder))
    found: dict[Path, None] = {}
    problems = []
    for tensor in external_data_helper._get_all_tensors(proto):
        if not external_data_helper.uses_external_data(tensor):
            continue
        location = external_data_helper.ExternalDataInfo(tensor).location
        path = folder / location
        real = Path(os.path.realpath(path))
        if not location or os.path.isabs(location) or not real.is_relative_to(root):
            problems.append(f"external data of {tensor.name!r} leaves the model's folder: {location!r}")
        elif not real.is_file():
            problems.append(f"external data of {tensor.name!r} is missing: {location!r}")
        else:
            found[path] = None
    if problems:
        raise UnsupportedModel(*problems[:8])
    return sorted(found)


def _elements(tensor: onnx.TensorProto) -> int:
    total = 1
    for dim in tensor.dims:
        total *= dim
    return total


def _sha256(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        with open(path, "rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
