"""Warms a version on a replica before it takes traffic: executions of every batch size in use.

The first execution of each shape is slow in most runtimes; here the gateway pays for it, not a caller. What is measured
on the second run of a size seeds the cost profile. Inputs are those recorded with the version, repeated to the size; a
version that cannot answer its own is refused. Without recorded ones they are zeros (dimensions of -1 become a small
number), and a version that cannot answer zeros is reported and served all the same. A version that batches and answers
with other rows than it was sent is refused: cutting its outputs would give callers each other's answers, silently.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence

from gateway.core.golden import cut, rows_of
from gateway.engine.replicas import Replica
from gateway.engine.served import ServedVersion
from gateway.engine.trial import execute
from gateway.errors import ErrorCode, GatewayError
from gateway.messages import ModelMetadata, Nanos
from gateway.ports import BackendResponse, Clock
from gateway.tensors import DataType, TensorSpec, byte_size, element_count
from gateway.versions import TensorData

_log = logging.getLogger("sluice.warmup")
_BUDGET: Nanos = 3_000_000_000
_LONGEST_PAUSE: Nanos = 500_000_000
_FREE_DIMENSION = 8
_TELLING_ROWS = 2


async def warm(
    served: ServedVersion,
    replica: Replica,
    clock: Clock,
    pause: Callable[[float], Awaitable[None]],
    recorded: Sequence[TensorData],
    in_use: Iterable[int] = (),
) -> None:
    """Runs 1, 2, 4 … up to the largest batch, and the sizes `in_use`, smallest first, each twice.

    When the time budget is spent, sizes in use are run once and the others are left out; except two rows, because one
    row cannot tell an output that grows with its rows from one that does not. Where other versions serve on the
    replica, each run is followed by a `pause` of its own length, which is not counted: callers get half of the machine.

    Raises:
        GatewayError: the replica went away, the version cannot answer its recorded inputs, or an output has other rows.
    """
    spent, used, skipped = 0, frozenset(in_use), []
    for rows in _sizes(served, used):
        late = spent > _BUDGET
        if late and rows not in used and rows != _TELLING_ROWS:
            skipped.append(rows)
            continue
        tensors = _repeated(recorded, rows, served.metadata) if recorded else _zeros(served.metadata, rows)
        for again in (False,) if late else (False, True):
            before = clock.now()
            outcome = await execute(replica, served.version, tensors, rows)
            elapsed = clock.now() - before
            spent += elapsed
            if isinstance(outcome, GatewayError):
                _failed(outcome, served, rows, bool(recorded))
                return
            if served.metadata.max_batch_size > 0:
                _check_rows(outcome, rows)
            if again:
                served.scheduler.profile.observe(rows, elapsed)
            if any(version != served.version for version in replica.ready_versions):
                await pause(min(elapsed, _LONGEST_PAUSE) / 1e9)
    if skipped:
        _log.info("%s: there was no time to warm batches of %s rows", served.version, ", ".join(map(str, skipped)))


def _check_rows(outcome: BackendResponse, rows: int) -> None:
    """Raises unless every output has one row for each row sent."""
    for spec in outcome.outputs:
        found = spec.shape[0] if spec.shape else 0
        if found != rows:
            raise GatewayError(
                ErrorCode.BACKEND_FAILED,
                f"output {spec.name!r} has {_counted(found)} for {_counted(rows)} sent: the model cannot batch, "
                "publish it with max_batch_size 0",
            )


def _counted(rows: int) -> str:
    return f"{rows} {'row' if rows == 1 else 'rows'}"


def _failed(error: GatewayError, served: ServedVersion, rows: int, recorded: bool) -> None:
    """Raises unless the version may be served although it did not answer."""
    if error.code is ErrorCode.BACKEND_UNREACHABLE or error.needs_reload:
        raise error
    if recorded:
        raise GatewayError(
            ErrorCode.BACKEND_FAILED,
            f"warm-up with the recorded inputs failed at {_counted(rows)}: {error.message}",
        )
    _log.warning("warm-up of %s with %d rows of zeros failed: %s", served.version, rows, error.message)


def _sizes(served: ServedVersion, in_use: Collection[int]) -> list[int]:
    metadata = served.metadata
    if metadata.max_batch_size < 1 or not metadata.batchable:
        return [1]
    most = served.scheduler.batcher.max_rows
    sizes = {1 << power for power in range(most.bit_length()) if 1 << power <= most}
    return sorted(sizes | {most} | {rows for rows in in_use if 0 < rows <= most})


def _zeros(metadata: ModelMetadata, rows: int) -> list[TensorData]:
    tensors = []
    for spec in metadata.inputs:
        shape = tuple(_FREE_DIMENSION if size < 0 else size for size in spec.shape)
        if metadata.max_batch_size > 0:
            shape = (rows, *shape[1:])
        concrete = TensorSpec(spec.name, spec.datatype, shape)
        size = 4 * element_count(shape) if spec.datatype is DataType.BYTES else byte_size(concrete) or 0
        tensors.append(TensorData(concrete, bytes(size)))
    return tensors


def _repeated(recorded: Sequence[TensorData], rows: int, metadata: ModelMetadata) -> list[TensorData]:
    """Returns the recorded rows, from the first on and again, until there are `rows`."""
    have = rows_of(recorded)
    if metadata.max_batch_size < 1 or have < 1:
        return list(recorded)
    times, rest = divmod(rows, have)
    found = []
    for tensor in recorded:
        data = tensor.data * times + (cut(tensor, 0, rest).data if rest else b"")
        found.append(
            TensorData(TensorSpec(tensor.spec.name, tensor.spec.datatype, (rows, *tensor.spec.shape[1:])), data)
        )
    return found
