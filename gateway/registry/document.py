"""Reads JSON documents so that every problem is found in one pass and named by its dotted path.

A `Reader` stands on one node. Its getters return a usable value of the right type in every case and note a problem
where the document has none, so that parsing goes on and the caller raises everything at once.
"""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

_Member = TypeVar("_Member", bound=enum.Enum)
MAX_DOCUMENT_BYTES = 4 * 1024 * 1024
MOST_INTEGER = 2**63 - 1


class DocumentError(ValueError):
    """A document that cannot be used; `problems` lists every reason as "dotted.path: what is wrong"."""

    def __init__(self, name: str, problems: list[str]) -> None:
        super().__init__(f"{name}: " + "; ".join(problems))
        self.name = name
        self.problems = problems


def parse_object(name: str, content: bytes) -> dict[str, Any]:
    """Returns the JSON object in `content`.

    Raises:
        DocumentError: too large, not JSON, a key twice, or not an object.
    """
    if len(content) > MAX_DOCUMENT_BYTES:
        raise DocumentError(name, [f"larger than {MAX_DOCUMENT_BYTES} bytes"])
    try:
        value = json.loads(content, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise DocumentError(name, [f"not valid JSON ({error})"]) from error
    if not isinstance(value, dict):
        raise DocumentError(name, ["not a JSON object"])
    return value


class Reader:
    """One object of a document: typed getters, problems collected with the path of their node."""

    def __init__(self, value: object, path: str, problems: list[str]) -> None:
        self._path = path
        self.problems = problems
        self._seen: set[str] = set()
        if not isinstance(value, dict):
            self.problem("", "must be an object")
            value = {}
        self._value: dict[str, Any] = value

    def problem(self, key: str, message: str) -> None:
        """Notes that the value at `key` ("" = this node) is wrong."""
        self.problems.append(f"{self._at(key) or 'document'}: {message}")

    def has(self, key: str) -> bool:
        return key in self._value

    def null(self, key: str) -> bool:
        """Returns whether the key is there and says null, which stands for "none"."""
        found = key in self._value and self._value[key] is None
        if found:
            self._seen.add(key)
        return found

    def text(self, key: str, default: str | None = None) -> str:
        value = self._get(key, default)
        if isinstance(value, str):
            return value
        if value is not None:
            self.problem(key, "must be a string")
        return ""

    def integer(self, key: str, default: int | None = None, *, minimum: int = 0) -> int:
        value = self._get(key, default)
        if value is None:
            return minimum
        if isinstance(value, bool) or not isinstance(value, int):
            self.problem(key, "must be an integer")
            return minimum
        if not minimum <= value <= MOST_INTEGER:
            self.problem(key, f"must be at least {minimum}" if value < minimum else f"must be at most {MOST_INTEGER}")
            return minimum
        return value

    def number(self, key: str, default: float | None = None, *, minimum: float = 0.0, maximum: float = 1e300) -> float:
        value = self._get(key, default)
        if value is None:
            return minimum
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.problem(key, "must be a number")
            return minimum
        if not minimum <= value <= maximum:
            self.problem(key, f"must be from {minimum:g} to {maximum:g}")
            return minimum
        return float(value)

    def choice(self, key: str, kind: type[_Member], default: _Member | None = None) -> _Member:
        """Returns the member of `kind` whose value is written at `key`."""
        value = self._get(key, None if default is None else default.value)
        found = next((member for member in kind if member.value == value), None)
        if found is None and value is not None:
            self.problem(key, "must be one of " + ", ".join(str(member.value) for member in kind))
        return found or next(iter(kind))

    def boolean(self, key: str, default: bool) -> bool:
        value = self._get(key, default)
        if not isinstance(value, bool):
            self.problem(key, "must be true or false")
            return default
        return value

    def integers(self, key: str, *, minimum: int) -> tuple[int, ...]:
        found = []
        for index, value in enumerate(self._list(key, required=True)):
            if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
                self.problem(f"{key}[{index}]", f"must be an integer of at least {minimum}")
            else:
                found.append(value)
        return tuple(found)

    def numbers(self, key: str, *, most: int) -> tuple[float, ...]:
        """Returns the numbers of the list at `key`; notes a problem if there are more than `most`."""
        values = self._list(key, required=True)
        if len(values) > most:
            self.problem(key, f"must have at most {most} numbers")
            return ()
        found = []
        for index, value in enumerate(values):
            if isinstance(value, bool) or not isinstance(value, int | float):
                self.problem(f"{key}[{index}]", "must be a number")
            else:
                found.append(self._finite(f"{key}[{index}]", value))
        return tuple(found)

    def _finite(self, key: str, value: float) -> float:
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            self.problem(key, "is too large")
            return 0.0
        return number

    def texts(self, key: str) -> tuple[str, ...]:
        found = []
        for index, value in enumerate(self._list(key, required=False)):
            if isinstance(value, str):
                found.append(value)
            else:
                self.problem(f"{key}[{index}]", "must be a string")
        return tuple(found)

    def objects(self, key: str, *, required: bool = True) -> Iterator[Reader]:
        """Yields a reader for each object of the list at `key`."""
        for index, value in enumerate(self._list(key, required=required)):
            yield Reader(value, self._at(f"{key}[{index}]"), self.problems)

    def child(self, key: str) -> Reader:
        return Reader(self._get(key, None), self._at(key), self.problems)

    def mapping(self, key: str) -> Mapping[str, Any]:
        """Returns the free-form object at `key`, empty if there is none."""
        value = self._get(key, {})
        if not isinstance(value, dict):
            self.problem(key, "must be an object")
            return {}
        return value

    def items(self, key: str) -> list[Any]:
        """Returns the free-form list at `key`, empty if there is none."""
        return self._list(key, required=False)

    def close(self) -> None:
        """Notes every key that nobody asked for: a misspelt optional key must not pass in silence."""
        for key in self._value.keys() - self._seen:
            self.problem(key, "unknown key")

    def _get(self, key: str, default: object) -> Any:
        self._seen.add(key)
        value = self._value.get(key, default)
        if key not in self._value and default is None:
            self.problem(key, "is missing")
        elif key in self._value and value is None:
            self.problem(key, "must not be null")
            return default
        return value

    def _list(self, key: str, *, required: bool) -> list[Any]:
        value = self._get(key, None if required else [])
        if value is None:
            return []
        if not isinstance(value, list):
            self.problem(key, "must be a list")
            return []
        return value

    def _at(self, key: str) -> str:
        return f"{self._path}.{key}" if self._path and key else self._path or key


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice in one object")
    return found


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")
