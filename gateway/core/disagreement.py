"""Sums up how far two versions' answers were apart: by output, over all requests and by segment.

Invariants: memory is bounded (segments, the ring of the worst); sums are of finite numbers only, infinite errors are
counted apart.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from typing import Any

import numpy as np

from gateway.core.comparing import RowErrors

MOST_SEGMENTS = 20
MOST_WORST = 20
OTHER = "_other"


class Tally:
    """One output's, over some requests."""

    __slots__ = (
        "different",
        "infinite",
        "largest",
        "least_cosine",
        "nan_candidate",
        "nan_stable",
        "relative_largest",
        "requests",
        "rows",
        "rows_different",
        "rows_flipped",
        "sum_cosine",
        "sum_mean",
        "sum_relative",
        "sum_top_k",
    )  # fmt: skip

    def __init__(self, document: Mapping[str, Any] | None = None) -> None:
        found = document or {}
        for name in self.__slots__:
            setattr(self, name, found.get(name, 1.0 if name == "least_cosine" else 0))

    def add(self, errors: RowErrors, requests: int, different: int) -> None:
        """Takes the rows of `requests` requests, of which `different` were not the same."""
        self.requests += requests
        self.different += different
        self.rows += len(errors.same)
        self.rows_different += int(len(errors.same) - np.count_nonzero(errors.same))
        self.rows_flipped += int(np.count_nonzero(errors.flipped))
        self.nan_stable += int(np.count_nonzero(errors.stable_nan))
        self.nan_candidate += int(np.count_nonzero(errors.candidate_nan))
        finite = np.isfinite(errors.mean) & np.isfinite(errors.relative_mean) & np.isfinite(errors.largest)
        self.infinite += int(len(finite) - np.count_nonzero(finite))
        self.sum_mean += float(errors.mean[finite].sum())
        self.sum_relative += float(errors.relative_mean[finite].sum())
        self.largest = max(self.largest, float(errors.largest[finite].max(initial=0.0)))
        self.relative_largest = max(self.relative_largest, float(errors.relative_largest[finite].max(initial=0.0)))
        self.sum_cosine += float(errors.cosine.sum())
        self.least_cosine = min(self.least_cosine, float(errors.cosine.min(initial=1.0)))
        self.sum_top_k += float(errors.top_k.sum())

    def document(self) -> dict[str, Any]:
        """Returns the sums, from which a tally can be made again."""
        return {name: getattr(self, name) for name in self.__slots__}

    def summary(self) -> dict[str, Any]:
        """Returns what a person wants to know: means over rows, extremes and shares."""
        rows = max(1, self.rows)
        finite = max(1, self.rows - self.infinite)
        return {
            "requests": self.requests,
            "different": self.different,
            "rows": self.rows,
            "max_absolute": self.largest,
            "mean_absolute": self.sum_mean / finite,
            "max_relative": self.relative_largest,
            "mean_relative": self.sum_relative / finite,
            "cosine_mean": self.sum_cosine / rows,
            "cosine_min": self.least_cosine,
            "top_k_agreement": self.sum_top_k / rows,
            "label_flip_rate": self.rows_flipped / rows,
            "nan_share_stable": self.nan_stable / rows,
            "nan_share_candidate": self.nan_candidate / rows,
            "not_finite_rows": self.infinite,
        }

    different: int
    infinite: int
    largest: float
    least_cosine: float
    nan_candidate: int
    nan_stable: int
    relative_largest: float
    requests: int
    rows: int
    rows_different: int
    rows_flipped: int
    sum_cosine: float
    sum_mean: float
    sum_relative: float
    sum_top_k: float


class Disagreement:
    """All outputs, all segments, and the worst requests."""

    def __init__(self, document: Mapping[str, Any] | None = None) -> None:
        found = document or {}
        self.requests: int = found.get("requests", 0)
        self.different: int = found.get("different", 0)
        self.failed: int = found.get("failed", 0)
        """Copies that the candidate did not answer although stable had; they are among the different."""
        self._tallies: dict[tuple[str, str], Tally] = {
            (item["segment"], item["output"]): Tally(item["sums"]) for item in found.get("tallies", ())
        }
        self._serial = 0
        self._worst: list[tuple[float, int, dict[str, Any]]] = []
        for item in found.get("worst", ()):
            self.bad(float(item["error"]), dict(item))

    def segment(self, name: str) -> str:
        """Returns the name under which a segment is counted: there are not more than so many."""
        known = {segment for segment, _ in self._tallies}
        return name if not name or name in known or len(known) <= MOST_SEGMENTS else OTHER

    def tally(self, segment: str, output: str) -> Tally:
        """Returns where to count; the segment "" is everything."""
        return self._tallies.setdefault((segment, output), Tally())

    def bad(self, error: float, what: dict[str, Any]) -> None:
        """Keeps a request that differed if it is among the worst."""
        self._serial += 1
        item = (error, -self._serial, what | {"error": error})
        if len(self._worst) < MOST_WORST:
            heapq.heappush(self._worst, item)
        elif item > self._worst[0]:
            heapq.heapreplace(self._worst, item)

    @property
    def worst(self) -> list[dict[str, Any]]:
        """The requests that differed most, the worst first."""
        return [what for _, _, what in sorted(self._worst, key=lambda item: item[:2], reverse=True)]

    def summary(self) -> dict[str, Any]:
        """Returns everything by output and by segment."""
        outputs = {output: tally.summary() for (segment, output), tally in self._tallies.items() if not segment}
        segments: dict[str, dict[str, Any]] = {}
        for (segment, output), tally in sorted(self._tallies.items()):
            if segment:
                segments.setdefault(segment, {})[output] = tally.summary()
        return {
            "requests": self.requests,
            "different": self.different,
            "failed": self.failed,
            "outputs": outputs,
            "segments": segments,
        }

    def document(self) -> dict[str, Any]:
        """Returns everything for a file; what was infinite is written as a large number."""
        return {
            "requests": self.requests,
            "different": self.different,
            "failed": self.failed,
            "tallies": [
                {"segment": segment, "output": output, "sums": tally.document()}
                for (segment, output), tally in self._tallies.items()
            ],
            "worst": self.worst,
        }
