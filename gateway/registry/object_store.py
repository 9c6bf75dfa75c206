"""A registry in a bucket: the store on S3 and what speaks like it, through obstore (extra `s3`).

A version is there when its manifest is, which is written last. Everything that two writers could fight over is written
with a precondition: If-None-Match for what is new, If-Match for what is replaced. A store that takes such a request
and ignores the precondition would lose versions in silence, so it is probed before the first write, and refused.

Invariant: an answer that was lost is no guess: the object is read, and what is written is told apart by its content.
"""

from __future__ import annotations

import logging
import os
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

from gateway.registry import layout
from gateway.registry.object_reading import LOGS, NotAllowed, ObjectReader, failed
from gateway.registry.object_writing import ObjectWriting
from gateway.registry.store import AlreadyThere, Changed, Step, StoreError, Unfit, no_step

_log = logging.getLogger("sluice.registry")
_PROBES = f"{layout.OWN_FOLDER}/probes"
_MOST_LOG_BYTES = 64 << 20
_MOST_TRIES = 1000
_OBSTACLES = "it cannot hold a registry: two publishers could overwrite each other. Use a store with conditional writes"


class ObjectStore(ObjectReader):
    """The registry below `s3://bucket/prefix`. Implements `store.Store`.

    Address and credentials come from the usual AWS_… variables (AWS_ENDPOINT_URL for other makes).
    """

    def __init__(self, location: str, step: Step = no_step, **settings: Any) -> None:
        super().__init__(location, **settings)
        self._step = step
        self._probed = False

    def check(self) -> None:
        """Returns if the store honours preconditions, or if this one may not write, and so not find out."""
        if not self._probed:
            try:
                self.probe()
            except NotAllowed as error:
                _log.info("%s: not probed for conditional writes, which takes leave to write", error)
                self._probed = True

    def probe(self) -> None:
        """Raises StoreError unless the store honours both preconditions. Writes and removes one small object."""
        key = f"{_PROBES}/{os.urandom(12).hex()}"
        try:
            first = self._put(key, b"1", "create")
            if self._accepts(key, b"2", "create"):
                raise Unfit(f"{self.location} ignores If-None-Match, so {_OBSTACLES}")
            if self._accepts(key, b"3", {"e_tag": '"0123456789abcdef0123456789abcdef"'}):
                raise Unfit(f"{self.location} ignores If-Match, so {_OBSTACLES}")
            self._put(key, b"4", {"e_tag": first})
            found = self.read(key)
            if found is None or found.content != b"4":
                raise Unfit(f"{self.location} does not keep what a conditional write wrote, so {_OBSTACLES}")
        except BaseError as error:
            raise failed(f"{self.location} cannot be written with preconditions", error) from error
        finally:
            with suppress(StoreError):
                self._delete([key])
        self._probed = True

    def create(self, key: str, content: bytes) -> str:
        self._ensure_probed()
        try:
            tag = self._put(key, content, "create")
        except BaseError as error:
            tag = self._after_failure(key, content, error, AlreadyThere(f"{key} is there already"))
        self._step(f"created {key}")
        return tag

    def replace(self, key: str, content: bytes, tag: str) -> str:
        self._ensure_probed()
        try:
            fresh = self._put(key, content, {"e_tag": tag})
        except BaseError as error:
            fresh = self._after_failure(key, content, error, Changed(f"{key} was changed by another process"))
        self._step(f"replaced {key}")
        return fresh

    def touch(self) -> None:
        try:
            obstore.put(self._store, layout.CHANGED_KEY, os.urandom(12).hex().encode())
        except BaseError as error:
            _log.info("%s", failed("followers could not be told of a change and will find it a little later", error))

    def append(self, key: str, line: bytes) -> None:
        """Adds to this month's part of the log: objects cannot grow, so a part is replaced by a longer one."""
        part = f"{LOGS}/{key}/{datetime.now(UTC):%Y-%m}"
        for _ in range(_MOST_TRIES):
            found = self.read(part)
            content = (found.content if found else b"") + line + b"\n"
            if len(content) > _MOST_LOG_BYTES:
                raise StoreError(f"{part} is larger than {_MOST_LOG_BYTES} bytes: move it away")
            try:
                if found is None:
                    self.create(part, content)
                else:
                    self.replace(part, content, found.tag)
            except (AlreadyThere, Changed):
                continue
            return
        raise StoreError(f"{part} was changed by others {_MOST_TRIES} times in a row: try again")

    def begin(self, folder: str) -> ObjectWriting:
        self._ensure_probed()
        return ObjectWriting(self, self._bulk, folder, self._step)

    def remove(self, folder: str) -> None:
        """Removes the manifest first: from then on the version is not there."""
        keys = self._keys(folder)
        manifest = f"{folder}/{layout.MANIFEST_FILE}"
        self._delete([key for key in keys if key == manifest])
        self._delete([key for key in keys if key != manifest])

    def leftovers(self, older_than_s: float, *, remove: bool) -> list[str]:
        """Finds versions without a manifest: nothing tells whose they are, so only their age counts."""
        found = []
        for model in filter(layout.is_model_name, self.names("")):
            for name in self.names(model):
                folder = f"{model}/{name}"
                items = self._items(folder) if layout.version_number(name) is not None else []
                if not items or self.read(f"{folder}/{layout.MANIFEST_FILE}") is not None:
                    continue
                age = time.time() - max(item["last_modified"].timestamp() for item in items)
                if age >= older_than_s:
                    found.append(f"{folder}: unfinished, untouched for {age / 3600:.1f} h")
                    if remove:
                        self.remove(folder)
        if remove:
            stale = [i for i in self._items(_PROBES) if time.time() - i["last_modified"].timestamp() >= older_than_s]
            self._delete([item["path"] for item in stale])
        return found

    # ------------------------------------------------------------------ requests

    def _put(self, key: str, content: bytes, mode: Any) -> str:
        return obstore.put(self._store, key, content, mode=mode)["e_tag"] or ""

    def _accepts(self, key: str, content: bytes, mode: Any) -> bool:
        try:
            self._put(key, content, mode)
        except (AlreadyExistsError, PreconditionError, FileNotFoundError):
            return False
        return True

    def _after_failure(self, key: str, content: bytes, error: BaseError, lost: StoreError) -> str:
        """Returns the tag if our write went through in spite of `error`; raises `lost` if another one's did."""
        found = self.read(key)
        if found is not None and found.content == content:
            return found.tag
        if isinstance(error, AlreadyExistsError | PreconditionError) or "ConditionalRequestConflict" in str(error):
            raise lost from None
        raise failed(f"{key} cannot be written", error) from error

    def _items(self, folder: str) -> list[Any]:
        try:
            return [item for chunk in obstore.list(self._store, folder) for item in chunk]
        except BaseError as error:
            raise failed(f"{folder} cannot be listed", error) from error

    def _keys(self, folder: str) -> list[str]:
        return [item["path"] for item in self._items(folder)]

    def _delete(self, keys: list[str]) -> None:
        try:
            if keys:
                obstore.delete(self._store, keys)
        except FileNotFoundError:
            pass
        except BaseError as error:
            raise failed(f"{keys[0]} cannot be removed", error) from error

    def _ensure_probed(self) -> None:
        if not self._probed:
            self.probe()
