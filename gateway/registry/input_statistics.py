"""What a manifest's `input_statistics` says: what each input was like at calibration, for the gateway to compare with.

Decides what is usable: a histogram whose edges rise and whose shares add up to 1. `mean`, `std` and `zero_share` are
for people; the gateway uses the rest.
"""

from __future__ import annotations

from itertools import pairwise

from gateway.registry.document import Reader
from gateway.versions import ElementHistogram, InputStatistics

MOST_EDGES = 64
MOST_COLUMNS = 64
MOST_INPUTS = 1024
_ANY = 1e300
_FOR_PEOPLE = ("mean", "std", "zero_share")


def parse_input_statistics(reader: Reader, key: str, inputs: set[str]) -> tuple[InputStatistics, ...]:
    """Returns the statistics in the object at `key`, by input; none if it is missing.

    `inputs` are the names that the version has.
    """
    found = []
    if not reader.has(key):
        return ()
    outer = reader.child(key)
    for name in list(reader.mapping(key))[:MOST_INPUTS]:
        if name not in inputs:
            outer.problem(name, "is not an input of the version")
        found.append(_one(outer.child(name), name))
    return tuple(found)


def _one(reader: Reader, name: str) -> InputStatistics:
    for key in _FOR_PEOPLE:
        if reader.has(key):
            reader.number(key, minimum=-_ANY)
    if reader.has("elements"):
        reader.integer("elements", minimum=1)
    rows = reader.integer("rows", minimum=1)
    low, high = reader.number("min", minimum=-_ANY), reader.number("max", minimum=-_ANY)
    if low > high:
        reader.problem("min", "is above max")
    vocabulary = reader.integer("vocabulary", minimum=1) if reader.has("vocabulary") else None
    histogram = _histogram(reader.child("histogram"))
    columns = tuple(_histogram(one) for one in reader.objects("columns", required=False))
    if len(columns) > MOST_COLUMNS:
        reader.problem("columns", f"must be at most {MOST_COLUMNS}")
    reader.close()
    return InputStatistics(name, histogram, rows, low, high, vocabulary, columns)


def _histogram(reader: Reader) -> ElementHistogram:
    edges, shares = reader.numbers("edges", most=MOST_EDGES), reader.numbers("shares", most=MOST_EDGES + 1)
    if any(a >= b for a, b in pairwise(edges)):
        reader.problem("edges", "must rise")
    if len(shares) != len(edges) + 1:
        reader.problem("shares", "must be one more than the edges")
    elif any(share < 0 for share in shares) or abs(sum(shares) - 1) > 1e-3:
        reader.problem("shares", "must be at least 0 and add up to 1")
    reader.close()
    return ElementHistogram(edges, shares)
