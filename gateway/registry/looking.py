"""One look at a registry: what each model should be served as, and what is wrong.

Decides what of that which lies there counts. Invariants: what cannot be read, has vanished, or contradicts what was
said before leaves a model as it was and is an alarm; of a model of which nothing was ever known it is said that nothing
is known; a model goes only when its pointer says so.

In a folder every pointer is looked at every time. In a bucket, where each is a request, only a share of them is, in
turn; all of them as soon as `layout.CHANGED_KEY` differs, which writers see to.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from gateway.registry import layout
from gateway.registry.cache import VersionCache
from gateway.registry.document import DocumentError
from gateway.registry.glances import Glance, Glances, Reader
from gateway.registry.serving import ServingPointer, parse_serving, release_text
from gateway.registry.store import StoreError
from gateway.registry.watch_state import ModelState, WatchState
from gateway.versions import ModelVersion

_log = logging.getLogger("sluice.registry")
_OWN = frozenset({layout.STAGING_FOLDER, layout.OWN_FOLDER, layout.JOURNAL_FILE})
_MOST_WARNINGS = 1000
SWEEP = 32
"""Pointers that are looked at in turn where each look is a request."""
FILES_S = 60.0
"""How often the files of a version that serves are looked for."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a look found.

    `unreadable` are models that are there and of which nothing is known; `withdrawn` those that were out of service at
    some time since the last look, whatever they are now.
    """

    models: Mapping[str, ModelState]
    alarms: Mapping[str, str]
    unreadable: frozenset[str]
    withdrawn: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Model:
    """What was found of one model. `sure` is False if it could not be looked at, so that it is looked at again."""

    state: ModelState | None
    alarms: Mapping[str, str] = field(default_factory=dict)
    withdrawn: bool = False
    sure: bool = True

    @property
    def unreadable(self) -> bool:
        return self.state is None and bool(self.alarms)


@dataclass(frozen=True, slots=True)
class _Pointed:
    """A pointer that makes sense, and its content's sha256."""

    pointer: ServingPointer
    digest: str

    @property
    def generation(self) -> int:
        return self.pointer.generation

    @property
    def state(self) -> ModelState:
        pointer = self.pointer
        allowed = pointer.stable is not None and pointer.allow_breaking == pointer.stable
        return ModelState(pointer.desired, pointer.generation, allowed, self.digest, release_text(pointer))


class Looking:
    """Owns what was seen. `cache` holds what was proved; `now` gives seconds."""

    def __init__(self, state: WatchState, cache: VersionCache, now: Callable[[], float]) -> None:
        self._state = state
        self._changed, self._sizes = cache.changed, cache.sizes
        self._now = now
        self._filed: dict[ModelVersion, tuple[float, str]] = {}
        self._glances = Glances(now)
        self._found: dict[str, _Model] = {}
        self._turn = ""
        self._owed = False
        """Every pointer must be looked at, and the look that was to do it came to nothing."""
        self._pool: ThreadPoolExecutor | None = None
        self._warned: set[str] = set()

    def look(self, reader: Reader, last: Mapping[str, ModelState], *, first: bool) -> Look:
        """Returns what the registry says now; `last` is what it said before. Raises StoreError if nothing can be read.

        On the `first` look of a gateway's life a pointer may have an older generation than before: somebody went back
        to a copy of the registry and means it.
        """
        self._owed = self._told(reader) or self._owed
        names = self._model_names(reader)
        due = self._due(names)

        def examine(name: str) -> _Model:
            return self._examine(reader, name, last.get(name), first=first)

        found = {name: model for name, model in self._found.items() if name in names}
        found.update(zip(due, self._map(reader, examine, due), strict=True))
        self._owed = False
        models, alarms = dict(last), {}
        for name in last.keys() - names:
            alarms[name] = f"{name} has vanished from the registry; serving what it said last"
        for name, model in sorted(found.items()):
            alarms.update(model.alarms)
            if model.state is not None:
                models[name] = model.state
        if found.keys() != self._found.keys() or models != last:
            self._forget(names, models)
        self._found = found
        return Look(
            models,
            alarms,
            frozenset(name for name, model in found.items() if model.unreadable and name not in models),
            frozenset(name for name in due if found[name].withdrawn),
        )

    # ------------------------------------------------------------------ which

    def _told(self, reader: Reader) -> bool:
        """Whether every pointer must be looked at: it costs nothing, or somebody said that one was changed."""
        if reader.lanes == 1:
            return True
        glance = self._glances.document(reader, layout.CHANGED_KEY)
        return glance is not None and glance.content is not None

    def _model_names(self, reader: Reader) -> set[str]:
        names = set()
        for name in self._glances.names(reader, ""):
            if name in _OWN or name.startswith(".git"):
                continue
            if layout.is_model_name(name):
                names.add(name)
            else:
                self._warn(f"{name} is not a model name; ignored")
        return names

    def _due(self, names: Collection[str]) -> list[str]:
        """Returns the models to look at now."""
        ordered = sorted(names)
        if self._owed or len(ordered) <= SWEEP:
            return ordered
        begin = next((index for index, name in enumerate(ordered) if name > self._turn), 0)
        turn = [*ordered[begin:], *ordered[:begin]][:SWEEP]
        self._turn = turn[-1]
        unsure = {name for name in ordered if name not in self._found or not self._found[name].sure}
        return sorted({*turn, *unsure})

    def _map(self, reader: Reader, work: Callable[[str], _Model], names: list[str]) -> Iterable[_Model]:
        if reader.lanes == 1 or len(names) < 2:
            return map(work, names)
        self._pool = self._pool or ThreadPoolExecutor(reader.lanes, "registry")
        return self._pool.map(work, names)

    def _forget(self, names: Collection[str], models: Mapping[str, ModelState]) -> None:
        documents = {f"{name}/{layout.SERVING_FILE}" for name in names} | {layout.CHANGED_KEY}
        for name, model in models.items():
            documents |= {f"{name}/{number}/{layout.MANIFEST_FILE}" for number in model.versions}
        self._glances.keep(documents, {"", *names})
        served = {ModelVersion(name, number) for name, model in models.items() for number in model.versions}
        self._filed = {version: told for version, told in self._filed.items() if version in served}

    # ------------------------------------------------------------------ one model

    def _examine(self, reader: Reader, name: str, last: ModelState | None, *, first: bool) -> _Model:
        alarms: dict[str, str] = {}
        state, withdrawn, sure = last, False, True
        try:
            entries = self._entries(reader, name)
            glance = self._glances.document(reader, f"{name}/{layout.SERVING_FILE}")
            if glance is None:
                state = self._without_pointer(reader, name, entries, last, alarms)
            elif last is None or glance.digest != last.pointer:
                found = self._pointed(reader, name, glance)
                if last is not None and found.generation < last.generation and not first:
                    alarms[name] = (
                        f"{name}: {layout.SERVING_FILE} went back from generation {last.generation} to "
                        f"{found.generation}; ignored until it grows again or the gateway is restarted"
                    )
                else:
                    state, withdrawn = found.state, last is not None and _was_withdrawn(found.pointer, last.generation)
        except (DocumentError, StoreError) as error:
            alarms[name] = f"{name}: {error}; {'serving what it said last' if last else 'so none of it is served'}"
            sure = isinstance(error, DocumentError)
        except Exception as error:  # whatever one model does to us, the others are looked at
            _log.exception("looking at %s", name)
            alarms[name] = f"{name}: internal error ({type(error).__name__}); left as it was"
            sure = False
        if state is not None:
            alarms |= self._check_versions(reader, name, state, fresh=state is not last)
        return _Model(state, alarms, withdrawn, sure)

    def _pointed(self, reader: Reader, name: str, glance: Glance) -> _Pointed:
        content = glance.content
        if content is None:  # seen before and not taken
            stored = reader.read(f"{name}/{layout.SERVING_FILE}")
            if stored is None:
                raise StoreError(f"{layout.SERVING_FILE} vanished while it was read")
            content = stored.content
        return _Pointed(parse_serving(content), hashlib.sha256(content).hexdigest())

    def _without_pointer(
        self, reader: Reader, name: str, entries: Collection[str], last: ModelState | None, alarms: dict[str, str]
    ) -> ModelState | None:
        """A model without a pointer is served by its highest version."""
        if last is not None and last.generation:
            alarms[name] = f"{name}: {layout.SERVING_FILE} has vanished; serving what it said last"
            return last
        highest = self._highest(reader, name, entries)
        if highest is None:
            self._warn(f"{name} has no version; ignored")
            return last
        if last is not None and last.versions and highest < last.versions[0]:
            return last  # its highest version has vanished, which is noticed with the versions
        return ModelState((highest,))

    def _entries(self, reader: Reader, name: str) -> tuple[str, ...]:
        """Returns what lies in the model's folder; warns of what looks like a version and is none."""
        entries = self._glances.names(reader, name, reader.listing_seconds)
        for entry in entries:
            if (
                layout.version_number(entry) is None
                and (entry[:1] == "." or entry.lstrip("vV0")[:1].isdigit())
                and entry != ".gitignore"
            ):
                self._warn(f"{name}/{entry} is not a version (1, 2, 3 …, without leading zeros); ignored")
        return entries

    def _highest(self, reader: Reader, name: str, entries: Collection[str]) -> int | None:
        """Returns the highest complete version."""
        numbers = (number for entry in entries if (number := layout.version_number(entry)) is not None)
        for number in sorted(numbers, reverse=True):
            key = f"{name}/{number}/{layout.MANIFEST_FILE}"
            if self._glances.document(reader, key, reader.listing_seconds) is not None:
                return number
            self._warn(f"{name}/{number} has no {layout.MANIFEST_FILE}; ignored")
        return None

    def _check_versions(self, reader: Reader, name: str, state: ModelState, *, fresh: bool) -> dict[str, str]:
        """Notices versions that were served from here and are no longer there, or no longer the same."""
        alarms = {}
        for number in state.versions:
            version = ModelVersion(name, number)
            pinned = self._state.pinned(version)
            if pinned is None:
                continue
            key, believe = f"{name}/{number}/{layout.MANIFEST_FILE}", 0.0 if fresh else reader.listing_seconds
            try:
                glance = self._glances.document(reader, key, believe)
            except StoreError as error:
                alarms[str(version)] = f"{version}: {error}; serving the verified copy"
                continue
            if glance is None:
                alarms[str(version)] = f"{version} has vanished from the registry; serving the verified copy"
            elif glance.digest != pinned:
                alarms[str(version)] = f"{version}: {self._changed(version)}; serving the verified copy"
            elif problem := self._file_problem(reader, version):
                alarms[str(version)] = f"{version}: {problem}; serving the verified copy"
        return alarms

    def _file_problem(self, reader: Reader, version: ModelVersion) -> str:
        """Returns what is wrong with the files of a version that serves, from their names and sizes; asked seldom."""
        at, problem = self._filed.get(version, (float("-inf"), ""))
        if 0 <= self._now() - at < FILES_S:
            return problem
        expected = self._sizes(version) or {}
        try:
            found = reader.sizes(f"{version.model_name}/{version.number}") if expected else {}
        except StoreError as error:
            problem = str(error)
        else:
            wrong = [path for path, size in expected.items() if found.get(path) != size]
            what = "is missing" if wrong and wrong[0] not in found else "has another size than when it was published"
            more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
            problem = f"{wrong[0]} {what}{more}" if wrong else ""
        self._filed[version] = (self._now(), problem)
        return problem

    def _warn(self, text: str) -> None:
        if text not in self._warned and len(self._warned) < _MOST_WARNINGS:
            self._warned.add(text)
            _log.warning("registry: %s", text)


def _was_withdrawn(pointer: ServingPointer, since: int) -> bool:
    """Whether the model was out of service at some generation between `since` and the pointer's.

    What the history has forgotten counts as such, unless there is none at all: pointers written by hand have none.
    """
    between = pointer.generation - since - 1
    if not pointer.history or between < 1:
        return False
    # (Nobody has checked what a history says.)
    known = {at: item.get("stable") for item in pointer.history if isinstance(at := item.get("generation"), int)}
    return between > len(known) or any(known.get(since + 1 + number) is None for number in range(between))
