"""EfficientNet-Lite as an ONNX graph, built node by node from the PyTorch modules.

Built and not traced, so that it holds only what computes: batch norms are folded into the convolutions (in float64),
TensorFlow's asymmetric "same" padding is an attribute of Conv, relu6 is one Clip, and the bytes depend on the weights
alone, not on an exporter's version. The picture's normalisation and the softmax are inside.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
IR_VERSION = 8
MEAN, SCALE = 127.0, 1.0 / 128.0


class GraphBuilder:
    """Collects nodes and weights; every method returns the name of the value it made."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def weight(self, name: str, array: np.ndarray) -> str:
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(self, kind: str, inputs: list[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def conv(self, x: str, conv: Any, norm: Any, name: str, *, relu6: bool) -> str:
        """A convolution with the batch norm that follows it folded in, and relu6 after it if asked for."""
        double = [t.detach().numpy().astype(np.float64) for t in (norm.weight, norm.bias, norm.running_mean)]
        gamma, beta, mean = double
        factor = gamma / np.sqrt(norm.running_var.detach().numpy().astype(np.float64) + norm.eps)
        kernel = conv.weight.detach().numpy().astype(np.float64) * factor[:, None, None, None]
        left, right, top, bottom = getattr(conv.static_padding, "padding", (0, 0, 0, 0))
        out = self.node(
            "Conv",
            [
                x,
                self.weight(f"{name}.weight", kernel.astype(np.float32)),
                self.weight(f"{name}.bias", (beta - mean * factor).astype(np.float32)),
            ],
            name,
            kernel_shape=list(conv.kernel_size),
            strides=list(conv.stride),
            pads=[top, left, bottom, right],
            group=conv.groups,
        )
        return self.node("Clip", [out, "zero", "six"], f"{name}.relu6") if relu6 else out


def build(network: Any) -> onnx.ModelProto:
    """Returns the graph of an `efficientnet_lite_pytorch.EfficientNet` in evaluation mode.

    Input `image`: UINT8 [rows, 224, 224, 3], RGB. Output `probabilities`: FP32 [rows, 1000], each row sums to 1.
    """
    size = network.input_image_size
    graph = GraphBuilder()
    graph.weight("zero", np.float32(0.0).reshape(()))
    graph.weight("six", np.float32(6.0).reshape(()))
    graph.weight("mean", np.float32(MEAN).reshape(()))
    graph.weight("scale", np.float32(SCALE).reshape(()))
    # Transposed while it is bytes: a quarter of the memory traffic.
    x = graph.node("Transpose", ["image"], "image.nchw", perm=[0, 3, 1, 2])
    x = graph.node("Cast", [x], "image.float", to=TensorProto.FLOAT)
    x = graph.node("Sub", [x, "mean"], "image.centred")
    x = graph.node("Mul", [x, "scale"], "image.scaled")
    x = graph.conv(x, network._conv_stem, network._bn0, "stem", relu6=True)
    for index, block in enumerate(network._blocks):
        x = _block(graph, x, block, f"block{index}")
    x = graph.conv(x, network._conv_head, network._bn1, "head", relu6=True)
    x = graph.node("GlobalAveragePool", [x], "pool")
    x = graph.node("Flatten", [x], "features", axis=1)
    matrix = graph.weight("classifier.weight", network._fc.weight.detach().numpy())
    x = graph.node("Gemm", [x, matrix, graph.weight("classifier.bias", network._fc.bias.detach().numpy())], "logits",
                   transB=1)  # fmt: skip
    graph.node("Softmax", [x], "probabilities", axis=1)
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "efficientnet_lite0",
            [helper.make_tensor_value_info("image", TensorProto.UINT8, ["rows", size, size, 3])],
            [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["rows", network._fc.out_features])],
            graph.weights,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="sluice tools/models",
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def _block(graph: GraphBuilder, x: str, block: Any, name: str) -> str:
    """One inverted bottleneck: expand, depthwise, project, and the sum with its input where shapes stay."""
    entry, args = x, block._block_args
    if block.has_se:
        raise ValueError(f"{name} has squeeze-and-excitation, which no Lite network has")
    if args.expand_ratio != 1:
        x = graph.conv(x, block._expand_conv, block._bn0, f"{name}.expand", relu6=True)
    x = graph.conv(x, block._depthwise_conv, block._bn1, f"{name}.depthwise", relu6=True)
    x = graph.conv(x, block._project_conv, block._bn2, f"{name}.project", relu6=False)
    if block.id_skip and args.stride == 1 and args.input_filters == args.output_filters:
        x = graph.node("Add", [x, entry], f"{name}.sum")
    return x
