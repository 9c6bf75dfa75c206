"""Unmodified tritonclient in a process of its own, all four clients, against both gRPC engines."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from gateway._generated import open_inference_pb2 as pb
from tests.acceptance.clients import grpc, rest
from tests.support.processes import ClientWorker, Gateway

CLIENTS = ["http", "http_aio", "grpc", "grpc_aio"]
ENGINES = ["gateway", "reference"]


@pytest.fixture(params=[(c, e) for c in CLIENTS for e in ENGINES if e == "gateway" or c.startswith("grpc")], ids=str)
def call(request: pytest.FixtureRequest, worker: ClientWorker) -> Any:
    client, engine = request.param
    gateway: Gateway = request.getfixturevalue(engine)
    url = gateway.rest if client.startswith("http") else gateway.grpc

    def send(op: str, **arguments: Any) -> dict[str, Any]:
        return worker.call(op=op, client=client, url=url, **arguments)

    return send


def add_sub(rows: int = 1, offset: int = 0) -> list[dict[str, Any]]:
    left = [offset + i for i in range(16 * rows)]
    right = [3 * i for i in range(16 * rows)]
    return [
        {"name": "A", "datatype": "INT32", "shape": [rows, 16], "data": left},
        {"name": "B", "datatype": "INT32", "shape": [rows, 16], "data": right},
    ]


def outputs_of(answer: dict[str, Any]) -> dict[str, list[Any]]:
    assert "ok" in answer, answer
    return {output["name"]: output["data"] for output in answer["ok"]["outputs"]}


def test_health_and_metadata(call: Any) -> None:
    assert call("live")["ok"] is True
    assert call("ready")["ok"] is True
    assert call("model_ready", model="add_sub")["ok"] is True
    assert call("model_ready", model="add_sub", version="1")["ok"] is True
    assert call("server_metadata")["ok"]["name"] == "sluice"
    metadata = call("model_metadata", model="add_sub")["ok"]
    assert metadata["name"] == "add_sub"
    assert metadata["versions"] == ["1"]
    assert {tensor["name"] for tensor in metadata["inputs"]} == {"A", "B"}
    config = call("model_config", model="add_sub")["ok"]
    config = config.get("config", config)
    assert config["name"] == "add_sub"
    assert int(config["max_batch_size"]) == 8
    assert "statistics" in call("server_metadata")["ok"]["extensions"]
    (statistics,) = call("statistics", model="add_sub")["ok"]["model_stats"]
    assert (statistics["name"], statistics["version"]) == ("add_sub", "1")


def test_inference_answers_and_says_which_version(call: Any) -> None:
    answer = call("infer", model="add_sub", inputs=add_sub(2), id="mine")
    outputs = outputs_of(answer)
    assert outputs["SUM"] == [4 * i for i in range(32)]
    assert outputs["DIFFERENCE"] == [-2 * i for i in range(32)]
    assert (answer["ok"]["model_name"], answer["ok"]["model_version"], answer["ok"]["id"]) == ("add_sub", "1", "mine")


def test_explicit_version(call: Any) -> None:
    assert outputs_of(call("infer", model="add_sub", version="1", inputs=add_sub()))["SUM"][1] == 4
    answer = call("infer", model="add_sub", version="2", inputs=add_sub())
    assert "has no version '2'" in answer["error"]


def test_requested_outputs_only(call: Any) -> None:
    assert list(outputs_of(call("infer", model="add_sub", inputs=add_sub(), outputs=["DIFFERENCE"]))) == ["DIFFERENCE"]


def test_json_tensors_over_rest(call: Any) -> None:
    outputs = outputs_of(call("infer", model="add_sub", inputs=add_sub(3), binary=False, outputs=["SUM", "DIFFERENCE"]))
    assert outputs["SUM"] == [4 * i for i in range(48)]


def test_bytes_and_floats_pass_unchanged(call: Any) -> None:
    texts = ["", "a", "ä€", "with\ttab", "x" * 300]
    floats = [0.5, -1.25, 1e-30, 3.4e38, 0.0]
    inputs = [
        {"name": "FP32_IN", "datatype": "FP32", "shape": [1, 5], "data": floats},
        {"name": "BYTES_IN", "datatype": "BYTES", "shape": [1, 5], "data": texts},
    ]
    outputs = outputs_of(call("infer", model="identity", inputs=inputs))
    assert outputs["BYTES_OUT"] == texts
    assert outputs["FP32_OUT"] == pytest.approx(floats, rel=1e-6)


def test_unbatched_model(call: Any) -> None:
    metadata = call("model_metadata", model="identity_unbatched")["ok"]
    name = metadata["inputs"][0]["name"]
    inputs = [{"name": name, "datatype": "FP32", "shape": [2, 3], "data": [1, 2, 3, 4, 5, 6]}]
    assert list(outputs_of(call("infer", model="identity_unbatched", inputs=inputs)).values()) == [[1, 2, 3, 4, 5, 6]]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"model": "nonsense"}, "unknown model 'nonsense'"),
        ({"inputs": add_sub()[:1]}, "B"),
        ({"inputs": [*add_sub()[:1], {**add_sub()[1], "name": "WRONG"}]}, "WRONG"),
        ({"inputs": [*add_sub()[:1], {**add_sub()[1], "datatype": "FP32"}]}, "B"),
        ({"inputs": add_sub(9)}, "8"),
        ({"outputs": ["NOPE"]}, "NOPE"),
    ],
    ids=["model", "missing", "unknown input", "datatype", "too many rows", "output"],
)
def test_mistakes_are_named(call: Any, change: dict[str, Any], expected: str) -> None:
    answer = call("infer", **{"model": "add_sub", "inputs": add_sub(), **change})
    assert expected in answer.get("error", ""), answer
    status = answer["status"]
    assert any(word in str(status) for word in ("400", "404", "INVALID_ARGUMENT", "NOT_FOUND")), answer


def faulty(*values: float) -> list[dict[str, Any]]:
    return [{"name": "X", "datatype": "FP32", "shape": [len(values), 1], "data": list(values)}]


def test_what_the_model_refuses_is_the_callers_mistake(call: Any) -> None:
    answer = call("infer", model="faulty", inputs=faulty(1.0, float("nan")))
    assert "X has a NaN" in answer["error"]
    assert "400" in str(answer["status"]) or "INVALID_ARGUMENT" in str(answer["status"])


def test_a_model_that_loses_a_row_gives_nobody_a_success(call: Any) -> None:
    answer = call("infer", model="faulty", inputs=faulty(1.0, 777.0))
    assert "output 'Y' has 1 rows, but 2 were sent" in answer["error"]
    assert "502" in str(answer["status"]) or "INTERNAL" in str(answer["status"])


def test_compressed_requests_and_answers(call: Any, request: pytest.FixtureRequest) -> None:
    client = request.node.callspec.params["call"][0]
    options: dict[str, Any] = (
        {"compression_algorithm": "gzip"}
        if client.startswith("grpc")
        else {"request_compression_algorithm": "gzip", "response_compression_algorithm": "gzip"}
    )
    outputs = outputs_of(call("infer", model="add_sub", inputs=add_sub(8), **options))
    assert outputs["SUM"] == [4 * i for i in range(128)]


def test_statistics_are_what_was_asked_and_answered(gateway: Gateway, worker: ClientWorker) -> None:
    """The same over both protocols, in the form of Triton, and in agreement with what Triton itself has executed."""

    def over_grpc(name: str) -> dict[str, Any]:
        answer = grpc(gateway.grpc, "ModelStatistics", pb.ModelStatisticsRequest(name=name).SerializeToString())
        message = pb.ModelStatisticsResponse.FromString(answer.body)
        return {one.name: MessageToDict(one, preserving_proto_field_name=True) for one in message.model_stats}

    def over_rest(path: str) -> dict[str, Any]:
        return {one["name"]: one for one in json.loads(rest(gateway.rest, path).body)["model_stats"]}

    before, executed = over_rest("/v2/models/add_sub/stats")["add_sub"], gateway.triton_count("add_sub")
    for rows in (1, 3):
        asked = {"model": "add_sub", "inputs": add_sub(rows)}
        assert outputs_of(worker.call(op="infer", client="grpc", url=gateway.grpc, **asked))["SUM"]
    found = over_rest("/v2/models/add_sub/versions/1/stats")["add_sub"]
    assert found["inference_count"] - before["inference_count"] == 4
    assert gateway.triton_count("add_sub") - executed == 4
    for kind, spent in found["inference_stats"].items():
        grown = spent["count"] - before["inference_stats"][kind]["count"]
        assert grown == (0 if kind in ("fail", "cache_hit", "cache_miss") else 2), kind
    assert found["last_inference"] > before["last_inference"]
    other = over_grpc("add_sub")["add_sub"]
    assert int(other["inference_count"]) == found["inference_count"]
    assert int(other["inference_stats"]["success"]["ns"]) == found["inference_stats"]["success"]["ns"]
    assert set(over_grpc("")) == set(over_rest("/v2/models/stats")) >= {"add_sub", "identity"}
    assert rest(gateway.rest, "/v2/models/nobody/stats").status == 404
    assert (
        grpc(gateway.grpc, "ModelStatistics", pb.ModelStatisticsRequest(name="nobody").SerializeToString()).status == 5
    )
