"""What moved between two results of `make bench`, beyond noise.

    python -m benchmarks.compare OLD.json NEW.json

A figure moved when the 95 % bootstrap interval of new / old leaves 1 out and the change is more than 3 %. Ratios to
direct Triton are compared first: they were taken side by side, so they survive another machine or another day.
Absolute figures are listed apart, and only for the same machine. Exit codes: 0 nothing got worse, 1 something did,
2 bad usage.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import intervals

LEAST_CHANGE = 0.03


@dataclass(frozen=True, slots=True)
class Moved:
    """One figure in both results; `change` is new / old with its interval."""

    what: str
    kind: str
    change: float
    low: float
    high: float
    higher_is_better: bool

    @property
    def significant(self) -> bool:
        return (self.low > 1 or self.high < 1) and abs(self.change - 1) > LEAST_CHANGE

    @property
    def worse(self) -> bool:
        return self.significant and (self.change < 1) == self.higher_is_better


def compare(old: dict[str, Any], new: dict[str, Any]) -> list[Moved]:
    """Returns every figure that both results have, ratios first."""
    same_machine = old.get("machine") == new.get("machine")
    return [
        Moved(what, kind, *intervals.change(before, after), higher)
        for what, kind, before, after, higher in _figures(old, new)
        if kind == "ratio" or same_machine
    ]


def _figures(
    old: dict[str, Any], new: dict[str, Any]
) -> Iterator[tuple[str, str, Sequence[float], Sequence[float], bool]]:
    for key, ratio in old.get("ratios", {}).items():
        if key in new.get("ratios", {}):
            yield key, "ratio", ratio["pairs"], new["ratios"][key]["pairs"], True
    for key, arm in old.get("arms", {}).items():
        if key in new.get("arms", {}):
            before, after = arm["requests_per_second"], new["arms"][key]["requests_per_second"]
            yield f"{key}, requests/s", "absolute", before, after, True
    for key, sample in old.get("samples", {}).items():
        if key in new.get("samples", {}):
            yield key, "absolute", sample["values"], new["samples"][key]["values"], sample["better"] == "higher"


def table(found: Sequence[Moved]) -> str:
    """Returns the comparison for people."""
    lines = [f"{'figure':44s} {'kind':9s} {'new / old':>9s}  {'95 % interval':>15s}"]
    for moved in found:
        word = "" if not moved.significant else ("WORSE" if moved.worse else "better")
        interval = f"{moved.low:.3f} - {moved.high:.3f}"
        lines.append(f"{moved.what:44s} {moved.kind:9s} {moved.change:9.3f}  {interval:>15s}  {word}")
    count = sum(moved.significant for moved in found)
    lines.append(
        f"{count} of {len(found)} figures moved beyond noise, {sum(moved.worse for moved in found)} for the worse"
    )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the comparison and returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parsed = parser.parse_args(arguments)
    try:
        old, new = (json.loads(path.read_text()) for path in (parsed.old, parsed.new))
        found = compare(old, new)
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"compare: {error}", file=sys.stderr)
        return 2
    if old.get("machine") != new.get("machine"):
        print("measured on different machines: ratios only")
    print(table(found))
    return 1 if any(moved.worse for moved in found) else 0


if __name__ == "__main__":
    raise SystemExit(main())
