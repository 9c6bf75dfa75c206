"""The counters, by model version and protocol, and the bound on how many of them there can be.

Decides under which label something is counted. Invariants: a label is never a client's text (unknown models share
`_unknown`); at most `max_versions` versions have series of their own, the others share `_other`; the series of a
retired version go away.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gateway.errors import ErrorCode
from gateway.messages import Instant, Nanos
from gateway.telemetry.histogram import Histogram
from gateway.versions import ModelVersion

UNKNOWN, OTHER, NONE = "_unknown", "_other", "_none"
ROW_BOUNDS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_MOST_PROTOCOLS = 16


class ProtocolSeries:
    """What is counted for one version and one protocol. Durations are those of successful requests, in ns."""

    __slots__ = ("duration", "failures", "ok")

    def __init__(self, bounds: Sequence[Nanos]) -> None:
        self.ok = 0
        self.failures: dict[ErrorCode, int] = {}
        self.duration = Histogram(bounds)


class VersionSeries:
    """What is counted for one version: by protocol, and what its batches were like."""

    __slots__ = ("_bounds", "answered_at", "answered_rows", "backend", "batch_requests", "batch_rows",
                 "failed_batches", "labels", "protocols", "queued", "reasons",
                 "retired_at", "rows")  # fmt: skip

    def __init__(self, labels: tuple[str, str], bounds: Sequence[Nanos]) -> None:
        """`labels` are (model, version)."""
        self._bounds = bounds
        self.labels = labels
        self.protocols: dict[str, ProtocolSeries] = {}
        self.rows = 0
        self.answered_rows = 0
        self.answered_at: Instant = 0
        self.queued = Histogram(bounds)
        self.backend = Histogram(bounds)
        self.batch_rows = Histogram(ROW_BOUNDS)
        self.batch_requests = Histogram(ROW_BOUNDS)
        self.reasons: dict[str, int] = {}
        self.failed_batches = 0
        self.retired_at: Instant | None = None

    def of(self, protocol: str) -> ProtocolSeries:
        """Returns where to count for `protocol`; those beyond the first sixteen share one."""
        series = self.protocols.get(protocol)
        if series is None:
            name = protocol if len(self.protocols) < _MOST_PROTOCOLS else OTHER
            series = self.protocols.setdefault(name, ProtocolSeries(self._bounds))
        return series


class SeriesTable:
    """Finds a version's series; owns all of them."""

    def __init__(self, bounds: Sequence[Nanos], max_versions: int) -> None:
        self._bounds = tuple(bounds)
        self._max = max_versions
        self._known: dict[ModelVersion, VersionSeries] = {}
        self._shared: dict[tuple[str, str], VersionSeries] = {}
        # By identity: hashing a ModelVersion costs as much as everything else on the hot path. The version is kept with
        # its series so that its id cannot come to mean another one.
        self.by_id: dict[int, VersionSeries] = {}
        self._kept: list[ModelVersion] = []
        self._names: set[str] = set()

    def __iter__(self) -> Iterator[VersionSeries]:
        return iter([*self._known.values(), *self._shared.values()])

    def __len__(self) -> int:
        return len(self._known) + len(self._shared)

    def versions(self) -> dict[ModelVersion, VersionSeries]:
        """Returns the series of the versions that have their own."""
        return dict(self._known)

    def find(self, version: ModelVersion | None, model_name: str) -> VersionSeries:
        """Returns where to count for `version`, or, where none was resolved, for the name that a client gave."""
        if version is None:
            return self._share((model_name, NONE) if model_name in self._names else (UNKNOWN, NONE))
        series = self._known.get(version)
        if series is None:
            if len(self._known) < self._max:
                series = VersionSeries((version.model_name, str(version.number)), self._bounds)
                self._known[version] = series
                self._names.add(version.model_name)
            else:
                series = self._share((OTHER, OTHER))
        if len(self._kept) >= 4 * self._max:
            self._forget_identities()
        self.by_id[id(version)] = series
        self._kept.append(version)
        return series

    def forget(self, version: ModelVersion) -> None:
        """Removes the series of `version`, and of its model when it was the last; harmless if there are none."""
        if self._known.pop(version, None) is None:
            return
        self._forget_identities()
        if not any(other.model_name == version.model_name for other in self._known):
            self._names.discard(version.model_name)
            self._shared.pop((version.model_name, NONE), None)

    def forget_retired(self, before: Instant, most: int) -> list[ModelVersion]:
        """Forgets every version that was retired before that instant, and all but the `most` latest retired ones.

        Returns those forgotten.
        """
        retired = [(s.retired_at, v) for v, s in self._known.items() if s.retired_at is not None]
        retired.sort()
        kept = retired[-most:] if most > 0 else []
        forgotten = [version for at, version in retired if at < before or (at, version) not in kept]
        for version in forgotten:
            self.forget(version)
        return forgotten

    def _share(self, labels: tuple[str, str]) -> VersionSeries:
        series = self._shared.get(labels)
        if series is None:
            series = self._shared[labels] = VersionSeries(labels, self._bounds)
        return series

    def _forget_identities(self) -> None:
        self.by_id.clear()
        self._kept.clear()
