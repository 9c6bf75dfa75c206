"""While versions change, the calling thread and the server's threads go first, and nothing that they start."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from gateway.backends import precedence
from gateway.backends.precedence import LINGER, Precedence, permitted
from tests.support.clock import ManualClock

_SERVER = """
import subprocess, sys, threading
threading.Thread(target=threading.Event().wait, daemon=True).start()
print("up", flush=True)
for line in sys.stdin:
    child = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
    print(child.pid, flush=True)
    sys.stdin.readline()
    child.communicate(b"x")
"""


@pytest.fixture
def clock() -> Iterator[ManualClock]:
    clock = ManualClock()
    yield clock
    clock.advance(LINGER)
    assert policy(0) == os.SCHED_OTHER


@pytest.fixture
def server() -> Iterator[subprocess.Popen[str]]:
    """A process with two threads that starts another one for each second line it gets."""
    command = [sys.executable, "-S", "-c", _SERVER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        yield process
        process.stdin.close()
        process.wait(10)


def policy(thread: int) -> int:
    return os.sched_getscheduler(thread) & ~os.SCHED_RESET_ON_FORK


def threads(process: subprocess.Popen[str]) -> list[int]:
    return [int(name) for name in os.listdir(f"/proc/{process.pid}/task")]


def test_threads_go_first_while_it_is_entered_and_a_little_longer(
    server: subprocess.Popen[str], clock: ManualClock
) -> None:
    first = os.SCHED_RR if permitted() else os.SCHED_OTHER
    assert len(threads(server)) == 2
    with Precedence(lambda: server.pid, clock), ThreadPoolExecutor(1) as workers:
        assert [policy(thread) for thread in (0, *threads(server))] == [first] * 3
        worker = workers.submit(threading.get_native_id).result(10)
        assert policy(worker) == os.SCHED_OTHER
    clock.advance(LINGER - 1)
    assert [policy(thread) for thread in (0, *threads(server))] == [first] * 3
    clock.advance(1)
    assert [policy(thread) for thread in (0, *threads(server))] == [os.SCHED_OTHER] * 3


def test_what_the_server_starts_does_not_go_first(server: subprocess.Popen[str], clock: ManualClock) -> None:
    assert server.stdin is not None
    assert server.stdout is not None
    with Precedence(lambda: server.pid, clock):
        server.stdin.write("start\n")
        server.stdin.flush()
        assert policy(int(server.stdout.readline())) == os.SCHED_OTHER
    server.stdin.write("end it\n")
    server.stdin.flush()


def test_changes_at_once_and_in_a_row_count_as_one(server: subprocess.Popen[str], clock: ManualClock) -> None:
    first = os.SCHED_RR if permitted() else os.SCHED_OTHER
    go_first = Precedence(lambda: server.pid, clock)
    with go_first:
        with go_first:
            pass
        clock.advance(2 * LINGER)
        assert policy(server.pid) == first
    clock.advance(LINGER // 2)
    with go_first:
        pass
    clock.advance(LINGER // 2)
    assert policy(server.pid) == first
    clock.advance(LINGER)
    assert policy(server.pid) == os.SCHED_OTHER


def test_what_somebody_chose_stays(server: subprocess.Popen[str], clock: ManualClock) -> None:
    os.sched_setscheduler(server.pid, os.SCHED_BATCH, os.sched_param(0))
    with Precedence(lambda: server.pid, clock):
        assert policy(server.pid) == os.SCHED_BATCH
    clock.advance(LINGER)
    assert policy(server.pid) == os.SCHED_BATCH


def test_a_server_that_is_gone_is_no_error(clock: ManualClock) -> None:
    with subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE) as process:
        with Precedence(lambda: process.pid, clock):
            process.communicate(b"x")
        pids = iter((process.pid, None))
        with Precedence(lambda: next(pids), clock), Precedence(lambda: next(pids), clock):
            pass
    clock.advance(LINGER)
    assert policy(0) == os.SCHED_OTHER


@pytest.mark.parametrize("refusal", [PermissionError(1, "not permitted"), OSError(22, "invalid argument")])
def test_without_permission_nothing_is_changed_and_nobody_fails(
    refusal: OSError,
    server: subprocess.Popen[str],
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    asked = []

    def refuse(thread: int, policy: int, parameter: os.sched_param) -> None:
        asked.append(thread)
        raise refusal

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1})
    go_first = Precedence(lambda: server.pid, clock)
    with caplog.at_level("INFO", "sluice.triton"):
        for _ in range(3):
            with go_first:
                pass
    assert len(asked) == 1, "it is not tried again and again"
    assert str(refusal) in caplog.text
    assert not permitted()


def test_one_processor_is_left_to_share_itself(clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0})
    assert not precedence.available()
    assert not permitted()
    with Precedence(lambda: None, clock):
        assert policy(0) == os.SCHED_OTHER
