"""The Open Inference Protocol over REST with the binary tensor extension, on the standard library alone."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import numpy as np

from gateway.demo.client import (
    REFUSED,
    TIMEOUT_S,
    Answer,
    Array,
    DemoError,
    datatype_of,
    decode_raw,
    refused,
    unreachable,
)

_LENGTH = "Inference-Header-Content-Length"


class RestClient:
    """One connection to a gateway's REST port. Implements `client.InferClient`."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)

    def infer(
        self, model: str, inputs: Mapping[str, Array], outputs: Sequence[str], class_counts: Mapping[str, int]
    ) -> Answer:
        """Returns the answer. Raises DemoError."""
        head_size, body = encode_request(inputs, outputs, class_counts)
        headers = {"Content-Type": "application/octet-stream", _LENGTH: str(head_size)}
        try:
            self._connection.request("POST", f"/v2/models/{quote(model, safe='')}/infer", body, headers)
            response = self._connection.getresponse()
            content = response.read()
        except OSError as error:
            raise unreachable(self._host, self._port, error) from error
        except http.client.HTTPException as error:
            raise DemoError(REFUSED, f"what answers at {self._host}:{self._port} speaks no HTTP: {error!r}") from error
        if response.status != 200:
            status = f"{response.status} {response.reason}"
            raise refused(model, status, _error_message(content), missing=response.status == 404)
        try:
            return _decode(content, response.getheader(_LENGTH))
        except (ValueError, KeyError, TypeError) as error:
            raise DemoError(REFUSED, f"the gateway's answer is not understood: {error}") from error

    def close(self) -> None:
        self._connection.close()


def encode_request(
    inputs: Mapping[str, Array],
    outputs: Sequence[str],
    class_counts: Mapping[str, int],
    *,
    binary_outputs: bool = True,
) -> tuple[int, bytes]:
    """Returns the size of the JSON head and the whole body: head, then the tensors' raw bytes in order."""
    tensors: list[dict[str, Any]] = []
    chunks: list[bytes] = []
    for name, array in inputs.items():
        raw = np.ascontiguousarray(array).tobytes()
        chunks.append(raw)
        tensors.append(
            {
                "name": name,
                "datatype": datatype_of(array),
                "shape": list(array.shape),
                "parameters": {"binary_data_size": len(raw)},
            }
        )
    wanted = [
        {
            "name": name,
            "parameters": {"binary_data": binary_outputs}
            | ({"classification": class_counts[name]} if name in class_counts else {}),
        }
        for name in outputs
    ]
    head = json.dumps({"inputs": tensors, "outputs": wanted}, separators=(",", ":")).encode()
    return len(head), b"".join([head, *chunks])


def _decode(content: bytes, announced: str | None) -> Answer:
    head_size = len(content) if announced is None else int(announced)
    head = json.loads(content[:head_size])
    outputs: dict[str, Array] = {}
    offset = head_size
    for tensor in head["outputs"]:
        size = tensor.get("parameters", {}).get("binary_data_size")
        if size is None:
            outputs[tensor["name"]] = _from_json(tensor)
            continue
        outputs[tensor["name"]] = decode_raw(tensor["datatype"], tensor["shape"], content[offset : offset + size])
        offset += size
    return Answer(str(head.get("model_version", "")), outputs)


def _from_json(tensor: Mapping[str, Any]) -> Array:
    if tensor["datatype"] == "BYTES":
        texts = [str(text).encode() for text in np.ravel(np.array(tensor["data"], dtype=np.object_))]
        return np.array(texts, dtype=np.object_).reshape(tensor["shape"])
    dtype = decode_raw(tensor["datatype"], (0,), b"").dtype
    return np.array(tensor["data"], dtype=dtype).reshape(tensor["shape"])


def _error_message(content: bytes) -> str:
    try:
        return str(json.loads(content)["error"])
    except (ValueError, KeyError, TypeError):
        return content[:200].decode("utf-8", "replace").strip()
