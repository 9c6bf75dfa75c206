"""Our small ONNX reader against the onnx package itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from gateway.registry.onnx_file import read_onnx

KINDS = {
    TensorProto.FLOAT: "FP32", TensorProto.UINT8: "UINT8", TensorProto.INT64: "INT64", TensorProto.STRING: "BYTES",
    TensorProto.BOOL: "BOOL", TensorProto.FLOAT16: "FP16", TensorProto.BFLOAT16: "BF16", TensorProto.DOUBLE: "FP64",
    TensorProto.UINT32: "UINT32", TensorProto.INT8: "INT8",
}  # fmt: skip
Tensors = dict[str, tuple[int, list[object]]]
NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=20)
SHAPES = st.lists(st.one_of(st.integers(1, 2**40), NAMES, st.none()), max_size=6)
TENSORS = st.dictionaries(NAMES, st.tuples(st.sampled_from(sorted(KINDS)), SHAPES), min_size=1, max_size=4)


@settings(max_examples=100, deadline=None)
@given(inputs=TENSORS, outputs=TENSORS, opset=st.integers(7, 25))
def test_both_read_the_same(
    tmp_path_factory: pytest.TempPathFactory, inputs: Tensors, outputs: Tensors, opset: int
) -> None:
    values = [
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in tensors.items()]
        for tensors in (inputs, outputs)
    ]
    graph = helper.make_graph([helper.make_node("Identity", ["a"], ["b"])], "g", *values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], producer_name="peer")
    path = tmp_path_factory.mktemp("onnx") / "m.onnx"
    path.write_bytes(model.SerializeToString())
    found = read_onnx(path)
    assert (found.opset, found.ir_version, found.producer) == (opset, model.ir_version, "peer")
    for tensors, read in ((inputs, found.inputs), (outputs, found.outputs)):
        assert {t.name: (t.datatype.value, list(t.shape)) for t in read} == {
            name: (KINDS[kind], shape) for name, (kind, shape) in tensors.items()
        }


def test_external_weights_are_found_wherever_they_hide(tmp_path: Path) -> None:
    """In the graph, in a node's constant, and in a constant inside a branch."""

    def external(name: str, place: str) -> onnx.TensorProto:
        tensor = numpy_helper.from_array(np.zeros(4, np.float32), name)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", place), ("length", "16")):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value
        return tensor

    branch = helper.make_graph(
        [helper.make_node("Constant", [], ["c"], value=external("c", "branch.bin"))], "branch", [],
        [helper.make_tensor_value_info("c", TensorProto.FLOAT, [4])],
    )  # fmt: skip
    nodes = [
        helper.make_node("Constant", [], ["k"], value=external("k", "node.bin")),
        helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.BOOL, [1])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])
    graph = helper.make_graph(nodes, "g", [x], [y], initializer=[external("w", "graph.bin")])
    (tmp_path / "m.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    assert set(read_onnx(tmp_path / "m.onnx").external) == {"graph.bin", "node.bin", "branch.bin"}
