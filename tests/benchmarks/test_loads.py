"""How long a run is, and what counts as one."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from benchmarks import loads
from benchmarks.loads import LoadFailed, Measured, Pace, h2load

OUTPUT = """
finished in 1.25s, 8000.00 req/s, 1.00MB/s
requests: 10000 total, 10000 started, 10000 done, {succeeded} succeeded, {failed} failed, 0 errored, 0 timeout
traffic: 1.00MB (1000000) total, 100.00KB (100000) headers (space savings 90.00%), 500.00KB ({data}) data
time for request:      600us      9.00ms      1.50ms       500us    72.00%
"""


def answering(monkeypatch: pytest.MonkeyPatch, text: str) -> list[list[str]]:
    commands: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return subprocess.CompletedProcess(command, 0, text, "")

    monkeypatch.setattr(loads.subprocess, "run", run)
    return commands


def test_h2load_asks_for_a_number_of_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    commands = answering(monkeypatch, OUTPUT.format(succeeded=10000, failed=0, data=500000))
    measured = h2load("a:1", Path("p"), 10000, 4, 16, 50)
    assert (measured.rate, measured.answers, measured.seconds) == (8000, 10000, 1.25)
    assert measured.mean_latency_us == 1500
    assert "-n" in commands[0]
    assert "-D" not in commands[0]


@pytest.mark.parametrize(("succeeded", "failed", "data"), [(9000, 1000, 500000), (10000, 0, 499000), (0, 0, 0)])
def test_wrong_or_missing_answers_are_no_measurement(
    monkeypatch: pytest.MonkeyPatch, succeeded: int, failed: int, data: int
) -> None:
    answering(monkeypatch, OUTPUT.format(succeeded=succeeded, failed=failed, data=data))
    with pytest.raises(LoadFailed):
        h2load("a:1", Path("p"), 10000, 4, 16, 50)


def test_a_run_is_as_long_as_it_should_be_and_the_tries_come_before_it() -> None:
    pace, rate = Pace(), 1000.0
    asked: list[int] = []

    def shoot(requests: int) -> Measured:
        asked.append(requests)
        return Measured(rate, requests, requests / rate, 0.0, "")

    assert pace.run("arm", 2, 8, shoot).seconds == 2
    assert asked == [32, 256, 2048, 2000]
    rate = 500.0
    assert pace.run("arm", 2, 8, shoot).seconds == 4
    assert pace.run("arm", 2, 8, shoot).seconds == 2
    assert asked[4:] == [2000, 1000]
