"""REST bodies: how they are coded and how much JSON is read; answers in a form that their data do not have."""

from __future__ import annotations

import dataclasses
import gzip
import json
import zlib

import pytest

from gateway.errors import ErrorCode
from gateway.tensors import DataType, TensorSpec
from tests.gateway.frontends.doors import BODY, Doors, HttpPeer
from tests.support.engine import METADATA, World

TEXT = json.dumps(BODY).encode()


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def served(peer: HttpPeer, doors: Doors) -> None:
    """Fails unless the request was accepted and waits for its answer."""
    assert peer.status == 0, peer.body
    assert len(doors.world.scheduler.pending) == 1


@pytest.mark.parametrize("coding", ["gzip", "GZIP", " x-GZip ", "deflate", "Deflate", "raw", "identity", "Identity"])
def test_content_codings(coding: str) -> None:
    doors = Doors(World())
    name = "deflate" if coding == "raw" else coding
    packed = {"gzip": gzip.compress, "x-gzip": gzip.compress, "deflate": zlib.compress, "raw": raw_deflate}
    pack = packed.get(coding.strip().lower(), lambda data: data)
    served(doors.post(pack(TEXT), content_encoding=name), doors)


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", gzip.compress(TEXT) + gzip.compress(b"more")),
        ("gzip", gzip.compress(TEXT) + b"\0"),
        ("gzip", gzip.compress(TEXT)[:-3]),
        ("gzip", zlib.compress(TEXT)),
        ("deflate", zlib.compress(TEXT) + b"\0"),
        ("deflate", raw_deflate(TEXT) + b"\0"),
        ("deflate", raw_deflate(TEXT)[:-1]),
        ("deflate", gzip.compress(TEXT)),
    ],
    ids=["two members", "data behind", "cut", "zlib as gzip", "behind zlib", "behind raw", "cut raw", "gzip as zlib"],
)
def test_exactly_one_stream_is_taken(coding: str, body: bytes) -> None:
    doors = Doors(World())
    answer = doors.post(body, content_encoding=coding)
    assert answer.status == 400
    assert f"exactly one {coding} stream" in answer.error


def test_unknown_codings_are_named() -> None:
    answer = Doors(World()).post(TEXT, content_encoding="br")
    assert (answer.status, answer.error) == (
        501,
        "content-encoding 'br' is not supported: use gzip or deflate",
    )


def test_json_has_a_limit_of_its_own() -> None:
    """Also after decompression, and in front of binary tensors, which themselves do not count."""
    doors = Doors(World(), max_body_bytes=1 << 20, max_json_bytes=4096)
    large = b" " * 4097
    for answer in (
        doors.post(large),
        doors.post(large + TEXT),
        doors.post(gzip.compress(large + TEXT), content_encoding="gzip"),
        doors.post(large + bytes(8), inference_header_content_length="4097"),
        doors.post(large, path=b"/v2/repository/index"),
    ):
        assert answer.status == 413
        assert "limits.max_json_bytes" in answer.error
    assert "binary tensor data extension" in doors.post(large).error
    assert doors.world.observer.requests.count(ErrorCode.PAYLOAD_TOO_LARGE) == 5
    tensor = {"name": "x", "datatype": "FP32", "shape": [8, 2], "parameters": {"binary_data_size": 64}}
    header = json.dumps({"inputs": [tensor]}).encode()
    wide = doors.post(header + bytes(8192), inference_header_content_length=str(len(header)))
    assert (wide.status, "announce 64 bytes" in wide.error) == (400, True)
    served(doors.post(header + bytes(64), inference_header_content_length=str(len(header))), doors)


def test_large_bodies_are_named_by_their_setting() -> None:
    doors = Doors(World(), max_body_bytes=4096)
    answer = doors.post(gzip.compress(bytes(5000)), content_encoding="gzip")
    assert answer.status == 413
    assert "limits.max_body_bytes (4096 bytes)" in answer.error


@pytest.mark.parametrize("datatype", [DataType.FP16, DataType.BF16])
def test_outputs_without_json_form_are_refused_before_anything_is_executed(datatype: DataType) -> None:
    outputs = (TensorSpec("y", datatype, (-1, 2)), TensorSpec("z", DataType.FP32, (-1, 2)))
    doors = Doors(World(dataclasses.replace(METADATA, outputs=outputs)))

    def ask(*names: str, parameters: object = None, **own: object) -> HttpPeer:
        wanted = [{"name": name, "parameters": own} for name in names]
        return doors.post(BODY | {"outputs": wanted, "parameters": parameters})

    for answer in (
        ask(),
        ask("y"),
        ask("z", "y"),
        ask("y", binary_data=False, parameters={"binary_data_output": True}),
    ):
        assert answer.status == 400
        assert "output 'y'" in answer.error
        assert "binary form" in answer.error
    assert doors.world.observer.requests == [ErrorCode.INVALID_REQUEST] * 4
    assert not doors.world.scheduler.pending
    for taken in (
        ask("z"),
        ask("y", binary_data=True),
        ask("y", classification=1),
        ask(parameters={"binary_data_output": True}),
    ):
        assert taken.status == 0, taken.body
    assert len(doors.world.scheduler.pending) == 4


def test_an_unknown_model_is_still_named() -> None:
    answer = Doors(World()).post(BODY, path=b"/v2/models/nobody/infer")
    assert (answer.status, "nobody" in answer.error) == (404, True)


def test_megabytes_are_not_compressed_while_others_wait() -> None:
    for rows, coded in ((1, False), (200, True), (60_000, False)):
        world = World(dataclasses.replace(METADATA, max_batch_size=100_000), max_queue_rows=100_000)
        doors = Doors(world, 16 << 20, 16 << 20)
        tensor = {"name": "x", "datatype": "FP32", "shape": [rows, 2], "data": [123456.75] * rows * 2}
        peer = doors.post({"inputs": [tensor]}, accept_encoding="GZIP")
        doors.world.clock.settle()
        doors.world.backend.calls[0].echo()
        assert peer.status == 200, peer.body
        assert (b"content-encoding: gzip" in peer.headers) is coded
        text = gzip.decompress(peer.body) if coded else peer.body
        assert json.loads(text)["outputs"][0]["shape"] == [rows, 2]
