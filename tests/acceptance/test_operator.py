"""What an operator sees: exact counts, bounded labels, the access log, the commands, the memory it takes."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway._generated.health_pb2 import HealthCheckRequest, HealthCheckResponse
from tests.acceptance.clients import grpc, rest
from tests.support.processes import ROOT, TRITON_ENVIRONMENT, Gateway, LoadClient, fetch, until

IDLE_MEGABYTES = 150


@pytest.fixture(scope="module")
def watched(gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway that nobody else asks anything, in front of the same Triton."""
    address = {"triton.mode": "remote", "triton.source": "triton", "triton.addresses": [gateway.ready["triton_grpc"]]}
    watched = Gateway(tmp_path_factory.mktemp("watched"), None, address)
    yield watched
    assert watched.stop() == 0


def sluice(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs one command of the command line."""
    return subprocess.run(
        [sys.executable, "-m", "gateway.cli", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def summed(metrics: dict[str, float], name: str, *labels: str) -> float:
    return sum(v for key, v in metrics.items() if key.startswith(name + "{") and all(label in key for label in labels))


def test_what_every_request_passes_through_is_compiled_where_that_is_possible(watched: Gateway) -> None:
    compiling = [sys.executable, str(ROOT / "tools" / "compile.py"), "--possible"]
    possible = subprocess.run(compiling, timeout=60, check=False).returncode == 0
    assert watched.ready["compiled"] is possible, "`make test` compiles it before"


def test_counts_are_exact(watched: Gateway) -> None:
    before = watched.metrics()
    tally = LoadClient(watched, clients=6, requests=600, models=["add_sub"], suffix=".v1").report()
    for _ in range(7):
        assert rest(watched.rest, "/v2/models/add_sub.v1/infer", b'{"inputs":[]}').status == 400
    assert rest(watched.rest, "/v2/models/nobody/infer", b'{"inputs":[]}').status == 404
    after = watched.metrics()

    def grown(name: str, *labels: str) -> float:
        return summed(after, name, *labels) - summed(before, name, *labels)

    model = 'model="add_sub.v1"'
    rows = tally["rows"]["add_sub.v1"]
    protocols = {p: grown("sluice_requests_total", model, f'protocol="{p}"', 'outcome="ok"') for p in
                 ("grpc", "rest_json", "rest_binary")}  # fmt: skip
    assert sum(protocols.values()) == tally["right"] == 600
    assert all(count > 0 for count in protocols.values()), protocols
    assert grown("sluice_requests_total", model, 'outcome="invalid_request"') == 7
    assert grown("sluice_rejected_total", 'code="invalid_request"') == 7
    assert grown("sluice_rejected_total", 'code="model_not_found"') == 1
    assert grown("sluice_request_duration_seconds_count", model) == 600
    assert grown("sluice_queue_duration_seconds_count", model) == 600
    assert grown("sluice_request_rows_total", model) == grown("sluice_batch_rows_sum", model) == rows
    batches = grown("sluice_batches_total", model)
    assert (
        0 < batches == grown("sluice_batch_rows_count", model) == grown("sluice_backend_duration_seconds_count", model)
    )
    assert grown("sluice_batch_requests_sum", model) == 600
    reasons = {key.split('reason="')[1][:-2] for key in after if key.startswith("sluice_batches_total{" + model)}
    assert reasons <= {"full", "idle", "deadline", "delay", "drain"}
    assert after["sluice_requests_in_flight"] == 0
    assert after["sluice_event_loop_lag_seconds_count"] > 0
    assert after['sluice_queue_rows{model="add_sub.v1",version="1"}'] == 0


def test_a_thousand_unknown_names_do_not_grow_the_metrics(watched: Gateway) -> None:
    rest(watched.rest, "/v2/models/nobody/infer", b'{"inputs":[]}')
    before = watched.metrics()
    for number in range(500):
        assert rest(watched.rest, f"/v2/models/nobody{number}/infer", b'{"inputs":[]}').status == 404
        assert rest(watched.rest, f"/v2/models/add_sub.v1/versions/{number + 9}/infer", b'{"inputs":[]}').status == 404
    after = watched.metrics()
    grown = {key for key in after if key.startswith("sluice_")} - before.keys()
    assert len(grown) <= 40, sorted(grown)
    assert not any("nobody" in key for key in after)
    assert summed(after, "sluice_rejected_total", "model_not_found") - summed(
        before, "sluice_rejected_total", "model_not_found"
    ) == pytest.approx(1000)


def test_the_access_log_has_one_line_a_request(watched: Gateway) -> None:
    path = Path(watched.ready["access_log"])
    body = json.dumps(
        {"inputs": [{"name": n, "datatype": "INT32", "shape": [2, 16], "data": [1] * 32} for n in "AB"]}
    ).encode()
    url = "/v2/models/add_sub.v1/infer"
    assert rest(watched.rest, url, body, headers={"x-request-id": "find-me"}).status == 200
    assert rest(watched.rest, url, b'{"inputs":[]}', headers={"x-request-id": "find-me-too"}).status == 400

    def lines() -> list[dict[str, Any]]:
        found = [json.loads(line) for line in path.read_text().splitlines()]
        wanted = [line for line in found if str(line.get("id")).startswith("find-me")]
        return wanted if len(wanted) == 2 else []

    line, failed = until(lines, 10, "both lines")
    assert (line["id"], failed["id"]) == ("find-me", "find-me-too")
    assert (line["model"], line["rows"], line["protocol"]) == ("add_sub.v1", 2, "rest_json")
    assert (line["outcome"], failed["outcome"]) == ("ok", "invalid_request")
    assert "A" in failed["message"]


def test_models_list(watched: Gateway) -> None:
    done = sluice("models", "list", "--json", "--admin", watched.admin)
    assert done.returncode == 0, done
    models = {model["name"]: model["versions"] for model in json.loads(done.stdout)["models"]}
    assert models["add_sub.v1"][0]["state"] == "ready"
    table = sluice("models", "list", "--admin", watched.admin)
    assert table.returncode == 0
    assert "add_sub.v1" in table.stdout
    nobody = sluice("models", "list", "--admin", "127.0.0.1:1")
    assert nobody.returncode == 1
    assert "127.0.0.1:1" in nobody.stderr


def test_doctor(tmp_path: Path) -> None:
    free = ["server.rest_port", "server.grpc_port", "server.admin_port", "triton.http_port", "triton.grpc_port",
            "triton.metrics_port"]  # fmt: skip
    settings = [f"{key}=0" for key in free]
    settings += [f"triton.environment={json.dumps(str(TRITON_ENVIRONMENT))}", 'registry.root="tests/models"']
    arguments = [word for setting in settings for word in ("--set", setting)]
    done = sluice("doctor", "--json", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    missing = sluice("doctor", *arguments, "--set", f"triton.environment={json.dumps(str(tmp_path / 'nothing'))}")
    assert missing.returncode == 1
    assert str(tmp_path / "nothing") in missing.stdout


def test_serve_check() -> None:
    good = sluice("serve", "--check", "--json", "--set", "server.rest_port=9000")
    assert good.returncode == 0
    assert json.loads(good.stdout)["config"]["server"]["rest_port"] == 9000
    bad = sluice("serve", "--check", "--set", "server.rest_port=99999", "--set", "nonsense.key=1")
    assert bad.returncode == 2
    assert "server.rest_port" in bad.stderr
    assert "nonsense" in bad.stderr


@pytest.mark.parametrize("setting", ["server.rest_port", "server.grpc_port", "server.admin_port"])
def test_a_busy_port_is_named(gateway: Gateway, tmp_path: Path, setting: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ports = {"server.rest_port": 0, "server.grpc_port": 0, "server.admin_port": 0, setting: port}
        remote = {"triton.mode": '"remote"', "triton.source": '"triton"', "telemetry.access_log": '""',
                  "triton.addresses": json.dumps([gateway.ready["triton_grpc"]])}  # fmt: skip
        settings = [f"{key}={value}" for key, value in {**ports, **remote}.items()]
        done = sluice("serve", *[word for setting_ in settings for word in ("--set", setting_)])
    assert done.returncode == 3, done
    assert str(port) in done.stderr
    assert setting in done.stderr
    assert "Traceback" not in done.stderr


def test_health_service_and_repository_index(gateway: Gateway) -> None:
    def health(name: str) -> tuple[int, int]:
        answer = grpc(
            gateway.grpc, "/grpc.health.v1.Health/Check", HealthCheckRequest(service=name).SerializeToString()
        )
        return answer.status, HealthCheckResponse.FromString(answer.body).status if answer.status == 0 else 0

    assert health("") == (0, HealthCheckResponse.SERVING)
    assert health("add_sub") == (0, HealthCheckResponse.SERVING)
    assert health("nobody")[0] == 5
    index = json.loads(rest(gateway.rest, "/v2/repository/index", b"").body)
    states = {(model["name"], model["version"]): model["state"] for model in index}
    assert states[("add_sub", "1")] == "READY"
    assert len(states) == 5


def test_idle_memory_with_three_demo_models(tmp_path: Path) -> None:
    """The gateway's own process, all three demo models loaded and asked nothing."""
    root = tmp_path / "models"
    shutil.copytree(ROOT / "model_repo", root, copy_function=os.link)
    demo = {"efficientnet_lite0", "minilm", "wide_deep"}
    fetched = {name for name in demo if (root / name / "1" / "artifacts" / "onnx" / "model.onnx").exists()}
    assert fetched == demo, "run `make models`"
    idle = Gateway(tmp_path / "run", root)
    try:
        assert set(idle.ready["models"]) >= demo
        assert {name for name in demo if idle.ready["models"][name]} == fetched, idle.ready["failed"]
        fetch(f"{idle.admin}/metrics")
        status = Path(f"/proc/{idle.process.pid}/status").read_text()
        megabytes = int(status.partition("VmRSS:")[2].split()[0]) / 1024
        print(f"resident: {megabytes:.0f} MB with {sorted(fetched)}")
        assert megabytes <= IDLE_MEGABYTES
    finally:
        assert idle.stop() == 0
