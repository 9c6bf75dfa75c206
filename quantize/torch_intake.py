"""PyTorch models: `module:factory` is called, exported to ONNX and goes on as every other model.

The factory takes nothing and returns (torch.nn.Module or ScriptModule or ExportedProgram, example inputs by name).
torch is imported here only. A `.pth` state dict is loaded by the factory with `load_weights` below, which never
unpickles code.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import onnx

from quantize.errors import BadInput, UnsupportedModel
from quantize.sources import load_function

OPSET = 17


def export(where: str) -> onnx.ModelProto:
    """Returns the exported graph; axis 0 of every input and output is the rows.

    Raises:
        BadInput: no torch, or the factory does not give a module and its inputs.
        UnsupportedModel: the export fails.
    """
    factory = load_function(where)
    try:
        import torch
    except ImportError as error:
        raise BadInput(f"{where}: PyTorch models need torch (pip install torch==2.13.0)") from error
    made = factory()
    if not isinstance(made, tuple) or len(made) != 2 or not isinstance(made[1], dict) or not made[1]:
        raise BadInput(f"{where}: must return (module, example inputs by name)")
    module, examples = made
    if isinstance(module, torch.export.ExportedProgram):
        module = _hidden(torch, module.module())
    elif not isinstance(module, torch.nn.Module):
        raise BadInput(f"{where}: gave {type(module).__name__}, not a module")
    else:
        module.eval()
    buffer = io.BytesIO()
    names = list(examples)
    try:
        torch.onnx.export(
            module, tuple(examples.values()), buffer, input_names=names, output_names=["output"], opset_version=OPSET,
            dynamic_axes={name: {0: "rows"} for name in [*names, "output"]}, dynamo=False,
        )  # fmt: skip
    except Exception as error:
        raise UnsupportedModel(f"{where}: torch.onnx.export: {str(error)[:300]}") from error
    return onnx.load_from_string(buffer.getvalue())


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
