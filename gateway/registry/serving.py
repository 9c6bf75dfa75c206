"""The pointer of a model, `serving.json`: which of its versions should be served.

Invariant: the stable version comes first in `desired`. What this reader does not interpret (the release in progress,
the shadow, the history) is kept as it stands in `other`, so that whoever rewrites the pointer loses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.registry.document import DocumentError, Reader, parse_object
from gateway.registry.layout import SERVING_FILE

SCHEMA_VERSION = 1
_OTHER_KEYS = ("release", "shadow", "history")


@dataclass(frozen=True, slots=True)
class ServingPointer:
    """`generation` grows with every change; `stable` gets the traffic; `also` stay loaded for callers who name them."""

    generation: int
    stable: int
    also: tuple[int, ...] = ()
    other: Mapping[str, Any] = field(default_factory=dict)

    @property
    def desired(self) -> tuple[int, ...]:
        """The versions to serve, the stable one first, each once."""
        return tuple(dict.fromkeys((self.stable, *self.also)))


def parse_serving(content: bytes) -> ServingPointer:
    """Returns the pointer in `content`.

    Raises:
        DocumentError: with every problem found, each with its dotted path.
    """
    problems: list[str] = []
    reader = Reader(parse_object(SERVING_FILE, content), "", problems)
    if reader.integer("schema_version", minimum=1) != SCHEMA_VERSION:
        reader.problem("schema_version", f"must be {SCHEMA_VERSION}")
    pointer = ServingPointer(
        generation=reader.integer("generation", minimum=1),
        stable=reader.integer("stable", minimum=1),
        also=reader.integers("also", minimum=1) if reader.has("also") else (),
        other={key: reader.mapping(key) if key != "history" else reader.items(key) for key in _OTHER_KEYS},
    )
    reader.close()
    if problems:
        raise DocumentError(SERVING_FILE, problems)
    return pointer
