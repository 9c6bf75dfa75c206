"""The access log: what a line says, which requests get one, and that writing holds nobody up."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ErrorCode
from gateway.messages import RequestContext
from gateway.ports import Observer
from gateway.routes import RouteDecision
from gateway.telemetry.access_log import AccessLog
from gateway.telemetry.log_writer import LogWriter
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.observers import Observers, combined
from gateway.versions import ModelVersion, VersionState
from tests.support.clock import ManualClock

SECOND = 1_000_000_000
V1 = ModelVersion("m", 1)


class Kept:
    """Stands where the writer would be and keeps the lines."""

    def __init__(self) -> None:
        self.lines: list[dict[str, object]] = []

    def write(self, chunk: bytes) -> bool:
        assert chunk.endswith(b"\n")
        self.lines += [json.loads(line) for line in chunk.splitlines()]
        return True


class World:
    def __init__(self, **limits: int) -> None:
        self.clock = ManualClock()
        self.kept = Kept()
        wall = 1_700_000_000 * SECOND - self.clock.now()
        self.log = AccessLog(self.kept, self.clock, lambda: wall + self.clock.now(), **limits)  # type: ignore[arg-type]
        self.log.start()

    def request(self, code: ErrorCode | None = None, name: str = "m", **more: str) -> None:
        now = self.clock.now()
        context = RequestContext("id-1", now - 2_000_000, now, "grpc", principal=more.get("principal"))
        context.trace = more.get("trace")
        version = V1 if name == "m" else None
        self.log.request_done(context, version, code, 3, 500_000, now, name, more.get("message", ""))


def test_a_line_says_what_happened() -> None:
    world = World()
    world.request()
    world.request(ErrorCode.BACKEND_FAILED, principal="p", trace="t", message="why")
    assert world.kept.lines == []
    world.clock.advance(SECOND)
    assert world.kept.lines == [
        {
            "time": "2023-11-14T22:13:20.000000Z", "id": "id-1", "protocol": "grpc", "model": "m", "version": 1,
            "rows": 3, "outcome": "ok", "latency_us": 2000, "queue_us": 500,
        },
        {
            "time": "2023-11-14T22:13:20.000000Z", "id": "id-1", "protocol": "grpc", "model": "m", "version": 1,
            "rows": 3, "outcome": "backend_failed", "latency_us": 2000, "queue_us": 500, "principal": "p", "trace": "t",
            "message": "why",
        },
    ]  # fmt: skip


def test_a_batch_gets_lines_as_far_as_the_budget_reaches_and_the_rest_is_counted() -> None:
    one, many = World(lines_per_second=25), World(lines_per_second=25)
    for world in (one, many):
        world.request()
        now = world.clock.now()
        contexts = [RequestContext(f"id-{n}", now - 2_000_000 - n, now, "grpc") for n in range(10)]
        rows, dispatched = list(range(1, 11)), now - 500_000
        if world is many:
            observer: Observer = world.log
            observer.requests_done(V1, contexts, rows, dispatched, now)
        else:
            for context, own in zip(contexts, rows, strict=True):
                world.log.request_done(context, V1, None, own, dispatched - context.received_at, now, "m")
        world.clock.advance(SECOND)
    assert many.kept.lines == one.kept.lines
    assert [line.get("rows") for line in many.kept.lines] == [3, 1, 2, 3, None]
    assert many.kept.lines[-1]["successes"] == 7


@pytest.mark.parametrize(
    ("decision", "fields"),
    [
        (RouteDecision(1, -1, 17, "candidate", "r1"), ("r1", "candidate", None, 17)),
        (RouteDecision(1, 2, -1, "", "r1"), ("r1", "", 2, None)),
        (RouteDecision(1, 0, -1, "candidate", "r1"), ("r1", "candidate", 0, None)),
    ],
)
def test_a_line_says_how_it_was_routed(decision: RouteDecision, fields: tuple[object, ...]) -> None:
    world = World()
    now = world.clock.now()
    context = RequestContext("id-1", now, now, "grpc")
    context.decision = decision
    world.log.request_done(context, V1, None, 1, 0, now, "m")
    world.clock.advance(SECOND)
    line = world.kept.lines[0]
    assert tuple(line[name] for name in ("release", "arm", "rule", "bucket")) == fields


@given(st.text(max_size=400), st.text(max_size=400))
def test_no_text_of_a_client_breaks_a_line(name: str, message: str) -> None:
    world = World()
    world.request(ErrorCode.MODEL_NOT_FOUND, name=name + "\ud800\n", message=message + "\ud800")
    world.clock.advance(SECOND)
    assert len(world.kept.lines) == 1
    assert len(str(world.kept.lines[0]["model"])) <= 256


@given(st.integers(1, 60), st.lists(st.tuples(st.integers(0, 400), st.booleans()), max_size=30))
def test_never_more_lines_a_second_than_allowed_and_all_are_accounted_for(
    limit: int, load: list[tuple[int, bool]]
) -> None:
    world = World(lines_per_second=limit, repeats_per_second=3)
    total = 0
    for number, failing in load:
        for _ in range(number):
            world.request(ErrorCode.OVERLOADED if failing else None)
        total += number
        world.clock.advance(SECOND // 10)
    world.clock.advance(2 * SECOND)
    written = [line for line in world.kept.lines if "event" not in line]
    hidden = 0
    for line in world.kept.lines:
        if "event" in line:
            failures = line["failures"]
            assert isinstance(failures, dict)
            assert isinstance(line["successes"], int)
            hidden += line["successes"] + sum(failures.values())
    assert len(written) + hidden == total
    seconds = -(-len(load) // 10) + 1
    assert len(written) <= limit * seconds


def test_a_flood_of_successes_does_not_hide_failures() -> None:
    world = World(lines_per_second=50)
    for _ in range(1000):
        world.request()
    world.request(ErrorCode.BACKEND_FAILED)
    world.clock.advance(SECOND)
    assert [line for line in world.kept.lines if line.get("outcome") == "backend_failed"]


def test_repeats_are_limited_by_model_and_code_and_summed_up() -> None:
    world = World(repeats_per_second=2)
    for _ in range(10):
        world.request(ErrorCode.OVERLOADED)
        world.request(ErrorCode.MODEL_NOT_FOUND, name="nobody")
        world.request(ErrorCode.INTERNAL)
    world.clock.advance(SECOND)
    outcomes = [line["outcome"] for line in world.kept.lines if "outcome" in line]
    assert sorted(map(str, outcomes)) == ["internal"] * 2 + ["model_not_found"] * 2 + ["overloaded"] * 2
    summary = [line for line in world.kept.lines if line.get("event") == "suppressed"]
    assert [line["failures"] for line in summary] == [
        {"m: overloaded": 8, "_unknown: model_not_found": 8, "m: internal": 8}
    ]
    # The next second has its own lines.
    world.request(ErrorCode.OVERLOADED)
    world.clock.advance(SECOND)
    assert world.kept.lines[-1]["outcome"] == "overloaded"


def test_stopping_hands_over_what_is_left() -> None:
    world = World(lines_per_second=5)
    for _ in range(3):
        world.request()
    world.log.stop()
    assert [line.get("outcome", "suppressed") for line in world.kept.lines] == ["ok", "suppressed"]
    assert world.clock.timers == 0


def test_observers_pass_everything_on() -> None:
    world = World()
    metrics = Metrics(world.clock.now, (1000,))
    observer: Observer = combined(metrics, world.log)
    assert isinstance(observer, Observers)
    assert combined(metrics, None) is metrics
    now = world.clock.now()
    observer.request_done(RequestContext("r", now, now, "grpc"), V1, None, 1, 0, now, "m")
    observer.batch_done(V1, 1, 1, "idle", 5, True)
    observer.version_state(V1, VersionState.READY, "")
    world.clock.advance(SECOND)
    assert len(world.kept.lines) == 1
    assert metrics.totals()[V1].requests == metrics.totals()[V1].batches == 1
    assert metrics.states[V1] == (VersionState.READY, "")


# ---------------------------------------------------------------------- the writer


def test_the_file_is_appended_to_and_rotated(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "access.log"
    for text in (b"a" * 9, b"b" * 9):
        writer = LogWriter(str(path), 25, 2)
        writer.write(text + b"\n")
        writer.close()
    assert path.read_bytes() == b"a" * 9 + b"\n" + b"b" * 9 + b"\n"
    writer = LogWriter(str(path), 25, 2)
    for letter in (b"c", b"d", b"e", b"f", b"g", b"h"):
        writer.write(letter * 9 + b"\n")
    writer.close()
    assert sorted(p.name for p in path.parent.iterdir()) == ["access.log", "access.log.1", "access.log.2"]
    assert [p.read_bytes().replace(b"\n", b"")[::9] for p in sorted(path.parent.iterdir())] == [b"gh", b"ef", b"cd"]
    bare = LogWriter(str(tmp_path / "bare.log"), 15, 0)
    bare.write(b"a" * 10)
    bare.write(b"b" * 10)
    bare.close()
    assert (tmp_path / "bare.log").read_bytes() == b"b" * 10
    assert not (tmp_path / "bare.log.1").exists()


def test_a_file_that_cannot_be_opened_is_said_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        LogWriter(str(tmp_path / "file" / "access.log"), 1000, 1)


def test_a_stalled_disk_drops_lines_and_holds_nobody_up(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    writer = LogWriter(str(pipe), 1 << 40, 0)
    accepted = sum(writer.write(b"x" * 65536) for _ in range(200))
    assert accepted < 200
    assert writer.dropped == 200 - accepted
    os.close(reader)  # the blocked write fails now, and with it the thread's wait
    writer.close()


def test_a_failing_write_is_reported_once_and_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "logs"
    path = folder / "access.log"
    writer = LogWriter(str(path), 5, 1)
    writer.write(b"12345\n")
    with caplog.at_level(logging.ERROR, "sluice.access_log"):
        # Rotation fails while a folder that is not empty stands in its way.
        blocker = folder / "access.log.1"
        (blocker / "x").mkdir(parents=True)
        for _ in range(3):
            writer.write(b"12345\n")
        writer.close()
    assert writer.dropped == 3
    assert [record.message for record in caplog.records if "cannot be written" in record.message] != []
    assert len(caplog.records) == 1
