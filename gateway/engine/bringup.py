"""How a version comes to be trusted on one replica, before any caller's request goes there.

In this order: its files are the published ones; it is loaded, and it is this version that answers; it describes itself
as recorded and does not break the callers of the one that it replaces; it gives the golden answers; every batch size in
use is warm. The first step that fails ends it, with the reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gateway.core.compatibility import differences
from gateway.core.golden import batches, mismatches, rows_of
from gateway.engine.replicas import Replica
from gateway.engine.served import ServedVersion
from gateway.engine.trial import execute
from gateway.engine.warmup import warm
from gateway.errors import ErrorCode, GatewayError, SourceUnreadable
from gateway.messages import ModelMetadata
from gateway.ports import Clock, VersionRecords
from gateway.versions import GoldenSet, ModelVersion, VersionRecord, VersionState

_READ_SECONDS = 10.0


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
    """What the new version takes over from others: the batch sizes that callers of the old one caused, and, through
    `objection` (of the new one's metadata), what they rely on."""

    batch_sizes: frozenset[int]
    objection: Callable[[ModelMetadata], str]


class BringUp:
    """Performs the steps. `records` is None where the backend's models are its own and nothing is recorded of them."""

    def __init__(
        self,
        records: VersionRecords | None,
        clock: Clock,
        serve: Callable[[ModelVersion, ModelMetadata], ServedVersion],
        on_state: Callable[[ModelVersion, VersionState, str], None],
        pause: Callable[[float], Awaitable[None]],
    ) -> None:
        """`serve` builds a version's scheduler; `on_state` hears how far a version is."""
        self._records = records
        self._clock = clock
        self._serve = serve
        self._on_state = on_state
        self._pause = pause

    async def vouch(self, version: ModelVersion) -> VersionRecord | None:
        """Returns what is recorded of the version, its files proved. Raises Unfit or Unread.

        Never called by who holds a replica: the registry may hang. Who waits gives up after a while so that other
        things can be done for the model; the read goes on and is joined by the next attempt.
        """
        if self._records is None:
            return None
        try:
            async with asyncio.timeout(_READ_SECONDS):
                return await self._records.record(version)
        except TimeoutError:
            raise Unread(f"{version} is still being read from the registry after {_READ_SECONDS:g} s") from None
        except SourceUnreadable as error:
            raise Unread(str(error)) from error
        except ValueError as error:
            raise Unfit(str(error)) from error

    def begins(self, version: ModelVersion, replica: Replica, current: ServedVersion | None) -> None:
        """Says that the version is being brought up, unless it serves elsewhere already."""
        if current is None or current.state is not VersionState.READY:
            self._on_state(version, VersionState.LOADING, replica.name)

    async def bring(
        self,
        version: ModelVersion,
        replica: Replica,
        current: ServedVersion | None,
        old: Predecessor,
        record: VersionRecord | None,
        *,
        fresh: bool,
    ) -> ServedVersion:
        """Returns the version, ready to serve on `replica`: `current` where that still fits, else a new one.

        `record` is what `vouch` gave.

        Raises:
            GatewayError: which step failed and why; Unfit where it would fail on any replica.
        """
        serving = current is not None and current.state is VersionState.READY
        await replica.control.load(version, fresh=fresh)
        metadata = await replica.control.metadata(version)
        if record is not None and (problems := differences(record.metadata, metadata)):
            raise Unfit(f"what was loaded is not what manifest.json says: {'; '.join(problems)}")
        if objection := old.objection(metadata):
            raise Unfit(objection)
        if current is None or current.metadata != metadata or current.state is VersionState.DRAINING:
            current = self._serve(version, metadata)
        if record is not None:
            current.compare_inputs(record.inputs)
        if not serving:
            self._on_state(version, VersionState.WARMING, replica.name)
        if record is not None and record.golden is not None:
            await _prove(version, replica, record.golden, metadata)
        await warm(
            current, replica, self._clock, self._pause, record.warmup if record is not None else (), old.batch_sizes
        )
        return current


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
