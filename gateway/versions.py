"""Version nouns: which version of a model exists, in what state, and which of them gets traffic."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class ModelVersion:
    """One immutable version of a model: its public name and its number (1, 2, 3 …)."""

    model_name: str
    number: int

    def __str__(self) -> str:
        return f"{self.model_name}/{self.number}"


class VersionState(enum.Enum):
    """A version's life in this gateway: NEW -> LOADING -> WARMING -> READY -> DRAINING -> UNLOADED; FAILED from any."""

    NEW = "new"
    LOADING = "loading"
    WARMING = "warming"
    READY = "ready"
    DRAINING = "draining"
    UNLOADED = "unloaded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Route:
    """Where requests that name no version go: (version number, weight in basis points), summing to 10,000."""

    model_name: str
    targets: tuple[tuple[int, int], ...]
    salt: str = ""


@dataclass(frozen=True, slots=True)
class RouteTable:
    """The whole routing truth at one generation; replaced by one assignment, never changed."""

    generation: int
    routes: Mapping[str, Route]
