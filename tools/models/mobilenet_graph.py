"""MobileNetV2 (torchvision's key names) as an ONNX graph, built from its state dict without torch.

Batch norms stay: `sluice quantize` folds them. Input `image`: UINT8 [rows, 224, 224, 3], RGB; its normalisation is
inside.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

# expansion, channels, repeats, first stride
BLOCKS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class _Graph:
    def __init__(self, state: dict[str, NDArray[Any]]) -> None:
        self.state = state
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, onnx.TensorProto] = {}

    def weight(self, name: str, array: NDArray[Any] | None = None) -> str:
        values = self.state[name] if array is None else array
        self.weights[name] = numpy_helper.from_array(np.ascontiguousarray(values), name)
        return name

    def node(self, kind: str, inputs: list[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def conv(self, x: str, conv: str, norm: str, *, stride: int = 1, group: int = 1, relu6: bool = True) -> str:
        weight = self.weight(f"{conv}.weight")
        pad = self.state[weight].shape[2] // 2
        x = self.node("Conv", [x, weight], conv, strides=[stride] * 2, pads=[pad] * 4, group=group)
        parts = [self.weight(f"{norm}.{key}") for key in ("weight", "bias", "running_mean", "running_var")]
        x = self.node("BatchNormalization", [x, *parts], norm, epsilon=1e-5)
        return self.node("Clip", [x, "zero", "six"], f"{norm}.relu6") if relu6 else x


def build(state: dict[str, NDArray[Any]]) -> onnx.ModelProto:
    """Returns the graph; output `logits` FP32 [rows, 1000]."""
    g = _Graph(state)
    g.weight("zero", np.float32(0).reshape(()))
    g.weight("six", np.float32(6).reshape(()))
    g.weight("mean", np.array(MEAN, np.float32).reshape(1, 3, 1, 1) * 255)
    g.weight("deviation", np.array(DEVIATION, np.float32).reshape(1, 3, 1, 1) * 255)
    x = g.node("Transpose", ["image"], "image.nchw", perm=[0, 3, 1, 2])
    x = g.node("Cast", [x], "image.float", to=TensorProto.FLOAT)
    x = g.node("Div", [g.node("Sub", [x, "mean"], "image.centred"), "deviation"], "image.scaled")
    x = g.conv(x, "features.0.0", "features.0.1", stride=2)
    channels, index = 32, 1
    for expansion, out, repeats, first in BLOCKS:
        for repeat in range(repeats):
            stride = first if repeat == 0 else 1
            x = _block(g, x, f"features.{index}.conv", channels, out, expansion, stride)
            channels, index = out, index + 1
    x = g.conv(x, "features.18.0", "features.18.1")
    x = g.node("Flatten", [g.node("GlobalAveragePool", [x], "pool")], "flat")
    g.node("Gemm", [x, g.weight("classifier.1.weight"), g.weight("classifier.1.bias")], "logits", transB=1)
    model = helper.make_model(
        helper.make_graph(
            g.nodes,
            "mobilenet_v2",
            [helper.make_tensor_value_info("image", TensorProto.UINT8, ["rows", 224, 224, 3])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", 1000])],
            list(g.weights.values()),
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
        producer_name="sluice tools/models",
    )
    onnx.checker.check_model(model)
    return model


def _block(g: _Graph, x: str, name: str, channels: int, out: int, expansion: int, stride: int) -> str:
    entry, at, wide = x, 0, channels * expansion
    if expansion != 1:
        x = g.conv(x, f"{name}.0.0", f"{name}.0.1")
        at = 1
    x = g.conv(x, f"{name}.{at}.0", f"{name}.{at}.1", stride=stride, group=wide)
    x = g.conv(x, f"{name}.{at + 1}", f"{name}.{at + 2}", relu6=False)
    return g.node("Add", [x, entry], f"{name}.sum") if stride == 1 and channels == out else x
