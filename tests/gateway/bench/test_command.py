"""`sluice bench` against an in-process HTTP server: exit codes and output; nothing about speed."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from gateway.cli import main

METADATA = {
    "name": "m",
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
}
QUICK = ["--rate", "200", "--seconds", "0.2", "--warmup", "0.05", "--connections", "2", "--slo-ms", "60000"]


class Server:
    """Echoes x as y; after `good` requests it answers what `then` says: a status, or None for a wrong answer."""

    def __init__(self) -> None:
        self.good = 1 << 30
        self.then: int | None = None
        self.interrupt_at = 0
        """Which request presses Ctrl-C."""
        self.answered = 0
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.address = f"127.0.0.1:{self._http.server_address[1]}"

    def close(self) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def infer(self, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        with self._lock:
            self.answered += 1
            good = self.answered <= self.good
            if self.answered == self.interrupt_at:
                os.kill(os.getpid(), signal.SIGINT)
        if not good and self.then is not None:
            return self.then, {"error": "no more"}
        tensor = request["inputs"][0]
        data = tensor["data"] if good else [value + 1 for value in tensor["data"]]
        return 200, {"outputs": [{"name": "y", "datatype": "FP32", "shape": tensor["shape"], "data": data}]}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.reply(200, METADATA) if self.path == "/v2/models/m" else self.reply(404, {"error": "unknown"})

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.reply(*server.infer(json.loads(body)))

            def reply(self, status: int, document: dict[str, Any]) -> None:
                body = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None: ...

        return Handler


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine of a test may be busy: here a run is invalid only where a test says so."""
    for rule in ("LEAST_SENT_SHARE", "LEAST_LAG_LIMIT_US", "MOST_CPU_SHARE", "MOST_STEAL_SHARE"):
        monkeypatch.setattr(f"gateway.bench.validity.{rule}", 0.0 if rule.startswith("LEAST_SENT") else 1e12)


def bench(server: Server, *more: str) -> int:
    return main(["bench", "--model", "m", "--protocol", "rest_json", "--url", server.address, *QUICK, *more])


def test_a_good_run(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(server, "--json", "--variants", "2") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["valid"]
    assert result["outcomes"]["ok"] > 0
    assert set(result["outcomes"]) == {"none", "ok", "refused", "expired", "failed", "wrong"}
    assert result["asked"]["tensor_bytes"] == 8
    assert "generator" in result["cpu_us_per_request"]


@pytest.mark.parametrize(("then", "outcome"), [(503, "refused"), (504, "expired"), (500, "failed"), (None, "wrong")])
def test_answers_that_are_not_right_are_named_and_exit_1(
    server: Server, capsys: pytest.CaptureFixture[str], then: int | None, outcome: str
) -> None:
    server.good, server.then = 5, then
    assert bench(server, "--json", "--variants", "2") == 1
    result = json.loads(capsys.readouterr().out)
    assert result["outcomes"][outcome] > 0
    assert result["errors"]


def test_unchecked_answers_are_taken_as_they_are(server: Server) -> None:
    server.good = 5
    assert bench(server, "--variants", "2", "--no-check") == 0


def test_an_unknown_model_and_a_missing_server_exit_3(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(server, "--model", "other") == 3
    assert "unknown" in capsys.readouterr().err
    assert main(["bench", "--model", "m", "--protocol", "rest_json", "--url", "127.0.0.1:1", *QUICK]) == 3
    assert main(["bench", "--model", "m", "--url", "nonsense", *QUICK]) == 3


@pytest.mark.parametrize(
    "wrong", [["--shape", "x"], ["--shape", "x:3"], ["--pid", "x"], ["--rate", "0"], ["--data", "none.npz"],
              ["--integers-below", "0"], ["--slo-ms", "0"], ["--rows", "0"]],
)  # fmt: skip
def test_wishes_that_cannot_be_met_exit_2(server: Server, wrong: list[str]) -> None:
    assert bench(server, *wrong) == 2


def test_an_invalid_run_exits_4(server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setattr("gateway.bench.validity.MOST_CPU_SHARE", -1.0)
    assert bench(server) == 4
    assert "INVALID" in capsys.readouterr().out


@pytest.mark.parametrize("option", [["--seconds", "0"], ["--seconds", "nan"], ["--rate", "0"], ["--rate", "inf"]])
def test_a_run_of_no_time_or_no_rate_is_refused(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--model", "m", "--rate", "10", "--url", "127.0.0.1:1", *option]) == 2
    assert "must be above 0" in capsys.readouterr().err


@pytest.mark.parametrize(("warmup", "planned"), [("0", True), ("50", False)])
def test_ctrl_c_ends_a_run_with_a_report_that_says_invalid(
    server: Server, capsys: pytest.CaptureFixture[str], warmup: str, planned: bool
) -> None:
    server.interrupt_at = 25
    before = signal.getsignal(signal.SIGINT)
    command = ["bench", "--json", "--model", "m", "--protocol", "rest_json", "--url", server.address, *QUICK]
    assert main([*command, "--seconds", "50", "--warmup", warmup, "--rate", "30"]) == 4
    result = json.loads(capsys.readouterr().out)
    assert not result["valid"]
    assert any("interrupted" in reason for reason in result["invalid_because"])
    assert bool(sum(result["outcomes"].values())) is planned
    assert result["outcomes"]["none"] == 0
    assert server.answered < 100, "nothing is sent after Ctrl-C"
    assert signal.getsignal(signal.SIGINT) is before
