"""One version on its way into a bucket: files first, then the manifest, without which there is no version."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from gateway.registry import layout
from gateway.registry.store import Step, StoreError, Written

if TYPE_CHECKING:
    from gateway.registry.object_store import ObjectStore

_CHUNK = 8 << 20


class ObjectWriting:
    """Implements `store.Writing`. Its number was given to nobody else, so nobody else writes below `folder`."""

    def __init__(self, owner: ObjectStore, store: S3Store, folder: str, step: Step) -> None:
        self._owner = owner
        self._store = store
        self._folder = folder
        self._step = step
        self._written: dict[str, Written] = {}
        self._done = False

    def add(self, path: str, source: Path | bytes) -> Written:
        key = f"{self._folder}/{path}"
        try:
            if isinstance(source, bytes):
                written = Written(len(source), hashlib.sha256(source).hexdigest())
                self._written[path] = written
                obstore.put(self._store, key, source)
            else:
                # Hashed and sent in two passes; reading it back afterwards shows a file that changed in between.
                with open(os.open(source, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
                    digest = hashlib.file_digest(file, "sha256")
                    written = Written(file.tell(), digest.hexdigest())
                    file.seek(0)
                    self._written[path] = written
                    obstore.put(self._store, key, file, chunk_size=_CHUNK, max_concurrency=4)
        except (BaseError, OSError) as error:
            raise StoreError(f"{key} cannot be written: {str(error).partition(chr(10))[0][:500]}") from error
        self._step(f"wrote {path}")
        return written

    def written(self, path: str) -> Written:
        return self._owner.digest(f"{self._folder}/{path}") or Written(0, "")

    def commit(self, manifest: bytes) -> None:
        self._check(self._written)
        key = f"{self._folder}/{layout.MANIFEST_FILE}"
        self._owner.create(key, manifest)
        self._done = True
        self._step("placed")

    def abandon(self) -> None:
        if not self._done and self._written:
            self._owner.remove(self._folder)
            self._written.clear()

    def _check(self, expected: Mapping[str, Written]) -> None:
        """Whoever took so long that the collector came by must not make half a version visible."""
        gone = [path for path in expected if self.size_of(path) != expected[path].size]
        if gone:
            raise StoreError(f"{self._folder}: {', '.join(gone)} is not there any more: publish again")

    def size_of(self, path: str) -> int:
        """Returns the object's size, -1 if it is not there."""
        try:
            return int(obstore.head(self._store, f"{self._folder}/{path}")["size"])
        except FileNotFoundError:
            return -1
        except BaseError as error:
            raise StoreError(f"{self._folder}/{path} cannot be read: {error}") from error
