"""Who may take a model's traffic over: nobody whom the callers of the version that served last could not use.

Invariants: the version that served last is known by what it said of itself, or, after a restart, by what the registry
recorded of it; whatever is compared with it is compared whether or not it is loaded at the moment; leave to break
callers holds for the stable version alone.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from gateway.core.compatibility import breaking_changes
from gateway.errors import GatewayError
from gateway.messages import ModelMetadata
from gateway.ports import VersionRecords
from gateway.versions import ModelVersion, VersionRecord

_log = logging.getLogger("sluice.manager")


class Succession:
    """Owns what callers of each model rely on. Without `records` nothing is recorded, and nobody is objected to."""

    def __init__(self, records: VersionRecords | None) -> None:
        self._records = records
        self.barred: dict[ModelVersion, str] = {}
        """Stable versions that are ready and do not get the traffic, with why."""
        self._served: dict[str, tuple[int, ModelMetadata]] = {}
        self._asked: set[ModelVersion] = set()
        self._found: dict[ModelVersion, tuple[ModelMetadata, ModelMetadata, str]] = {}

    def serves(self, version: ModelVersion, metadata: ModelMetadata) -> None:
        """Notes that the version gets its model's traffic now."""
        self._served[version.model_name] = (version.number, metadata)
        self._asked = {asked for asked in self._asked if asked.model_name != version.model_name}

    def withdraw(self, model_name: str) -> None:
        """The model is no longer served: whatever comes next need not fit."""
        self._served.pop(model_name, None)

    def forget(self, version: ModelVersion) -> None:
        self._found.pop(version, None)

    async def recall(
        self, last: ModelVersion | None, read: Callable[[ModelVersion], Awaitable[VersionRecord | None]]
    ) -> None:
        """Learns from the registry what `last`, which served in an earlier life, was; once, and it may fail."""
        if last is None or last.model_name in self._served or last in self._asked:
            return
        self._asked.add(last)
        try:
            record = await read(last)
        except GatewayError as error:
            _log.warning("what takes over from %s cannot be compared with it: %s", last, error.message)
            return
        if record is not None:
            self._served.setdefault(last.model_name, (last.number, record.metadata))

    def objection(self, version: ModelVersion, metadata: ModelMetadata, wanted: tuple[int, ...]) -> str:
        """Returns why the version must not get the traffic that names no version; empty if it may.

        `wanted` are the versions that should be loaded, the stable one first.
        """
        served = self._served.get(version.model_name)
        if self._records is None or served is None or served[0] == version.number:
            return ""
        stable = version.number in wanted[:1]
        if stable and self._records.allows_breaking(version.model_name):
            return ""
        number, old = served
        found = self._found.get(version)
        if found is None or found[0] is not old or found[1] is not metadata:
            problems = breaking_changes(old, metadata)
            found = self._found[version] = (old, metadata, "; ".join(problems))
        if not found[2]:
            return ""
        return f"would break callers of version {number}{' (--allow-breaking lets it)' if stable else ''}: {found[2]}"

    def note(self, barred: dict[ModelVersion, str]) -> None:
        """Takes what is `barred` now; says so of what was not before."""
        for version, reason in barred.items():
            if self.barred.get(version) != reason:
                _log.error("%s is loaded but does not take over: it %s", version, reason)
        self.barred = barred
