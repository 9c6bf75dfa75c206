"""Follows a registry: which versions should be served, and what of them may be trusted.

Implements `ports.RegistrySource` and `ports.VersionRecords`. Level-triggered: every look reads every pointer anew and
compares its content, never a time stamp. Invariants: what cannot be read, has vanished, or contradicts what was said
before changes nothing that is served, and is an alarm; nothing is handed to Triton that was not copied here and proved;
a model goes only when its pointer says so.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable
from pathlib import Path

from gateway.registry import layout
from gateway.registry.cache import Reader, VersionCache
from gateway.registry.directory import RegistryError
from gateway.registry.document import MAX_DOCUMENT_BYTES, DocumentError
from gateway.registry.manifest import Manifest
from gateway.registry.recorded import record_of
from gateway.registry.serving import parse_serving, release_text
from gateway.registry.shared_reads import SharedReads
from gateway.registry.store import StoreError
from gateway.registry.watch_state import ModelState, WatchState
from gateway.versions import ModelVersion, VersionRecord

_log = logging.getLogger("sluice.registry")
_OWN = frozenset({layout.STAGING_FOLDER, layout.OWN_FOLDER, layout.JOURNAL_FILE})
_MOST_WARNINGS = 1000


class RegistryWatcher:
    """Owns the local copies below `folder` and the memory of what the registry said last.

    `open_reader` opens the registry; it is called again after a look that failed. `location` tells this registry from
    others that the folder was used for.
    """

    def __init__(
        self, open_reader: Callable[[], Reader], location: str, folder: Path, *, allow_breaking: bool = False
    ) -> None:
        name = hashlib.sha256(location.encode()).hexdigest()[:16]
        self._state = WatchState(folder / name / "state.json")
        self._cache = VersionCache(folder / name, self._state)
        self._open = open_reader
        self._reader: Reader | None = None
        self._location = location
        self._allow_breaking = allow_breaking
        self._models = self._state.models()
        self._alarms: dict[str, str] = {}
        self._warned: set[str] = set()
        self._first = True
        self._reads = SharedReads(self.look_up)

    # ------------------------------------------------------------------ ports.RegistrySource

    async def desired(self) -> dict[str, tuple[int, ...]]:
        """Returns the complete set of versions to serve, by model name, the stable one first.

        Raises:
            RegistryError: the registry cannot be read at all.
        """
        return await asyncio.to_thread(self.look)

    def last_known(self) -> dict[str, tuple[int, ...]]:
        """Returns what the registry said last, in this life of the gateway or the one before."""
        return {name: model.versions for name, model in self._models.items()}

    def look(self) -> dict[str, tuple[int, ...]]:
        """Does the work of `desired` in the calling thread."""
        try:
            reader = self._reader = self._reader or self._open()
            names = self._model_names(reader)
        except StoreError as error:
            self._reader = None
            raise RegistryError(f"the registry {self._location} cannot be read: {error}") from error
        alarms: dict[str, str] = {}
        models = dict(self._models)
        for name in sorted({*names, *models}):
            if name not in names and name in models:
                alarms[name] = f"{name} has vanished from the registry; serving what it said last"
                continue
            try:
                found = self._model(reader, name, models.get(name), alarms)
            except (DocumentError, StoreError) as error:
                alarms[name] = f"{name}: {error}; serving what it said last"
                continue
            if found is not None:
                models[name] = found
        for name, model in models.items():
            self._check_versions(reader, name, model, alarms)
        self._raise(alarms)
        if models != self._models or self._first:
            self._models = models
            self._state.set_models(models)
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

    # ------------------------------------------------------------------ looking

    def _model_names(self, reader: Reader) -> set[str]:
        names = set()
        for name in reader.names(""):
            if name in _OWN or name.startswith(".git"):
                continue
            if layout.is_model_name(name):
                names.add(name)
            else:
                self._warn(f"{name} is not a model name; ignored")
        return names

    def _model(self, reader: Reader, name: str, last: ModelState | None, alarms: dict[str, str]) -> ModelState | None:
        """Returns what the registry says of the model now; None if there is nothing in it."""
        stored = reader.read(f"{name}/{layout.SERVING_FILE}")
        present = self._numbers(reader, name)
        if stored is None:
            return self._without_pointer(name, present, last, alarms)
        if len(stored.content) > MAX_DOCUMENT_BYTES:
            raise DocumentError(layout.SERVING_FILE, ["is too large"])
        digest = hashlib.sha256(stored.content).hexdigest()
        if last is not None and last.pointer == digest:
            return last
        pointer = parse_serving(stored.content)
        if last is not None and pointer.generation < last.generation and not self._first:
            alarms[name] = (
                f"{name}: {layout.SERVING_FILE} went back from generation {last.generation} to {pointer.generation}; "
                "ignored until it grows again or the gateway is restarted"
            )
            return last
        allowed = pointer.stable is not None and pointer.allow_breaking == pointer.stable
        return ModelState(pointer.desired, pointer.generation, allowed, digest, release_text(pointer))

    def _without_pointer(
        self, name: str, present: list[int], last: ModelState | None, alarms: dict[str, str]
    ) -> ModelState | None:
        """A model without a pointer is served by its highest version."""
        if last is not None and last.generation:
            alarms[name] = f"{name}: {layout.SERVING_FILE} has vanished; serving what it said last"
            return last
        if not present:
            self._warn(f"{name} has no version; ignored")
            return last
        if last is not None and last.versions and present[-1] < last.versions[0]:
            return last  # its highest version has vanished, which is noticed below
        return ModelState((present[-1],))

    def _numbers(self, reader: Reader, name: str) -> list[int]:
        """Returns the model's complete versions in rising order; warns of what looks like one and is none."""
        numbers = []
        for entry in reader.names(name):
            number = layout.version_number(entry)
            if number is not None:
                numbers.append(number)
            elif (entry[:1] == "." or entry.lstrip("vV0")[:1].isdigit()) and entry != ".gitignore":
                self._warn(f"{name}/{entry} is not a version (1, 2, 3 …, without leading zeros); ignored")
        while numbers and reader.read(f"{name}/{max(numbers)}/{layout.MANIFEST_FILE}") is None:
            self._warn(f"{name}/{max(numbers)} has no {layout.MANIFEST_FILE}; ignored")
            numbers.remove(max(numbers))
        return sorted(numbers)

    def _check_versions(self, reader: Reader, name: str, model: ModelState, alarms: dict[str, str]) -> None:
        """Notices versions that were served from here and are no longer there, or no longer the same."""
        for number in model.versions:
            version = ModelVersion(name, number)
            pinned = self._state.pinned(version)
            if pinned is None:
                continue
            try:
                stored = reader.read(f"{name}/{number}/{layout.MANIFEST_FILE}")
            except StoreError as error:
                alarms[str(version)] = f"{version}: {error}; serving the verified copy"
                continue
            if stored is None:
                alarms[str(version)] = f"{version} has vanished from the registry; serving the verified copy"
            elif hashlib.sha256(stored.content).hexdigest() != pinned:
                alarms[str(version)] = f"{version}: {self._cache.changed(version)}; serving the verified copy"

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

    def _raise(self, alarms: dict[str, str]) -> None:
        """Logs each alarm when it begins and when it is over."""
        for key, text in alarms.items():
            if self._alarms.get(key) != text:
                _log.error("registry: %s", text)
        for key in self._alarms.keys() - alarms.keys():
            _log.info("registry: %s is in order again", key)
        self._alarms = alarms

    def _warn(self, text: str) -> None:
        if text not in self._warned and len(self._warned) < _MOST_WARNINGS:
            self._warned.add(text)
            _log.warning("registry: %s", text)
