"""A sentence encoder as an ONNX graph: what it makes of texts, and the same graph with a head on it.

The encoder is frozen: every text passes through it once, and only the head is trained. So a head can be made from
thousands of texts within a minute of CPU, and its privacy is that of the head alone: the encoder never saw the texts.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.trainers.texts import Texts

INPUTS = ("input_ids", "attention_mask")
LOGITS = "logits"
_ROWS = 32


class NotAnEncoder(ValueError):
    """The graph is not one of `input_ids` and `attention_mask` to one vector a text."""


class Encoder:
    """Runs the graph at `path`; `output` names the embedding [rows, width], empty if there is one output only.

    It takes as many threads as the job has processors, all of the machine outside of a job.
    """

    def __init__(self, path: Path, output: str = "") -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        # What limits a job's other libraries; ONNX Runtime's own threads do not look at it.
        options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS") or 0)
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        inputs = {one.name for one in self._session.get_inputs()}
        outputs = [one.name for one in self._session.get_outputs()]
        if inputs != set(INPUTS):
            raise NotAnEncoder(f"{path.name}: inputs are {sorted(inputs)}, not {sorted(INPUTS)}")
        if output not in (outputs if output or len(outputs) > 1 else ["", *outputs]):
            raise NotAnEncoder(f"{path.name}: name the embedding among its outputs: {', '.join(outputs)}")
        self.output = output or outputs[0]

    def embed(self, texts: Texts, each: Callable[[int], None] = lambda done: None) -> NDArray[np.float32]:
        """Returns FP32 [rows, width]; `each` hears how many rows are done. Raises NotAnEncoder."""
        parts = []
        for start in range(0, len(texts), _ROWS):
            rows = slice(start, start + _ROWS)
            mask = texts.attention_mask[rows]
            # Padding that all rows of a batch have is left out: it changes nothing and costs as much as words.
            length = max(1, int(mask.sum(1).max()))
            feed = {"input_ids": texts.input_ids[rows, :length], "attention_mask": mask[:, :length]}
            found: NDArray[np.float32] = self._session.run([self.output], feed)[0]
            if found.ndim != 2 or found.dtype != np.float32 or not np.isfinite(found).all():
                raise NotAnEncoder(
                    f"{self.output}: {found.dtype} {list(found.shape[1:])} is not one finite vector a text"
                )
            parts.append(found)
            each(min(len(texts), start + _ROWS))
        return np.concatenate(parts)


def with_head(model: Any, embedding: str, weight: NDArray[np.float32], bias: NDArray[np.float32]) -> Any:
    """Returns the ONNX model with `logits` = embedding x weight [width, classes] + bias as its only output."""
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    graph.initializer.append(numpy_helper.from_array(weight, "head.weight"))
    graph.initializer.append(numpy_helper.from_array(bias, "head.bias"))
    graph.node.append(helper.make_node("Gemm", [embedding, "head.weight", "head.bias"], [LOGITS], name="head"))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(LOGITS, TensorProto.FLOAT, ["rows", len(bias)]))
    return model
