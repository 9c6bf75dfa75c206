"""Journal and verdict: nothing is rounded away, and the run fails exactly when a limit is broken."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from loadtests import run, versions
from loadtests.journal import Journal
from loadtests.page import page
from loadtests.verdict import EXIT_CODES, judge

LIMITS: dict[str, Any] = {
    "all": {"failed_share": 0.0, "least_per_second": 5.0},
    "phases": {"soak": {"p99": 50}, "absent": {"p99": 1}},
    "names": {"REST m": {"p95": 40}},
    "generator": {"lag_p99": 100},
}


def journal(*, failures: int = 0, slow_ms: float = 10.0, lag_ms: float = 1.0) -> dict[str, Any]:
    kept = Journal()
    for index in range(100):
        kept.note(index / 10, "REST m" if index % 2 else "gRPC m", slow_ms, None)
    for index in range(failures):
        kept.note(index / 10, "REST m", 1.0, "wrong answer")
    kept.users(3.0, 7)
    kept.lags_ms = [lag_ms] * 10
    return kept.document([("ramp", 0, 5), ("soak", 5, 10)])


def test_a_journal_counts_by_second_name_and_phase() -> None:
    document = journal(failures=2)
    assert [second["right"] for second in document["series"]] == [10] * 10
    assert sum(second["failed"] for second in document["series"]) == 2
    assert document["series"][3]["users"] == 7
    assert (document["names"]["REST m"]["right"], document["names"]["REST m"]["failed"]) == (50, 2)
    assert document["names"]["gRPC m"]["failed"] == 0
    assert document["phases"]["soak"]["right"] == 50
    assert document["errors"] == {"REST m: wrong answer": 2}


def test_latencies_keep_three_digits() -> None:
    assert journal(slow_ms=123.4)["phases"]["soak"]["p99"] == pytest.approx(123.4, rel=1e-3)


def test_a_run_within_its_limits_passes() -> None:
    judged = judge(journal(), LIMITS, [{"what": "swap", "ok": True, "detail": "done"}])
    assert judged["verdict"] == "passed"
    assert all(check["ok"] for check in judged["checks"])


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        ({"failures": 1}, "share of failed requests"),
        ({"slow_ms": 60.0}, "soak: p99, ms"),
        ({"slow_ms": 45.0}, "REST m: p95, ms"),
    ],
)
def test_a_broken_limit_fails_the_run(change: dict[str, Any], broken: str) -> None:
    judged = judge(journal(**change), LIMITS, [])
    assert judged["verdict"] == "failed"
    assert broken in [check["what"] for check in judged["checks"] if not check["ok"]]


def test_a_swap_that_did_not_happen_fails_the_run() -> None:
    assert judge(journal(), LIMITS, [{"what": "swap", "ok": False, "detail": "no"}])["verdict"] == "failed"


def test_a_generator_at_its_limit_makes_the_run_invalid_not_failed() -> None:
    assert judge(journal(lag_ms=101.0, failures=3), LIMITS, [])["verdict"] == "invalid"
    assert judge(Journal().document([]), LIMITS, [])["verdict"] == "invalid"
    assert EXIT_CODES == {"passed": 0, "failed": 1, "invalid": 4}


def test_a_limit_that_means_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="p97"):
        judge(journal(), {"phases": {"soak": {"p97": 1}}}, [])
    with pytest.raises(ValueError, match="share"):
        judge(journal(), {"all": {"share": 1}}, [])


def test_the_committed_limits_are_understood() -> None:
    limits = tomllib.loads(Path(run.THRESHOLDS).read_text())
    broken = [check["what"] for check in judge(journal(), limits, [])["checks"] if not check["ok"]]
    assert broken == ["right answers/s"]  # ten a second are few


@pytest.mark.parametrize("failures", [0, 3])
def test_the_report_is_one_file_with_verdict_checks_and_errors(failures: int) -> None:
    document = journal(failures=failures)
    html = page(document, judge(document, LIMITS, []), {"title": "T <x>", "lines": ["a & b"]})
    assert ("Passed" in html) == (failures == 0)
    assert "T &lt;x&gt;" in html
    assert "a &amp; b" in html
    assert html.count("<svg") == 4
    assert ("wrong answer" in html) == (failures > 0)
    assert not re.search(r"(src|href)=", html)


def test_an_interrupted_run_is_invalid_whatever_it_showed() -> None:
    for kept in (journal(), journal(failures=2)):
        judged = judge(kept, LIMITS, [], interrupted=True)
        assert judged["verdict"] == "invalid"
        assert "interrupted" in [check["found"] for check in judged["checks"]]


METRICS = """
sluice_requests_total{model="wide_deep",version="2",protocol="grpc",outcome="ok"} 40
sluice_requests_total{model="wide_deep",version="2",protocol="rest_json",outcome="ok"} 2
sluice_requests_total{model="wide_deep",version="3",protocol="grpc",outcome="ok"} 7
sluice_requests_total{model="wide_deep",version="3",protocol="grpc",outcome="overloaded"} 9
sluice_requests_total{model="minilm",version="3",protocol="grpc",outcome="ok"} 5
"""


def test_right_answers_are_counted_by_version() -> None:
    assert versions.count(METRICS) == {2: 42, 3: 7}
