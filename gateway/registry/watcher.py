"""Follows a registry: which versions should be served, and what of them may be trusted.

Implements `ports.RegistrySource` and `ports.VersionRecords`. Level-triggered: every look (`looking`) gives the complete
set anew. Invariants: what cannot be read, has vanished, or contradicts what was said before changes nothing that is
served, and is an alarm; nothing is handed to Triton that was not copied here and proved; a model goes only when its
pointer says so.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from gateway.registry import numbering
from gateway.registry.cache import VersionCache
from gateway.registry.directory import RegistryError
from gateway.registry.glances import Reader
from gateway.registry.looking import Looking
from gateway.registry.manifest import Manifest
from gateway.registry.recorded import record_of
from gateway.registry.shared_reads import SharedReads
from gateway.registry.store import StoreError, Unfit
from gateway.registry.watch_state import WatchState
from gateway.versions import ModelVersion, VersionRecord

_log = logging.getLogger("sluice.registry")
_UNFIT_S = 60.0


class RegistryWatcher:
    """Owns the local copies below `folder` and the memory of what the registry said last.

    `open_reader` opens the registry; it is called again after a look that failed. `location` tells this registry from
    others that the folder was used for.
    """

    def __init__(
        self,
        open_reader: Callable[[], Reader],
        location: str,
        folder: Path,
        *,
        allow_breaking: bool = False,
        now: Callable[[], float] = time.time,
    ) -> None:
        name = hashlib.sha256(location.encode()).hexdigest()[:16]
        self._state = WatchState(folder / name / "state.json")
        self._cache = VersionCache(folder / name, self._state, now)
        self._open = open_reader
        self._reader: Reader | None = None
        self._location = location
        self._allow_breaking = allow_breaking
        self._now = now
        self._models = self._state.models()
        self._looking = Looking(self._state, self._cache, now)
        self._alarms: dict[str, str] = {}
        self._unreadable: frozenset[str] = frozenset()
        self._unfit: tuple[float, str] | None = None
        self._first = True
        self._reads = SharedReads(self.look_up)
        self._looks = SharedReads[str, dict[str, tuple[int, ...]]](lambda _: self.look(), at_once=1)

    # ------------------------------------------------------------------ ports.RegistrySource

    async def desired(self) -> dict[str, tuple[int, ...]]:
        """Returns the complete set of versions to serve, by model name, the stable one first.

        Raises:
            RegistryError: the registry cannot be read at all.
        """
        return await self._looks.get("look")

    def last_known(self) -> dict[str, tuple[int, ...]]:
        """Returns what the registry said last, in this life of the gateway or the one before."""
        return {name: model.versions for name, model in self._models.items()}

    def unreadable(self) -> frozenset[str]:
        """Returns the models that are in the registry and of which nothing could ever be read."""
        return self._unreadable

    def look(self) -> dict[str, tuple[int, ...]]:
        """Does the work of `desired` in the calling thread."""
        try:
            reader = self._opened()
            found = self._looking.look(reader, self._models, first=self._first)
        except StoreError as error:
            self._reader = None
            raise RegistryError(f"the registry {self._location} cannot be read: {error}") from error
        self._unreadable = found.unreadable
        self._raise(found.alarms)
        if found.models != self._models or found.withdrawn or self._first:
            for name in (name for name, model in found.models.items() if self._models.get(name) != model):
                self._cache.reconsider(name)
            withdrawn = {*found.withdrawn, *(self._retired(reader) if self._first else ())}
            self._models = dict(found.models)
            self._state.set_models(self._models, withdrawn)
            self._cache.prune(self._in_use())
        self._first = False
        return self.last_known()

    # ------------------------------------------------------------------ ports.VersionRecords

    async def record(self, version: ModelVersion) -> VersionRecord:
        """Returns what the version must be and answer; see `ports.VersionRecords.record`.

        A version that is here is served from here, however the registry hangs; of one that is not, every caller joins
        the one read that is under way.
        """
        found = await asyncio.to_thread(self._copied, version) or await self._reads.get(version)
        return await asyncio.to_thread(record_of, *found)

    def look_up(self, version: ModelVersion) -> tuple[Manifest, Path]:
        """Returns the version's manifest and the folder of its proved copy (blocking).

        Raises:
            ValueError: with what is wrong, naming the file.
        """
        try:
            return self._cache.admit(version, self._reader)
        except StoreError as error:
            raise RegistryError(str(error)) from error

    def copy_of(self, version: ModelVersion) -> tuple[Manifest, Path]:
        """Returns the same of a version that was looked up before; never asks the registry, which may hang.

        Raises:
            ValueError: the copy is no longer there or no longer right.
        """
        found = self._copied(version)
        if found is None:
            raise RegistryError(f"the verified copy of {version} has vanished or was changed; copying it again")
        return found

    def allows_breaking(self, model_name: str) -> bool:
        model = self._models.get(model_name)
        return self._allow_breaking or (model is not None and model.allow_breaking)

    def generation(self, model_name: str) -> int:
        model = self._models.get(model_name)
        return int(model.pointer[:15] or "0", 16) if model is not None else 0

    def last_good(self, model_name: str) -> int | None:
        return self._state.last_good(model_name)

    async def remember(self, model_name: str, number: int) -> None:
        await asyncio.to_thread(self._state.set_last_good, model_name, number)

    # ------------------------------------------------------------------ what others may know

    def release_texts(self) -> dict[str, str]:
        """Returns the release (JSON) of each model that has one, as of the last look or of the life before."""
        return {name: model.release for name, model in self._models.items() if model.release}

    def alarms(self) -> list[str]:
        """Returns what is wrong in the registry and was left out of account."""
        return list(self._alarms.values())

    # ------------------------------------------------------------------ the registry

    def _opened(self) -> Reader:
        """Returns the registry, opened and known to be able to hold one."""
        if self._reader is None:
            if self._unfit is not None and 0 <= self._now() - self._unfit[0] < _UNFIT_S:
                raise Unfit(self._unfit[1])
            reader = self._open()
            try:
                reader.check()
            except Unfit as error:
                self._unfit = (self._now(), str(error))
                raise
            self._reader = reader
        return self._reader

    def _retired(self, reader: Reader) -> list[str]:
        """Returns the models whose version that served last was retired since: it is not to come back by a restart."""
        found = []
        for name, model in self._models.items():
            last = self._state.last_good(name)
            if last is None or last in model.versions:
                continue
            try:
                if numbering.is_retired(reader, ModelVersion(name, last)):
                    found.append(name)
            except StoreError as error:
                _log.warning("registry: whether %s/%d was retired cannot be read: %s", name, last, error)
        return found

    def _copied(self, version: ModelVersion) -> tuple[Manifest, Path] | None:
        try:
            return self._cache.admit(version, None)
        except StoreError:
            return None

    def _in_use(self) -> set[ModelVersion]:
        used = {ModelVersion(name, number) for name, model in self._models.items() for number in model.versions}
        for name in self._models:
            last = self._state.last_good(name)
            if last is not None:
                used.add(ModelVersion(name, last))
        return used

    def _raise(self, alarms: Mapping[str, str]) -> None:
        """Logs each alarm when it begins and when it is over."""
        for key, text in alarms.items():
            if self._alarms.get(key) != text:
                _log.error("registry: %s", text)
        for key in self._alarms.keys() - alarms.keys():
            _log.info("registry: %s is in order again", key)
        self._alarms = dict(alarms)
