"""PyTorch models, exported to ONNX; from there on they are as every other model.

`module:factory` takes nothing and returns (torch.nn.Module or ScriptModule or ExportedProgram, example inputs by name).
Files: TorchScript (`.pt`, `.ts`) and `torch.export` programs (`.pt2`); their example inputs are the first rows of the
data. torch is imported here only. A `.pth` state dict is loaded by the factory with `load_weights` below, which never
unpickles code.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from quantize.errors import BadInput, UnsupportedModel
from quantize.sources import load_function

OPSET = 17


SCRIPTS, PROGRAMS = (".pt", ".ts"), (".pt2",)
EXAMPLE_ROWS = 2


def export(where: str) -> onnx.ModelProto:
    """Returns the exported graph of a factory; axis 0 of every input and output is the rows.

    Raises:
        BadInput: no torch, or the factory does not give a module and its inputs.
        UnsupportedModel: the export fails.
    """
    factory = load_function(where)
    torch = _torch(where)
    made = factory()
    if not isinstance(made, tuple) or len(made) != 2 or not isinstance(made[1], dict) or not made[1]:
        raise BadInput(f"{where}: must return (module, example inputs by name)")
    module, examples = made
    if not isinstance(module, torch.nn.Module | torch.export.ExportedProgram):
        raise BadInput(f"{where}: gave {type(module).__name__}, not a module")
    return _exported(torch, where, module, examples)


def export_file(path: Path, rows: Mapping[str, NDArray[Any]]) -> onnx.ModelProto:
    """Returns the exported graph of a TorchScript or `torch.export` file; `rows` are some of its inputs, by name.

    Raises:
        BadInput: no torch, an unreadable file, or rows that are not its inputs.
        UnsupportedModel: the export fails.
    """
    torch = _torch(str(path))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TorchScript calls itself deprecated
            if path.suffix in PROGRAMS:
                module = torch.export.load(str(path))
                names = list(module.graph_signature.user_inputs)
            else:
                module = torch.jit.load(str(path), map_location="cpu")
                names = [argument.name for argument in module.forward.schema.arguments[1:]]
    except Exception as error:
        kind = "torch.export program" if path.suffix in PROGRAMS else "TorchScript file"
        raise BadInput(f"{path}: not a readable {kind} ({str(error).strip().splitlines()[0][:200]})") from error
    if len(names) == len(rows) == 1:
        names = list(rows)
    if set(names) != set(rows):
        raise BadInput(f"{path}: its inputs are {', '.join(names)}, the rows have {', '.join(rows)}")
    count = _static_rows(module) if path.suffix in PROGRAMS else None
    picked = {name: np.resize(rows[name], (count or EXAMPLE_ROWS, *rows[name].shape[1:])) for name in names}
    examples = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in picked.items()}
    return _exported(torch, str(path), module, examples, fixed=count is not None)


def _static_rows(program: Any) -> int | None:
    """Returns the number of rows that a program was exported for, None if it takes any."""
    wanted = set(program.graph_signature.user_inputs)
    sizes = [n.meta["val"].shape[0] for n in program.graph.nodes if n.name in wanted and n.meta["val"].ndim]
    return next((size for size in sizes if isinstance(size, int)), None)


def _exported(torch: Any, where: str, module: Any, examples: dict[str, Any], *, fixed: bool = False) -> onnx.ModelProto:
    if isinstance(module, torch.export.ExportedProgram):
        module = _hidden(torch, module.module())
    else:
        module.eval()
    buffer = io.BytesIO()
    names = list(examples)
    axes = {} if fixed else {name: {0: "rows"} for name in [*names, "output"]}
    try:
        with warnings.catch_warnings():
            # It calls itself deprecated; the new exporter writes another graph every other release.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module, tuple(examples.values()), buffer, input_names=names, output_names=["output"],
                opset_version=OPSET, dynamic_axes=axes, dynamo=False,
            )  # fmt: skip
    except Exception as error:
        raise UnsupportedModel(f"{where}: torch.onnx.export: {str(error)[:300]}") from error
    return onnx.load_from_string(buffer.getvalue())


def _torch(where: str) -> Any:
    try:
        import torch
    except ImportError as error:
        raise BadInput(f"{where}: PyTorch models need torch (pip install torch==2.13.0)") from error
    return torch


def _hidden(torch: Any, program: Any) -> Any:
    """Returns a module around an exported program, which refuses the train() and eval() that the exporter calls."""

    class Around(torch.nn.Module):  # type: ignore[misc]
        def forward(self, *inputs: Any) -> Any:
            return held[0](*inputs)

    held = [program]
    for tensor in program.parameters():
        tensor.requires_grad_(False)
    return Around().eval()


def load_weights(path: Path) -> dict[str, Any]:
    """Returns a state dict; weights only, so that nothing in the file is executed."""
    import torch

    found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return found
