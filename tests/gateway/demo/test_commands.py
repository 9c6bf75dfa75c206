"""The demo commands as a user runs them, against a small server that speaks both protocols."""

from __future__ import annotations

import argparse
import json
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gateway.demo import requests
from gateway.demo.commands import add_demo_parsers
from tests.support.golden import golden_case
from tests.support.oip_server import Array, Call, OipServer, Refusal

CHELSEA = str(requests.PICTURE)


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_demo_parsers(parser.add_subparsers(required=True))
    return parser.parse_args(words)


def run(*words: str) -> int:
    arguments = parse(*words)
    code: int = arguments.run(arguments)
    return code


def respond(call: Call) -> dict[str, Array | list[list[str]]]:
    rows = len(next(iter(call.inputs.values())))
    if call.model == "efficientnet_lite0":
        count = call.classes["probabilities"]
        return {"probabilities": [[f"0.{9 - i}00000:28{i}:class {i}: with colon" for i in range(count)]] * rows}
    if call.model == "minilm":
        return {"sentence_embedding": np.eye(rows, 384, dtype=np.float32)}
    return {"probability": (call.inputs["continuous"][:, :1] / 100).astype(np.float32)}


@pytest.fixture(scope="module")
def server() -> Iterator[OipServer]:
    with OipServer(respond) as server:
        yield server


@pytest.fixture(params=["rest", "grpc"])
def way(request: pytest.FixtureRequest, server: OipServer) -> list[str]:
    server.calls.clear()
    return ["--protocol", request.param, "--url", getattr(server, request.param)]


def test_classify_sends_the_picture_and_prints_the_classes(
    server: OipServer, way: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("classify", CHELSEA, "--top", "2", *way) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{CHELSEA}  (efficientnet_lite0, version 7)",
        "   90.0%  class 0: with colon",
        "   80.0%  class 1: with colon",
    ]
    (call,) = server.calls
    golden = golden_case("efficientnet_lite0").inputs["image"][:1]
    assert np.abs(call.inputs["image"].astype(int) - golden).max() <= 1
    assert (call.outputs, call.classes) == (["probabilities"], {"probabilities": 2})


def test_classify_takes_several_pictures_in_one_request(
    server: OipServer, way: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("classify", CHELSEA, str(requests.DATA / "coffee.png"), "--json", *way) == 0
    document = json.loads(capsys.readouterr().out)
    assert [len(picture["classes"]) for picture in document["pictures"]] == [5, 5]
    assert document["pictures"][0]["classes"][1] == {"index": 281, "label": "class 1: with colon", "probability": 0.8}
    assert document["model_version"] == "7"
    assert [call.inputs["image"].shape for call in server.calls] == [(2, 224, 224, 3)]


def test_embed_prints_the_matrix(server: OipServer, way: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("embed", "A man is eating food.", "Someone is having a meal.", *way) == 0
    assert capsys.readouterr().out.splitlines() == [
        "cosine similarity  (minilm, version 7)",
        "           1      2",
        "    1   1.00   0.00   A man is eating food.",
        "    2   0.00   1.00   Someone is having a meal.",
    ]
    (call,) = server.calls
    golden = golden_case("minilm").inputs
    width = call.inputs["input_ids"].shape[1]
    for name in ("input_ids", "attention_mask"):
        assert np.array_equal(call.inputs[name], golden[name][:2, :width])


def test_embed_compares_three_sentences_by_itself(way: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("embed", "--json", *way) == 0
    document = json.loads(capsys.readouterr().out)
    assert np.array(document["embeddings"]).shape == (3, 384)
    assert np.array(document["cosine_similarities"]).shape == (3, 3)
    assert len(document["sentences"]) == 3


def test_score_prints_readable_rows(server: OipServer, way: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("score", *way) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("  >50K:  44.0%   44 years, Male, Bachelors,")
    assert lines[0].endswith("(in the table: >50K)")
    assert lines[-1] == "6 rows  (wide_deep, version 7)"
    (call,) = server.calls
    assert call.inputs["categorical"].shape == (6, 8)
    assert call.inputs["continuous"].dtype == np.float32


def test_score_sends_long_tables_in_pieces(
    server: OipServer, way: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    heading, row = (requests.DATA / "census_rows.csv").read_text().splitlines()[:2]
    table = tmp_path / "rows.csv"
    table.write_text("\n".join([heading, *[row.replace("United-States", "Atlantis")] * 600]))
    assert run("score", "--rows", str(table), "--json", *way) == 0
    captured = capsys.readouterr()
    rows = json.loads(captured.out)["rows"]
    assert len(rows) == 600
    assert rows[599]["line"] == 601
    assert [len(call.inputs["continuous"]) for call in server.calls] == [256, 256, 88]
    assert captured.err.count("Atlantis") == 10
    assert "590 more words are not known" in captured.err


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
@pytest.mark.parametrize(
    ("status", "said"),
    [(404, "is it serving the demo models?"), (503, "busy"), (400, "busy")],
)
def test_an_error_answer_is_shown(protocol: str, status: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(_: Call) -> dict[str, Any]:
        raise Refusal(status, "busy")

    with OipServer(refuse) as server:
        assert run("score", "--protocol", protocol, "--url", getattr(server, protocol)) == 4
    error = capsys.readouterr().err
    assert error.startswith("sluice demo: the gateway answered ")
    assert "busy" in error
    assert said in error


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (("classify", CHELSEA), {"probabilities": np.zeros((1, 1000), np.float32)}),
        (("classify", CHELSEA, "--top", "1"), {"probabilities": [["no number"]]}),
        (("embed", "a"), {"sentence_embedding": np.zeros((2, 384), np.float32)}),
        (("score",), {"something": np.zeros((6, 1), np.float32)}),
    ],
)
def test_an_answer_that_makes_no_sense_is_refused(
    protocol: str, words: tuple[str, ...], answer: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    with OipServer(lambda call: answer) as server:
        assert run(*words, "--protocol", protocol, "--url", getattr(server, protocol)) == 4
    assert "answer is not understood" in capsys.readouterr().err


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_nobody_there(protocol: str, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"127.0.0.1:{taken.getsockname()[1]}"
        assert run("score", "--protocol", protocol, "--url", url) == 3
    assert f"no gateway at {url} (Connection refused): start one with `make demo`" in capsys.readouterr().err


@pytest.mark.parametrize("reply", [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"])
def test_somebody_else_there(reply: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1 << 16)
            connection.sendall(reply)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        assert run("score", "--url", f"127.0.0.1:{listener.getsockname()[1]}") in (3, 4)
        thread.join()
    assert capsys.readouterr().err.startswith("sluice demo: ")


def _not_a_picture(folder: Path) -> list[str]:
    path = folder / "text.png"
    path.write_text("hello")
    return ["classify", str(path)]


def _cut_off(folder: Path) -> list[str]:
    path = folder / "cut.png"
    path.write_bytes(requests.PICTURE.read_bytes()[:5000])
    return ["classify", str(path)]


def _table(content: bytes) -> Callable[[Path], list[str]]:
    def build(folder: Path) -> list[str]:
        path = folder / "rows.csv"
        path.write_bytes(content)
        return ["score", "--rows", str(path)]

    return build


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda folder: ["classify", str(folder / "none.png")], "there is no such file"),
        (lambda folder: ["classify", str(folder)], "cannot be read: Is a directory"),
        (_not_a_picture, "not a picture"),
        (_cut_off, "cannot be read"),
        (lambda _: ["classify", CHELSEA, "--top", "0"], "must be 1 to 1000"),
        (lambda _: ["classify", *[CHELSEA] * 33], "at most 32"),
        (lambda _: ["embed", "one", "  "], "sentence 2 is empty"),
        (lambda _: ["embed", *["one"] * 33], "at most 32"),
        (lambda folder: ["score", "--rows", str(folder / "none.csv")], "there is no such file"),
        (lambda folder: ["score", "--rows", str(folder)], "Is a directory"),
        (_table(b""), "is empty"),
        (_table(b"age\n1\n"), "has no column"),
        (_table(b"\xff\xfe\x00"), "not a text file"),
        (_table(requests.DATA.joinpath("census_rows.csv").read_bytes().split(b"\n")[0]), "has no rows"),
        (lambda _: ["score", "--url", "https://127.0.0.1:1"], "not https://"),
        (lambda _: ["score", "--url", "localhost"], "write host:port"),
    ],
)
def test_the_users_mistakes(
    build: Callable[[Path], list[str]], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*build(tmp_path)) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


@pytest.mark.parametrize(
    ("module", "words", "extra"),
    [
        ("PIL", ("classify", CHELSEA), "sluice[demo]"),
        ("tokenizers", ("embed", "a"), "sluice[demo]"),
        ("grpc", ("score", "--protocol", "grpc"), "sluice[grpcio]"),
    ],
)
def test_a_missing_package_is_named(
    module: str,
    words: tuple[str, ...],
    extra: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("gateway.demo.pictures", "gateway.demo.sentences", "gateway.demo.grpc_client"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    assert run(*words) == 2
    assert f"pip install '{extra}'" in capsys.readouterr().err


def test_large_pictures_are_read_without_a_warning(
    server: OipServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)
    path = tmp_path / "large.png"
    Image.new("L", (400, 300)).save(path)
    assert run("classify", str(path), "--url", server.rest) == 0
