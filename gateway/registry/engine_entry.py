"""What a manifest says of a compiled target (a TensorRT engine): by what it was built, for what, and for which shapes.

Decides what is a usable description; whether it fits a machine is for the gateway's pre-flight (`backends/device`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.registry.document import Reader

RUNTIMES = ("tensorrt", "tensorrt-rtx")
_VERSION = re.compile(r"[0-9]+(?:\.[0-9]+){1,3}")
_CAPABILITY = re.compile(r"[0-9]{1,2}\.[0-9]")


@dataclass(frozen=True, slots=True)
class ProfileEntry:
    """The optimization profile of one input: shapes with rows first where the version batches."""

    smallest: tuple[int, ...]
    best: tuple[int, ...]
    largest: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class EngineEntry:
    """An engine: `version` is the exact one of the runtime that built it, `compute_capability` the GPU's ("8.9").

    `version_compatible` engines also run on later versions of the same major one, `hardware_compatible` ones on every
    compute capability from 8.0.
    """

    runtime: str
    version: str
    compute_capability: str
    version_compatible: bool
    hardware_compatible: bool
    profiles: Mapping[str, ProfileEntry]


def parse_engine(reader: Reader) -> EngineEntry:
    """Returns the engine that `reader` stands on; problems are noted there."""
    runtime = reader.text("runtime")
    if reader.has("runtime") and runtime not in RUNTIMES:
        reader.problem("runtime", f"{runtime!r} is not one of {', '.join(RUNTIMES)}")
    version = _matching(reader, "version", _VERSION, 'a version such as "10.13.2"')
    capability = _matching(reader, "compute_capability", _CAPABILITY, 'a compute capability such as "8.9"')
    entry = EngineEntry(
        runtime,
        version,
        capability,
        reader.boolean("version_compatible", False),
        reader.boolean("hardware_compatible", False),
        _profiles(reader),
    )
    reader.close()
    return entry


def _profiles(reader: Reader) -> dict[str, ProfileEntry]:
    found: dict[str, ProfileEntry] = {}
    if not reader.has("profiles"):
        return found
    outer = reader.child("profiles")
    for name in reader.mapping("profiles"):
        inner = outer.child(name)
        smallest, best, largest = (inner.integers(key, minimum=1) for key in ("min", "opt", "max"))
        inner.close()
        if not len(smallest) == len(best) == len(largest):
            outer.problem(name, "min, opt and max must have equally many dimensions")
        elif any(not a <= b <= c for a, b, c in zip(smallest, best, largest, strict=True)):
            outer.problem(name, "must have min <= opt <= max in every dimension")
        found[name] = ProfileEntry(smallest, best, largest)
    return found


def _matching(reader: Reader, key: str, pattern: re.Pattern[str], what: str) -> str:
    value = reader.text(key)
    if reader.has(key) and not pattern.fullmatch(value):
        reader.problem(key, f"must be {what}")
    return value
