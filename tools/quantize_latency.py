"""INT8 on OpenVINO against FP32 on ONNX Runtime, one row, one thread, alternating in one run.

    python -m tools.quantize_latency [ROUNDS [FP32.onnx INT8.onnx]]

The two graphs of a ResNet-50 that the trainer exported (`make resnet50` names them); otherwise two shapes with seeded
weights (no accuracy is claimed): ResNet-50 at 224x224, and BERT-base (12 layers, 768 wide) on 128 tokens. Other work
on the machine disturbs single figures; the ratio is the median over the rounds' ratios.
"""

from __future__ import annotations

import statistics
import sys
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from quantize import evaluation
from quantize.calibration import calibrate
from quantize.normalise import normalise
from quantize.policy import Recipe
from quantize.runtimes import OnnxRuntime, OpenVino
from quantize.sources import from_arrays
from quantize.targets import make, wanted_tensors
from tests.support.onnx_models import Builder, value

STAGES = ((3, 64), (4, 128), (6, 256), (3, 512))
LAYERS, WIDTH, HEADS, TOKENS, WORDS = 12, 768, 12, 128, 3000


def resnet50() -> onnx.ModelProto:
    """Returns ResNet-50 v1.5 with batch norms folded."""
    b = Builder(1)
    x = _conv(b, "x", 3, 64, 7, 2, "stem")
    x = b.node("MaxPool", [x], "pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    channels = 64
    for stage, (blocks, width) in enumerate(STAGES):
        for block in range(blocks):
            name, stride = f"layer{stage + 1}.{block}", 2 if block == 0 and stage > 0 else 1
            y = _conv(b, x, channels, width, 1, 1, f"{name}.conv1")
            y = _conv(b, y, width, width, 3, stride, f"{name}.conv2")
            y = _conv(b, y, width, 4 * width, 1, 1, f"{name}.conv3", relu=False)
            if block == 0:
                x = _conv(b, x, channels, 4 * width, 1, stride, f"{name}.downsample", relu=False)
            x = b.node("Relu", [b.node("Add", [y, x], f"{name}.sum")], f"{name}.out")
            channels = 4 * width
    x = b.node("Flatten", [b.node("GlobalAveragePool", [x], "average")], "flat")
    b.node("Gemm", [x, b.weight("fc.weight", 1000, 2048), b.weight("fc.bias", 1000)], "logits", transB=1)
    inputs = [value("x", TensorProto.FLOAT, "rows", 3, 224, 224)]
    return b.model(inputs, [value("logits", TensorProto.FLOAT, "rows", 1000)])


def _conv(
    b: Builder, x: str, channels: int, out: int, kernel: int, stride: int, name: str, *, relu: bool = True
) -> str:
    weights = [b.weight(f"{name}.weight", out, channels, kernel, kernel, scale=1.4), b.weight(f"{name}.bias", out)]
    x = b.node("Conv", [x, *weights], name, strides=[stride] * 2, pads=[kernel // 2] * 4)
    return b.node("Relu", [x], f"{name}.relu") if relu else x


def bert_base() -> onnx.ModelProto:
    """Returns a BERT-base encoder: INT64 [rows, 128] to FP32 [rows, 128, 768]."""
    b = Builder(2)
    b.constant("ones", np.ones(WIDTH, np.float32))
    b.constant("zeros", np.zeros(WIDTH, np.float32))
    b.constant("split", np.array([0, 0, HEADS, WIDTH // HEADS]))
    b.constant("join", np.array([0, 0, WIDTH]))
    for name, number in (("scale", (WIDTH // HEADS) ** -0.5), ("half", 0.5), ("one", 1.0), ("root2", 2**0.5)):
        b.constant(name, np.float32(number).reshape(()))
    x = b.node("Gather", [b.weight("words", WORDS, WIDTH, scale=20), "tokens"], "embedded")
    x = b.node("LayerNormalization", [x, "ones", "zeros"], "norm", axis=-1)
    for layer in range(LAYERS):
        x = _layer(b, x, f"layer{layer}")
    outputs = [value(x, TensorProto.FLOAT, "rows", TOKENS, WIDTH)]
    return b.model([value("tokens", TensorProto.INT64, "rows", TOKENS)], outputs)


def _layer(b: Builder, x: str, name: str) -> str:
    def linear(x: str, rows: int, columns: int, part: str) -> str:
        product = b.node("MatMul", [x, b.weight(f"{name}.{part}.weight", rows, columns)], f"{name}.{part}")
        return b.node("Add", [product, b.weight(f"{name}.{part}.bias", columns)], f"{name}.{part}.biased")

    def heads(part: str, order: list[int]) -> str:
        split = b.node("Reshape", [linear(x, WIDTH, WIDTH, part), "split"], f"{name}.{part}.split")
        return b.node("Transpose", [split], f"{name}.{part}.heads", perm=order)

    def normed(x: str, y: str, part: str) -> str:
        summed = b.node("Add", [x, y], f"{name}.{part}.sum")
        return b.node("LayerNormalization", [summed, "ones", "zeros"], f"{name}.{part}.norm", axis=-1)

    query, key, values = heads("query", [0, 2, 1, 3]), heads("key", [0, 2, 3, 1]), heads("value", [0, 2, 1, 3])
    scores = b.node("Mul", [b.node("MatMul", [query, key], f"{name}.scores"), "scale"], f"{name}.scaled")
    mixed = b.node("MatMul", [b.node("Softmax", [scores], f"{name}.attention", axis=-1), values], f"{name}.mixed")
    joined = b.node("Transpose", [mixed], f"{name}.turned", perm=[0, 2, 1, 3])
    joined = b.node("Reshape", [joined, "join"], f"{name}.joined")
    x = normed(x, linear(joined, WIDTH, WIDTH, "out"), "attended")
    wide = linear(x, WIDTH, 4 * WIDTH, "wide")
    erf = b.node("Erf", [b.node("Div", [wide, "root2"], f"{name}.divided")], f"{name}.erf")
    halved = b.node("Mul", [wide, "half"], f"{name}.halved")
    gelu = b.node("Mul", [halved, b.node("Add", [erf, "one"], f"{name}.shifted")], f"{name}.gelu")
    return normed(x, linear(gelu, 4 * WIDTH, WIDTH, "narrow"), "fed")


def measure(name: str, model: onnx.ModelProto, rows: dict[str, Any], int8_file: str | None = None) -> str:
    """Returns one line of figures; without `int8_file` INT8 is made here, of the same shape."""
    normal, _ = normalise(model)
    output = normal.graph.output[0].name
    if int8_file is None:
        found = calibrate(normal, wanted_tensors(normal, ["openvino"]), from_arrays(name, rows), rows=8, batch=2)
        int8 = OpenVino(make("openvino", normal, found, Recipe("", "minmax", True, ())).content, [output])
    else:
        int8 = OpenVino(int8_file, [output])
    fp32 = OnnxRuntime(normal.SerializeToString(), [output])
    one = {key: array[:1] for key, array in rows.items()}
    old, new = evaluation.race([lambda: fp32.run(one), lambda: int8.run(one)])
    ratios = sorted(a / b for a, b in zip(old, new, strict=True))
    quarter = len(ratios) // 4
    return (
        f"{name}: FP32 ONNX Runtime {statistics.median(old) * 1e3:.1f} ms, INT8 OpenVINO "
        f"{statistics.median(new) * 1e3:.1f} ms, {statistics.median(ratios):.2f} times as fast "
        f"(middle half of {len(ratios)} rounds: {ratios[quarter]:.2f} to {ratios[-1 - quarter]:.2f})"
    )


def main() -> None:
    evaluation.ROUNDS, evaluation.BLOCK_S = int(sys.argv[1]) if len(sys.argv) > 1 else 21, 0.3
    rng = np.random.default_rng(0)
    if len(sys.argv) > 2:
        # Times do not depend on what is in the pictures.
        rows = {"image": rng.normal(size=(1, 3, 224, 224)).astype(np.float32)}
        print(measure("ResNet-50, trained", onnx.load(sys.argv[2]), rows, sys.argv[3]), flush=True)
        return
    pictures = {"x": rng.normal(size=(8, 3, 224, 224)).astype(np.float32)}
    print(measure("ResNet-50", resnet50(), pictures), flush=True)
    print(measure("BERT-base shape, 128 tokens", bert_base(), {"tokens": rng.integers(0, WORDS, (8, TOKENS))}))


if __name__ == "__main__":
    main()
