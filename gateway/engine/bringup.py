"""How a version comes to be trusted on one replica, before any caller's request goes there.

In this order: its files are the published ones; it is loaded, and it is this version that answers; it describes itself
as recorded and does not break the callers of the one that it replaces; it gives the golden answers; every batch size in
use is warm. The first step that fails ends it, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gateway.core.compatibility import breaking_changes, differences
from gateway.core.golden import batches, mismatches, rows_of
from gateway.engine.replicas import Replica
from gateway.engine.served import ServedVersion
from gateway.engine.trial import execute
from gateway.engine.warmup import warm
from gateway.errors import ErrorCode, GatewayError, SourceUnreadable
from gateway.messages import ModelMetadata
from gateway.ports import Clock, VersionRecords
from gateway.versions import GoldenSet, ModelVersion, VersionRecord, VersionState


class Unfit(GatewayError):
    """The version itself is at fault: it would fail on any replica."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrorCode.BACKEND_FAILED, message)


class Unread(GatewayError):
    """Nothing is known of the version because the registry could not be read: nobody's fault, and it passes."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrorCode.BACKEND_UNREACHABLE, message)


@dataclass(frozen=True, slots=True)
class Predecessor:
    """The version that the new one takes over from: what its callers rely on, and the batch sizes they caused."""

    version: ModelVersion
    metadata: ModelMetadata
    batch_sizes: frozenset[int] = frozenset()


class BringUp:
    """Performs the steps. `records` is None where the backend's models are its own and nothing is recorded of them."""

    def __init__(
        self,
        records: VersionRecords | None,
        clock: Clock,
        serve: Callable[[ModelVersion, ModelMetadata], ServedVersion],
        on_state: Callable[[ModelVersion, VersionState, str], None],
    ) -> None:
        """`serve` builds a version's scheduler; `on_state` hears how far a version is."""
        self._records = records
        self._clock = clock
        self._serve = serve
        self._on_state = on_state

    async def vouch(self, version: ModelVersion) -> VersionRecord | None:
        """Returns what is recorded of the version, its files proved. Raises Unfit or Unread."""
        if self._records is None:
            return None
        try:
            return await self._records.record(version)
        except SourceUnreadable as error:
            raise Unread(str(error)) from error
        except ValueError as error:
            raise Unfit(str(error)) from error

    async def bring(
        self,
        version: ModelVersion,
        replica: Replica,
        current: ServedVersion | None,
        old: Predecessor | None,
        *,
        fresh: bool,
    ) -> ServedVersion:
        """Returns the version, ready to serve on `replica`: `current` where that still fits, else a new one.

        Raises:
            GatewayError: which step failed and why; Unfit where it would fail on any replica.
        """
        serving = current is not None and current.state is VersionState.READY
        if not serving:
            self._on_state(version, VersionState.LOADING, replica.name)
        record = await self.vouch(version)
        await replica.control.load(version, fresh=fresh)
        metadata = await replica.control.metadata(version)
        self._check(record, metadata, old)
        if current is None or current.metadata != metadata or current.state is VersionState.DRAINING:
            current = self._serve(version, metadata)
        if not serving:
            self._on_state(version, VersionState.WARMING, replica.name)
        if record is not None and record.golden is not None:
            await _prove(version, replica, record.golden, metadata)
        await warm(
            current, replica, self._clock, record.warmup if record is not None else (), old.batch_sizes if old else ()
        )
        return current

    def _check(self, record: VersionRecord | None, metadata: ModelMetadata, old: Predecessor | None) -> None:
        if record is not None and (problems := differences(record.metadata, metadata)):
            raise Unfit(f"what was loaded is not what manifest.json says: {'; '.join(problems)}")
        if old is None or self._records is None or self._records.allows_breaking(old.version.model_name):
            return
        if problems := breaking_changes(old.metadata, metadata):
            raise Unfit(f"would break callers of version {old.version.number} (--allow-breaking lets it): "
                        f"{'; '.join(problems)}")  # fmt: skip


async def _prove(version: ModelVersion, replica: Replica, golden: GoldenSet, metadata: ModelMetadata) -> None:
    """Raises unless the version gives the recorded answers."""
    for piece in batches(golden, metadata.max_batch_size if metadata.batchable else 0):
        rows = rows_of(piece.inputs) if metadata.max_batch_size > 0 else 1
        outcome = await execute(replica, version, piece.inputs, rows)
        if isinstance(outcome, GatewayError):
            if outcome.code is ErrorCode.BACKEND_UNREACHABLE:
                raise outcome
            raise Unfit(f"the golden inputs failed: {outcome.message}")
        if problems := mismatches(piece, outcome.outputs, outcome.data):
            raise Unfit(f"the golden answers are not those recorded: {'; '.join(problems)}")
