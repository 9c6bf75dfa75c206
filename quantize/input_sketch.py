"""A sample of one input's elements, for the histogram in the manifest that the gateway compares live inputs with.

Decides the bins: tenths of the calibration's elements, equal edges once, so that a value which many elements have
gets a bin of its own. Memory is bounded: at most `MOST_ROWS` rows of `ROW_ELEMENTS` elements; of more rows every
second, every fourth … is kept. Deterministic.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantize.graph import TensorSpec

MOST_ROWS = 4096
ROW_ELEMENTS = 64
BINS = 10
_STEP = 7919
"""A prime, as in the gateway's sampling: the places that are looked at go round all of a row's places."""


@dataclass(slots=True)
class InputSketch:
    """Owns the sampled rows of one input."""

    seen: int = 0
    every: int = 1
    longest: int = 0
    rows: list[NDArray[np.float64]] = field(default_factory=list)

    def add(self, row: NDArray[Any]) -> None:
        """Takes a sample of one row, if it is its turn."""
        self.seen += 1
        if self.seen % self.every:
            return
        elements = row.reshape(-1)
        self.longest = max(self.longest, elements.size)
        step = max(1, elements.size // ROW_ELEMENTS)
        self.rows.append(elements[self.seen * _STEP % step :: step][:ROW_ELEMENTS].astype(np.float64))
        if len(self.rows) >= MOST_ROWS:
            self.rows = self.rows[1::2]
            self.every *= 2

    def histogram(self) -> dict[str, list[float]]:
        """Returns edges and shares of all elements as the manifest has them."""
        return _histogram(np.concatenate(self.rows))

    def columns(self) -> list[dict[str, list[float]]]:
        """Returns the same of each element's place, where all rows are equally long and short enough."""
        width = self.rows[0].size
        if not 1 < width <= ROW_ELEMENTS or self.longest > ROW_ELEMENTS or any(r.size != width for r in self.rows):
            return []
        return [_histogram(column) for column in np.stack(self.rows, axis=1)]


def _histogram(elements: NDArray[np.float64]) -> dict[str, list[float]]:
    edges = np.unique(np.quantile(elements, np.arange(1, BINS) / BINS, method="inverted_cdf"))
    if len(edges) == 1:  # nearly constant: what is below must not share its bin
        edges = np.array([np.nextafter(edges[0], -np.inf), edges[0]])
    shares = np.bincount(edges.searchsorted(elements), minlength=len(edges) + 1) / len(elements)
    return {"edges": [float(e) for e in edges], "shares": [round(float(s), 6) for s in shares]}


def live_statistics(
    inputs: dict[str, Any], specs: list[TensorSpec], vocabularies: dict[str, int]
) -> dict[str, dict[str, Any]]:
    """Returns the manifest's `input_statistics`; `inputs` are `data_checks.InputStatistics` by name."""
    found = {}
    for spec in specs:
        one = inputs.get(spec.name)
        if one is None or not one.elements.rows or spec.dtype.kind not in "fiub":
            continue
        plain = one.as_dict()
        found[spec.name] = {
            "rows": len(one.elements.rows),
            "elements": one.count,
            **{key: plain[key] for key in ("min", "max", "mean", "std", "zero_share")},
            **({"vocabulary": vocabularies[spec.name]} if spec.name in vocabularies else {}),
            "histogram": one.elements.histogram(),
        }
        if None not in spec.dims[1:] and (columns := one.elements.columns()):
            found[spec.name]["columns"] = columns
    return found
