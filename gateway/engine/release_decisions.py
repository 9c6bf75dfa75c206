"""Decisions about releases that this gateway took, until the registry has them or says otherwise.

Invariants: one decision a model waits at most, a rollback before any other; each is written by a task of its own, so
that a registry that hangs keeps no other model, and no rollback, waiting; what was written is not decided again before
the registry was read; a rollback waits until it is written, anything else is decided anew if it could not be.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping

from gateway.core.release_routes import in_progress
from gateway.engine.tasks import TaskGroup
from gateway.errors import SourceUnreadable
from gateway.judgements import DecisionKind, EvidenceBundle
from gateway.ports import ReleaseBook
from gateway.releases import Release

_log = logging.getLogger("sluice.releases")
RETRY_ROUNDS = 4
_MOST_LOOKS = 4


class _Waiting:
    """A decision on `release`. `looks` counts those that have not shown it since it was `written`."""

    __slots__ = ("bundle", "looks", "release", "written")

    def __init__(self, release: Release, bundle: EvidenceBundle) -> None:
        self.release = release
        self.bundle = bundle
        self.written = False
        self.looks = 0

    @property
    def back(self) -> bool:
        return self.bundle.decision.kind is DecisionKind.ROLLBACK


class ReleaseDecisions:
    """Owns the decisions that wait and the tasks that write them."""

    def __init__(
        self, book: ReleaseBook, save: Callable[[], Awaitable[None]], look: Callable[[], None], wake: Callable[[], None]
    ) -> None:
        """`save` writes down what was counted; `look` asks for a look at the registry, `wake` for another round."""
        self._book = book
        self._save = save
        self._look = look
        self._wake = wake
        self._waiting: dict[str, _Waiting] = {}
        self._writing: set[str] = set()
        self._not_before: dict[str, int] = {}
        self._rounds = 0
        self._tasks = TaskGroup()

    def waits(self, name: str) -> DecisionKind | None:
        """Returns what was decided about the model's release and does not show in the registry yet."""
        waiting = self._waiting.get(name)
        return None if waiting is None else waiting.bundle.decision.kind

    def in_force(self, known: Mapping[str, Release]) -> Mapping[str, Release]:
        """Returns `known` with the rollbacks that wait."""
        found = known
        for name, waiting in self._waiting.items():
            to = waiting.bundle.decision.to
            if waiting.back and name in known and to is not None:
                found = {**found, name: Release(waiting.release.plan, to)}
        return found

    def ready(self, name: str) -> bool:
        """Whether another try to write may begin."""
        return name not in self._writing and self._not_before.get(name, 0) <= self._rounds

    def take(self, name: str, release: Release, bundle: EvidenceBundle) -> None:
        """Takes a decision on `release`; a rollback takes the place of whatever waits."""
        waiting = self._waiting[name] = _Waiting(release, bundle)
        if waiting.back:
            self._not_before.pop(name, None)
        self._begin(name, waiting)

    def round(self) -> None:
        """Tries again what could not be written. Call four times a second."""
        self._rounds += 1
        for name, waiting in list(self._waiting.items()):
            self._begin(name, waiting)

    def looked(self, known: Mapping[str, Release]) -> list[str]:
        """The registry was read. Returns the models whose rollback met a release that somebody had moved meanwhile."""
        moved = []
        for name, waiting in list(self._waiting.items()):
            now = known.get(name)
            if now is not None and now.plan.id == waiting.release.plan.id and now.progress == waiting.release.progress:
                # A look that began before the write was over may come after it.
                waiting.looks += waiting.written
                if waiting.looks < _MOST_LOOKS:
                    continue
                waiting.written, waiting.looks = False, 0
                if waiting.back:
                    continue
            elif now is not None and now.plan.id == waiting.release.plan.id and waiting.back and in_progress(now):
                moved.append(name)
            del self._waiting[name]
        return moved

    async def close(self) -> None:
        """Stops writing."""
        await self._tasks.close()

    def _begin(self, name: str, waiting: _Waiting) -> None:
        if not waiting.written and self.ready(name):
            self._writing.add(name)
            self._tasks.spawn(self._write(name, waiting), f"decision about {name}")

    async def _write(self, name: str, waiting: _Waiting) -> None:
        try:
            await self._save()
            await self._book.advance(waiting.release, waiting.bundle)
        except Exception as error:
            known = isinstance(error, SourceUnreadable)
            what = f"release {waiting.release.plan.id}: the decision cannot be written down: {error}"
            _log.warning(what, exc_info=None if known else error)
            self._not_before[name] = self._rounds + RETRY_ROUNDS
            if not waiting.back and self._waiting.get(name) is waiting:
                del self._waiting[name]
        else:
            # Taken, or somebody decided otherwise: the next look tells.
            waiting.written = True
            self._not_before.pop(name, None)
            self._look()
        finally:
            self._writing.discard(name)
        if self._waiting.get(name) is not waiting:
            self._wake()
