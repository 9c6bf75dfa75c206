"""Budgets that keep repeated work a small share of first attempts.

One budget guards re-runs of failed batches in halves, one guards retries of calls that never reached the
backend: when everything fails, the extra load stays under `ratio` of the ordinary load instead of multiplying it.
The idea is the retry budget of Finagle and linkerd; the counts here are integers, so that runs can be replayed.
"""

from __future__ import annotations


class RetryBudget:
    """A token bucket filled by first attempts: each deposits `percent` hundredths of a token, each repeat takes one."""

    __slots__ = ("_cap", "_hundredths", "_percent")

    def __init__(self, percent: int = 20, burst: int = 64) -> None:
        """`burst` tokens are there at the start and are the most that can be saved up."""
        if percent < 0 or burst < 0:
            raise ValueError("a retry budget's percent and burst must not be negative")
        self._percent = percent
        self._cap = burst * 100
        self._hundredths = self._cap

    def deposit(self, attempts: int) -> None:
        """Counts `attempts` first attempts."""
        self._hundredths = min(self._cap, self._hundredths + attempts * self._percent)

    def withdraw(self, repeats: int) -> bool:
        """Takes `repeats` tokens, all or none; returns whether they were there."""
        if self._hundredths < repeats * 100:
            return False
        self._hundredths -= repeats * 100
        return True

    def refund(self, repeats: int) -> None:
        """Gives tokens back for repeats that succeeded: they were worth it, so they do not count against the budget."""
        self._hundredths = min(self._cap, self._hundredths + repeats * 100)

    @property
    def available(self) -> int:
        """Whole tokens left."""
        return self._hundredths // 100
