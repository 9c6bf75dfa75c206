"""The ledger of a data set: its budget (epsilon, delta) and everything that was spent of it. Lies in a registry.

Decides by basic composition (Dwork et al.): epsilons and deltas add up. Invariants: the sum of the entries never
exceeds the budget; of two writers at once one is refused its write and reads again (compare and swap); an entry is
never taken back, because what has seen the data has seen it; the same key twice is one entry.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from gateway.registry.opening import open_store
from gateway.registry.store import AlreadyThere, Changed, Store

_TRIES = 50
_SLACK = 1e-9


class BudgetExceeded(Exception):
    """There is not so much left; the message says what there is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What one job, or one published aggregate, may spend."""

    key: str
    epsilon: float
    delta: float
    by: str
    what: str
    at: str


class Ledger:
    """One data set's ledger in one registry. All methods block; StoreError if the registry cannot be reached."""

    def __init__(self, registry: str, dataset: str) -> None:
        self._store: Store = open_store(registry)
        self._key = f".privacy/{dataset}.json"
        self._dataset = dataset

    def read(self) -> dict[str, Any]:
        """Returns budget, entries and what is left."""
        found, _ = self._read()
        return {**found, "dataset": self._dataset, "left": _left(found)}

    def set_budget(self, epsilon: float, delta: float) -> None:
        """Sets the whole budget. Raises BudgetExceeded if more than that is spent already."""

        def change(found: dict[str, Any]) -> dict[str, Any]:
            found["budget"] = {"epsilon": epsilon, "delta": delta}
            left = _left(found)
            if left["epsilon"] < -_SLACK or left["delta"] < -_SLACK:
                raise BudgetExceeded(
                    f"{self._dataset}: more than epsilon {epsilon:g}, delta {delta:g} is spent already"
                )
            return found

        self._change(change)

    def spend(self, entry: Entry) -> None:
        """Enters what is about to be spent. Raises BudgetExceeded; then nothing is entered."""

        def change(found: dict[str, Any]) -> dict[str, Any]:
            document = {name: getattr(entry, name) for name in Entry.__slots__}
            for known in found["entries"]:
                if known["key"] == entry.key:
                    if (known["epsilon"], known["delta"]) == (entry.epsilon, entry.delta):
                        return found
                    raise BudgetExceeded(f"{self._dataset}: {entry.key} has spent epsilon {known['epsilon']:g} already")
            if found["budget"] is None:
                raise BudgetExceeded(f"{self._dataset}: no budget is set: `sluice jobs privacy set {self._dataset} …`")
            left = _left(found)
            if entry.epsilon > left["epsilon"] + _SLACK or entry.delta > left["delta"] + _SLACK:
                raise BudgetExceeded(
                    f"{self._dataset}: epsilon {entry.epsilon:g}, delta {entry.delta:g} asked for, "
                    f"{max(left['epsilon'], 0):g} and {max(left['delta'], 0):g} are left"
                )
            found["entries"].append(document)
            return found

        self._change(change)

    def _read(self) -> tuple[dict[str, Any], str | None]:
        stored = self._store.read(self._key)
        if stored is None:
            return {"schema_version": 1, "budget": None, "entries": []}, None
        return json.loads(stored.content), stored.tag

    def _change(self, change: Any) -> None:
        for _ in range(_TRIES):
            found, tag = self._read()
            before = json.dumps(found)
            after = change(found)
            if json.dumps(after) == before:
                return
            content = (json.dumps(after, indent=2) + "\n").encode()
            try:
                if tag is None:
                    self._store.create(self._key, content)
                else:
                    self._store.replace(self._key, content, tag)
            except (Changed, AlreadyThere):
                continue
            return
        raise Changed(f"{self._dataset}: the ledger changed {_TRIES} times while it was to be written")


def _left(found: dict[str, Any]) -> dict[str, float]:
    budget = found["budget"] or {"epsilon": 0.0, "delta": 0.0}
    return {name: budget[name] - math.fsum(entry[name] for entry in found["entries"]) for name in ("epsilon", "delta")}
