"""The ledger of a data set, jobs that it refuses, and noise for aggregates."""

from __future__ import annotations

import asyncio
import statistics
import threading
from pathlib import Path

import pytest

from jobs.privacy import aggregates
from jobs.privacy.ledger import BudgetExceeded, Entry, Ledger
from tests.jobs.world import shell, world


def entry(key: str, epsilon: float) -> Entry:
    return Entry(key=key, epsilon=epsilon, delta=1e-6, by="ada", what="a job", at="2026-11-25T00:00:00+00:00")


def test_the_budget_is_never_exceeded(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path), "adult")
    with pytest.raises(BudgetExceeded, match="no budget"):
        ledger.spend(entry("a", 1.0))
    ledger.set_budget(3.0, 1e-4)
    ledger.spend(entry("a", 2.0))
    ledger.spend(entry("a", 2.0))  # the same job again
    with pytest.raises(BudgetExceeded, match=r"epsilon 1.5, .* asked for, 1 and"):
        ledger.spend(entry("b", 1.5))
    with pytest.raises(BudgetExceeded, match="spent already"):
        ledger.set_budget(1.0, 1e-4)
    ledger.spend(entry("b", 1.0))
    assert [e["key"] for e in ledger.read()["entries"]] == ["a", "b"]
    assert ledger.read()["left"]["epsilon"] == pytest.approx(0.0)


def test_writers_at_once_spend_what_there_is_and_no_more(tmp_path: Path) -> None:
    Ledger(str(tmp_path), "adult").set_budget(5.0, 1e-4)
    outcomes: list[str] = []

    def spend(number: int) -> None:
        try:
            Ledger(str(tmp_path), "adult").spend(entry(str(number), 1.0))
            outcomes.append("spent")
        except BudgetExceeded:
            outcomes.append("refused")

    threads = [threading.Thread(target=spend, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["refused"] * 7 + ["spent"] * 5
    assert len(Ledger(str(tmp_path), "adult").read()["entries"]) == 5


def test_a_job_over_the_budget_never_starts(tmp_path: Path) -> None:
    (tmp_path / "registry").mkdir()
    Ledger(str(tmp_path / "registry"), "adult").set_budget(5.0, 1e-4)
    spends = {"privacy": {"dataset": "adult", "epsilon": 4.0, "registry": str(tmp_path / "registry")}}
    ran = tmp_path / "ran"

    async def story() -> None:
        async with world(tmp_path) as w:
            # Its first attempt is interrupted: the second spends nothing more.
            script = f"echo $SLUICE_PRIVACY_EPSILON $SLUICE_PRIVACY_DELTA >> {ran}; test $SLUICE_ATTEMPT = 2 || exit 75"
            first = await w.ended(await w.submit(*shell(script), **spends))
            assert (first.state, first.attempts) == ("succeeded", 2)
            second = await w.ended(await w.submit(*shell(script), **spends, retries=3))
            assert (second.state, second.reason, second.attempts) == ("failed", "budget_exceeded", 1)
            assert "epsilon 4, delta 1e-05 asked for, 1 and" in second.detail

    asyncio.run(story())
    assert ran.read_text() == "4.0 1e-05\n" * 2


@pytest.mark.parametrize("delta", [0.0, 1e-6])
def test_noise_has_the_scale_that_the_budget_asks_for(delta: float) -> None:
    found = [aggregates.count(1000, epsilon=0.5, delta=delta) for _ in range(200)]
    spread = statistics.pstdev(noisy.value for noisy in found)
    expected = found[0].scale * (2**0.5 if delta == 0 else 1.0)
    assert found[0].mechanism == ("laplace" if delta == 0 else "gaussian")
    assert found[0].scale >= 2.0
    assert 0.8 * expected < spread < 1.25 * expected
    assert abs(statistics.fmean(noisy.value for noisy in found) - 1000) < 5 * expected / 200**0.5


def test_aggregates_stay_within_their_bounds() -> None:
    ages = [20.0] * 500 + [60.0] * 500 + [1e9]
    assert 0 <= aggregates.mean(ages, 0.0, 100.0, epsilon=0.01).value <= 100
    assert abs(aggregates.mean(ages, 0.0, 100.0, epsilon=50.0).value - 40.0) < 1.0
    counts = aggregates.histogram(["a"] * 300 + ["b"] * 20, ["a", "b", "c"], epsilon=20.0)
    assert [round(counts[name].value / 10) for name in "abc"] == [30, 2, 0]
    with pytest.raises(ValueError, match="bounds"):
        aggregates.total([1.0], 2.0, 2.0, epsilon=1.0)
    with pytest.raises(ValueError, match="above 0"):
        aggregates.count(1, epsilon=0.0)
