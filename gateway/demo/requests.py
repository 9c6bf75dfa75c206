"""One ready-to-paste request for each demo model, as `make demo` shows them.

Invariant: every line works in a shell as it stands, whatever the gateway's addresses are: curl needs nothing but the
files shipped beside this module.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gateway.demo.client import DEFAULT_ADDRESS

DATA = Path(__file__).parent / "data"
PICTURE = DATA / "chelsea.png"
PICTURE_REQUEST = DATA / "chelsea.request"
_PICTURE_BYTES = 224 * 224 * 3
# "a man is eating food" and its [CLS], [SEP].
_TOKENS = (101, 1037, 2158, 2003, 5983, 2833, 102)
# A married managing woman of 44 with a master's degree; the indices are those of census_vocabulary.json.
_CATEGORICAL, _CONTINUOUS = (4, 13, 3, 4, 6, 5, 1, 39), (44, 14, 0, 0, 50)


def paste_lines(rest_url: str, grpc_url: str) -> str:
    """Returns the lines, each model's `sluice demo` command and its curl request; the addresses may lack `http://`."""
    rest = rest_url.removeprefix("http://").rstrip("/")
    grpc = grpc_url.removeprefix("grpc://").rstrip("/")
    at_rest = [] if rest == DEFAULT_ADDRESS["rest"] else ["--url", rest]
    at_grpc = ["--protocol", "grpc"] + ([] if grpc == DEFAULT_ADDRESS["grpc"] else ["--url", grpc])
    lines = [
        "# a picture",
        _shell("sluice", "demo", "classify", _shown(PICTURE), *at_rest),
        _curl(rest, "efficientnet_lite0", "-H", f"Inference-Header-Content-Length: {picture_head_bytes()}",
              "--data-binary", f"@{_shown(PICTURE_REQUEST)}"),
        "# sentences",
        _shell("sluice", "demo", "embed", "A cat sits on the mat.", "A kitten rests on a rug.", "Shares fell today.",
               *at_rest),
        _curl(rest, "minilm", "-d", json_body(sentence_inputs())),
        "# a table row",
        _shell("sluice", "demo", "score", *at_grpc),
        _curl(rest, "wide_deep", "-d", json_body(census_inputs())),
    ]  # fmt: skip
    return "\n".join(lines)


def picture_head_bytes() -> int:
    """Returns the size of the JSON head of `chelsea.request`, which the picture's raw bytes follow."""
    return PICTURE_REQUEST.stat().st_size - _PICTURE_BYTES


def sentence_inputs() -> list[dict[str, Any]]:
    """Returns one tokenised sentence as JSON tensors."""
    count = len(_TOKENS)
    return [_tensor("input_ids", "INT64", _TOKENS), _tensor("attention_mask", "INT64", [1] * count)]


def census_inputs() -> list[dict[str, Any]]:
    """Returns one census row as JSON tensors."""
    return [_tensor("categorical", "INT64", _CATEGORICAL), _tensor("continuous", "FP32", _CONTINUOUS)]


def json_body(inputs: Sequence[dict[str, Any]]) -> str:
    """Returns the body of a JSON inference request."""
    return json.dumps({"inputs": list(inputs)}, separators=(",", ":"))


def _tensor(name: str, datatype: str, row: Sequence[float]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [1, len(row)], "data": list(row)}


def _curl(rest: str, model: str, *arguments: str) -> str:
    return _shell("curl", "-s", f"http://{rest}/v2/models/{model}/infer", *arguments)


def _shell(*words: str) -> str:
    return shlex.join(words)


def _shown(path: Path) -> str:
    """Returns the path as a user would type it: relative where that is not longer."""
    return min(str(path), os.path.relpath(path), key=len)
