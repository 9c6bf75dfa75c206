"""The pointer of a model, `serving.json`: which of its versions should be served.

Invariants: the stable version comes first in `desired`; a pointer without a stable version serves nothing. What this
reader does not interpret (the release in progress, the shadow, the history) is kept as it stands in `other`, so that
whoever rewrites the pointer loses nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.registry.document import DocumentError, Reader, parse_object
from gateway.registry.layout import SERVING_FILE

SCHEMA_VERSION = 1
_OTHER_KEYS = ("release", "shadow", "history")


@dataclass(frozen=True, slots=True)
class ServingPointer:
    """`generation` grows with every change; `stable` gets the traffic; `also` stay loaded for callers who name them.

    `stable` None (`null` in the file) means that the model is not served. `allow_breaking` names the version that may
    break the callers of the one before it; it says nothing about later ones.
    """

    generation: int
    stable: int | None
    also: tuple[int, ...] = ()
    allow_breaking: int | None = None
    other: Mapping[str, Any] = field(default_factory=dict)

    @property
    def desired(self) -> tuple[int, ...]:
        """The versions to serve, the stable one first, each once; none if there is no stable one."""
        return tuple(dict.fromkeys((self.stable, *self.also))) if self.stable is not None else ()

    @property
    def history(self) -> tuple[Mapping[str, Any], ...]:
        """The last changes, oldest first: `generation`, `stable`, `at`, `actor`, `reason`."""
        return tuple(item for item in self.other.get("history", ()) if isinstance(item, dict))


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
        stable=None if reader.null("stable") else reader.integer("stable", minimum=1),
        also=reader.integers("also", minimum=1) if reader.has("also") else (),
        allow_breaking=reader.integer("allow_breaking", minimum=1) if reader.has("allow_breaking") else None,
        other={key: reader.mapping(key) if key != "history" else reader.items(key) for key in _OTHER_KEYS},
    )
    reader.close()
    if problems:
        raise DocumentError(SERVING_FILE, problems)
    return pointer


def render_serving(pointer: ServingPointer) -> bytes:
    """Returns the file's content; what `parse_serving` reads from it is `pointer` again."""
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "generation": pointer.generation,
        "stable": pointer.stable,
    }
    if pointer.also:
        document["also"] = list(pointer.also)
    if pointer.allow_breaking is not None:
        document["allow_breaking"] = pointer.allow_breaking
    document |= {key: value for key, value in pointer.other.items() if value}
    return (json.dumps(document, indent=2) + "\n").encode()
