"""The open loop: everything planned is sent whatever comes back, and what comes back is judged."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from gateway.bench import report
from gateway.bench.answers import decode_rest
from gateway.bench.channels import Model, OnAnswer, Outcome, TargetError
from gateway.bench.generator import Generator, Trace, ask_alone
from gateway.bench.plan import arrivals, order

RIGHT = json.dumps({"outputs": [{"name": "y", "datatype": "FP32", "shape": [1], "data": [1.0]}]}).encode()
OTHER = json.dumps({"outputs": [{"name": "y", "datatype": "FP32", "shape": [1], "data": [2.0]}]}).encode()


class ScriptedChannel:
    """Answers each token as `script` says: an outcome, a wrong body (WRONG), or nothing (NONE)."""

    def __init__(self, script: Sequence[Outcome] = ()) -> None:
        self.on_answer: OnAnswer = lambda *_: None
        self.decode = decode_rest
        self.script = script
        self.sent: list[tuple[Any, int]] = []

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def model(self, name: str, version: str) -> Model:
        raise AssertionError("not used")

    def prepare(self, *_: Any) -> Any:
        raise AssertionError("not used")

    def send(self, request: Any, token: int) -> None:
        self.sent.append((request, token))
        outcome = self.script[token] if token < len(self.script) else Outcome.OK
        body = OTHER if outcome is Outcome.WRONG else RIGHT
        said = Outcome.OK if outcome is Outcome.WRONG else outcome
        if outcome is not Outcome.NONE:
            asyncio.get_running_loop().call_soon(lambda: self.on_answer(token, said, body, None, f"said {said.name}"))


def go(script: Sequence[Outcome], requests: int = 20, patience: float = 0.0) -> tuple[ScriptedChannel, Trace, int]:
    channel = ScriptedChannel(script)
    windows = 0

    def window() -> None:
        nonlocal windows
        windows += 1

    async def main() -> Trace:
        alone = ScriptedChannel()
        expected = await ask_alone(alone, ["a", "b"])
        offsets = arrivals("constant", 2000, requests / 2000, 1)
        generator = Generator(channel, ["a", "b"], expected, offsets, order(requests, 2, 1), 5, window)
        return await generator.run(patience)

    return channel, asyncio.run(main()), windows


def test_everything_planned_is_sent_once_and_answered() -> None:
    channel, trace, windows = go([], patience=30)
    assert [token for _, token in channel.sent] == list(range(20))
    assert [request for request, _ in channel.sent] == ["ab"[index] for index in trace.payload]
    assert (trace.outcome == Outcome.OK).all()
    assert (trace.sent >= trace.planned).all()
    assert (trace.finished >= trace.sent).all()
    assert windows == 1


def test_each_outcome_is_told_apart() -> None:
    script = [Outcome.OK, Outcome.REFUSED, Outcome.EXPIRED, Outcome.FAILED, Outcome.WRONG]
    _, trace, _ = go(script, patience=30)
    assert trace.outcome[:5].tolist() == [int(outcome) for outcome in script]
    assert trace.messages["said REFUSED"] == 1
    assert any("differs" in message for message in trace.messages)


def test_silence_does_not_stop_the_sending_and_makes_the_run_invalid() -> None:
    channel, trace, _ = go([Outcome.NONE] * 20, patience=0.2)
    assert len(channel.sent) == 20
    assert (trace.outcome == Outcome.NONE).all()
    result = report.figures(trace, 5, 0.01, 1e6, {"generator": 0.0}, 1.0, 0.0)
    assert not result["valid"]
    assert result["outcomes"]["none"] == 15
    assert any("neither" in reason for reason in result["invalid_because"])


def test_a_server_that_refuses_a_single_request_is_no_target() -> None:
    class Refusing(ScriptedChannel):
        def send(self, request: Any, token: int) -> None:
            asyncio.get_running_loop().call_soon(lambda: self.on_answer(token, Outcome.REFUSED, b"", None, "too busy"))

    with pytest.raises(TargetError, match="too busy"):
        asyncio.run(ask_alone(Refusing(), ["a"]))


def trace_of(latency_ms: list[float], lag_ms: float = 0.0) -> Trace:
    """A trace at 100 requests/s, all right, with these latencies from the planned instant."""
    planned = np.arange(len(latency_ms), dtype=np.int64) * 10_000_000 + 1_000_000_000
    trace = Trace(planned, np.zeros(len(planned), np.int64))
    trace.sent = planned + int(lag_ms * 1e6)
    trace.finished = planned + (np.array(latency_ms) * 1e6).astype(np.int64)
    trace.outcome = np.full(len(planned), int(Outcome.OK), np.uint8)
    return trace


def test_latency_counts_from_the_planned_instant_and_lag_is_told() -> None:
    result = report.figures(trace_of([5.0] * 100, lag_ms=2.0), 0, 1.0, 10.0, {}, 1.0, 0.0)
    assert result["latency_us"]["p50"] == pytest.approx(5000, rel=1e-3)
    assert result["send_lag_us"]["p99"] == pytest.approx(2000, rel=1e-3)
    assert not result["valid"]


def test_goodput_counts_right_answers_in_time_only() -> None:
    trace = trace_of([5.0] * 50 + [50.0] * 50)
    trace.outcome = trace.outcome.copy()
    trace.outcome[:10] = Outcome.WRONG
    result = report.figures(trace, 0, 1.0, 10.0, {"generator": 0.1, "server": 0.05}, 1.0, 0.0)
    assert result["valid"]
    assert result["offered_per_second"] == 100
    assert result["goodput_per_second"] == 40
    assert result["outcomes"]["wrong"] == 10
    assert result["cpu_us_per_request"] == {"generator": 1000.0, "server": 500.0}


def test_the_text_says_the_verdict() -> None:
    asked = {
        "model": "m", "protocol": "grpc", "address": "a:1", "arrivals": "poisson", "rows": 1, "seconds": 1.0,
    }  # fmt: skip
    good = {"asked": asked} | report.figures(trace_of([1.0] * 100), 0, 1.0, 10.0, {}, 1.0, 0.0)
    bad = {"asked": asked} | report.figures(trace_of([1.0] * 100), 0, 1.0, 10.0, {"generator": 0.99}, 1.0, 0.0)
    assert report.text(good).endswith("valid")
    assert "INVALID" in report.text(bad)
    assert "own limit" in report.text(bad)
