"""The edges of the engine as typing.Protocols: time, backends, registries, observers.

Data-plane ports are callback based: one callback resolves a whole batch, and no task is made per request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from gateway.errors import ErrorCode, GatewayError
from gateway.judgements import EvidenceBundle
from gateway.messages import (
    Buffer,
    InferResponse,
    Instant,
    ModelMetadata,
    Nanos,
    Parameters,
    RequestContext,
    RequestHead,
)
from gateway.releases import Release
from gateway.tensors import TensorSpec
from gateway.versions import ModelVersion, VersionRecord, VersionState


class Clock(Protocol):
    """Monotonic time and one-shot timers."""

    def now(self) -> Instant:
        """Returns the monotonic time in nanoseconds."""
        ...

    def call_at(self, when: Instant, callback: Callable[[], None]) -> Cancellable:
        """Runs `callback` at or after `when`; the returned handle cancels it."""
        ...

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Runs `callback` once after everything that is ready now."""
        ...


class Cancellable(Protocol):
    """Something that can be called off; calling it twice is harmless."""

    def cancel(self) -> None: ...


class Reply(Protocol):
    """The caller's end of one request. Exactly one of the two methods is called, once, unless it was withdrawn."""

    def succeed(self, response: InferResponse) -> None: ...

    def fail(self, error: GatewayError) -> None: ...


@dataclass(slots=True)
class BackendRequest:
    """One execution: the members' merged tensors.

    `chunks[i]` are the pieces of input i in member order (joined along axis 0 by whoever writes them to the wire);
    `shapes[i]` the shape of the joined tensor. `head` is any member's head: names, types, outputs and parameters are
    equal for all members. `rows` is the sum along axis 0 (1 for unbatched models). `timeout` is how long anybody waits;
    a backend that can stop in time may use it. `once` says that no other request will be like it, so that
    remembering it would be a waste.
    """

    version: ModelVersion
    head: RequestHead
    rows: int
    shapes: tuple[tuple[int, ...], ...]
    chunks: Sequence[Sequence[Buffer]]
    timeout: Nanos
    once: bool = False


@dataclass(slots=True)
class BackendResponse:
    """What the backend answered: outputs with concrete shapes and their raw bytes, in the same order.

    `parameters` are the model's own of this answer; every member of a batch gets them.
    """

    outputs: tuple[TensorSpec, ...]
    data: list[Buffer]
    parameters: Parameters | None = None


class InferenceBackend(Protocol):
    """One Triton endpoint (a replica) as the engine sees it."""

    def infer(self, request: BackendRequest, done: Callable[[BackendResponse | GatewayError], None]) -> Cancellable:
        """Starts one execution; `done` is called exactly once, later, unless the call was cancelled first.

        A raised exception means nothing was sent and `done` will not be called.
        """
        ...

    def forget(self, version: ModelVersion) -> None:
        """Lets go of whatever is remembered of a version that was unloaded."""
        ...

    @property
    def available(self) -> bool:
        """Whether a call made now has a connection to go out on."""
        ...


class RepositoryControl(Protocol):
    """Loads and unloads versions on one replica."""

    async def load(self, version: ModelVersion, *, fresh: bool = False) -> None:
        """Returns when exactly that version is ready there.

        What is loaded already and is that very version stays as it is, unless it must be loaded `fresh`. Raises
        GatewayError with the backend's reason.
        """
        ...

    async def fits(self, version: ModelVersion) -> None:
        """Returns if that replica can execute the version as far as can be told beforehand; raises GatewayError."""
        ...

    async def unload(self, version: ModelVersion) -> None: ...

    async def is_ready(self, version: ModelVersion) -> bool | None:
        """Returns what the replica says of that version; None if it cannot be asked."""
        ...

    async def metadata(self, version: ModelVersion) -> ModelMetadata:
        """Returns the version's own metadata under its public name."""
        ...

    async def loaded(self) -> list[ModelVersion]:
        """Returns every version that a gateway loaded there, this one or one before it. Raises GatewayError."""
        ...

    async def server_ready(self) -> bool: ...

    def changing(self) -> AbstractContextManager[None]:
        """Is entered while versions are brought or taken away there: what shares a machine with callers gives way."""
        ...


class RegistrySource(Protocol):
    """Says which versions should be served."""

    async def desired(self) -> dict[str, tuple[int, ...]]:
        """Returns the complete set: model name to version numbers, the stable one first; none withdraws the model."""
        ...


class VersionRecords(Protocol):
    """What is known about the versions of a registry beyond that they should be served."""

    async def record(self, version: ModelVersion) -> VersionRecord:
        """Returns what the registry recorded, after proving that every file is the one that was published.

        Raises:
            SourceUnreadable: the registry cannot be read at the moment.
            ValueError: with what is wrong with the version, naming the file.
        """
        ...

    def unreadable(self) -> frozenset[str]:
        """Returns the models that exist and of which it could never be read what should be served."""
        ...

    def allows_breaking(self, model_name: str) -> bool:
        """Whether the model's next version may break the callers of the one that serves."""
        ...

    def generation(self, model_name: str) -> int:
        """Returns a number that changes whenever somebody decided anew what the model should serve."""
        ...

    def last_good(self, model_name: str) -> int | None:
        """Returns the version that was the last to get the model's traffic, also in an earlier life of the gateway.

        None if there was none since the model was last withdrawn.
        """
        ...

    async def remember(self, model_name: str, number: int) -> None:
        """Notes that this version gets the model's traffic now."""
        ...


class ReleaseBook(Protocol):
    """The releases of a registry, and the one way in which a gateway changes them."""

    def releases(self) -> Mapping[str, Release]:
        """Returns the release of each model that has one, in progress or promoted and watched, as of the last look."""
        ...

    async def advance(self, release: Release, bundle: EvidenceBundle) -> bool:
        """Makes `bundle.decision.to` the release's progress, with everything that follows from it, if it still is as
        in `release`.

        The bundle is stored and journalled. Returns False if somebody decided otherwise meanwhile: look again.

        Raises:
            SourceUnreadable: the registry cannot be read or written at the moment; nothing may have been changed.
        """
        ...


class LiveReleases(Protocol):
    """What this gateway sees of the releases it routes, for people and for the record."""

    def seen(self, model_name: str) -> EvidenceBundle | None:
        """Returns what was seen so far and what follows from it now, with intervals; None without a release."""
        ...

    def look_now(self) -> None:
        """Asks for a look at the registry without waiting for its time."""
        ...


class Observer(Protocol):
    """Hears what happens on the data plane. Called on the hot path: implementations only count and append."""

    def request_done(
        self,
        context: RequestContext,
        version: ModelVersion | None,
        code: ErrorCode | None,
        rows: int,
        queued: Nanos,
        finished_at: Instant,
        model_name: str,
        message: str = "",
    ) -> None:
        """One request ended: `code` None is success, `queued` the time from offer to dispatch (0 if never queued).

        `message` is what a failed caller was told.
        """
        ...

    def requests_done(
        self,
        version: ModelVersion,
        contexts: Sequence[RequestContext],
        rows: Sequence[int],
        dispatched_at: Instant,
        finished_at: Instant,
    ) -> None:
        """Requests of one batch, at least one, were answered well: what `request_done` says of each, at once.

        `rows` are theirs in the same order; all left the queue at `dispatched_at`.
        """
        ...

    def batch_done(
        self, version: ModelVersion, requests: int, rows: int, reason: str, backend: Nanos, ok: bool
    ) -> None:
        """One execution ended after `backend` nanoseconds; `reason` is why the batch left the queue."""
        ...

    def version_state(self, version: ModelVersion, state: VersionState, detail: str) -> None:
        """A version changed its state."""
        ...
