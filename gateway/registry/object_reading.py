"""The reading half of a registry in a bucket.

Invariants: what did not change is not sent again (an ETag tells); a large object is read in parts, each with a time
limit and retries of its own, so that a slow line takes long and does not fail, and all parts are of one object.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from datetime import timedelta
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError, NotModifiedError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from gateway.registry import durable, layout
from gateway.registry.ahead import ahead
from gateway.registry.document import MAX_DOCUMENT_BYTES
from gateway.registry.store import ABSENT, SAME, Listed, Mark, Same, Stored, StoreError, Written

if TYPE_CHECKING:
    from obstore import GetOptions

LOGS = f"{layout.OWN_FOLDER}/logs"
PART_BYTES = 8 << 20
_PARTS_AT_A_TIME = 4
_REQUEST_S = 60
_PART_S = 600


class NotAllowed(StoreError):
    """These credentials may not do that."""


class ObjectReader:
    """Reads the registry below `s3://bucket/prefix`. The reading part of `store.Store`.

    Address and credentials come from the usual AWS_… variables (AWS_ENDPOINT_URL for other makes).
    """

    def __init__(self, location: str, **settings: Any) -> None:
        parts = urlsplit(location)
        if parts.scheme != "s3" or not parts.netloc or parts.query or parts.username:
            raise StoreError(f"{location} is not s3://bucket/prefix")
        self._location = f"s3://{parts.netloc}/{parts.path.strip('/')}".rstrip("/")
        endpoint = settings.get("endpoint") or os.environ.get("AWS_ENDPOINT_URL") or ""

        def opened(seconds: int) -> S3Store:
            return S3Store(
                parts.netloc,
                prefix=parts.path.strip("/") or None,
                client_options={
                    "allow_http": endpoint.startswith("http://"), "timeout": f"{seconds}s", "connect_timeout": "5s",
                },
                retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=seconds)},
                **settings,
            )  # fmt: skip

        try:
            # The time limit of a request holds to the end of its body: parts of files get more of it.
            self._store, self._bulk = opened(_REQUEST_S), opened(_PART_S)
        except BaseError as error:
            raise StoreError(f"{location}: {first_line(error)}") from error

    @property
    def location(self) -> str:
        return self._location

    @property
    def lanes(self) -> int:
        return 16

    @property
    def listing_seconds(self) -> float:
        return 30.0

    def read(self, key: str) -> Stored | None:
        found = self.reread(key, None)
        assert found is not SAME
        return found

    def reread(self, key: str, mark: Mark) -> Stored | Same | None:
        try:
            found = obstore.get(self._store, key, options={"if_none_match": mark} if isinstance(mark, str) else None)
            if found.meta["size"] > MAX_DOCUMENT_BYTES and not key.startswith(LOGS):
                return Stored(bytes(MAX_DOCUMENT_BYTES + 1), "")
            content = bytes(found.bytes())
        except NotModifiedError:
            return SAME
        except FileNotFoundError:
            return None
        except BaseError as error:
            raise failed(f"{key} cannot be read", error) from error
        tag = found.meta["e_tag"] or ""
        return Stored(content, tag, tag or None)

    def mark(self, key: str) -> Mark:
        try:
            return obstore.head(self._store, key)["e_tag"]
        except FileNotFoundError:
            return ABSENT
        except BaseError as error:
            raise failed(f"{key} cannot be read", error) from error

    def lines(self, key: str) -> Iterator[bytes]:
        for part in self.names(f"{LOGS}/{key}"):
            found = self.read(f"{LOGS}/{key}/{part}")
            yield from (found.content.splitlines() if found else ())

    def names(self, folder: str) -> list[str]:
        try:
            found = obstore.list_with_delimiter(self._store, folder or None)
        except BaseError as error:
            raise failed(f"{folder or self.location} cannot be listed", error) from error
        # Some servers list an empty folder as its own content.
        start = f"{folder}/" if folder else ""
        paths = (*found["common_prefixes"], *(item["path"] for item in found["objects"]))
        names = {path.removeprefix(start).strip("/") for path in paths if path.startswith(start)}
        return sorted(name for name in names if name and "/" not in name)

    def relist(self, folder: str, mark: Mark) -> Listed | Same:
        return Listed(tuple(self.names(folder)))

    def sizes(self, folder: str) -> Mapping[str, int]:
        try:
            items = [item for chunk in obstore.list(self._store, folder) for item in chunk]
        except BaseError as error:
            raise failed(f"{folder} cannot be listed", error) from error
        return {item["path"].removeprefix(f"{folder}/"): int(item["size"]) for item in items}

    def digest(self, key: str) -> Written | None:
        try:
            return self._read_through(key, None, None)
        except FileNotFoundError:
            return None
        except BaseError as error:
            raise failed(f"{key} cannot be read", error) from error

    def fetch(self, key: str, target: Path, most: int | None = None) -> Written:
        try:
            written = self._read_through(key, target, most)
            durable.sync_folder(target.parent)
        except (BaseError, OSError) as error:
            raise StoreError(f"{key} cannot be copied: {first_line(error)}") from error
        return written

    def _read_through(self, key: str, target: Path | None, most: int | None) -> Written:
        """Reads an object of any size, into the new file `target` if there is one. Raises as obstore does."""
        total, tag, first = self._first_part(key)
        if most is not None and total > most:
            return Written(total, "", tag)
        digest, size = hashlib.sha256(), 0
        with open(target, "xb") if target is not None else nullcontext() as file:
            for part in chain([first], self._more_parts(key, total, tag) if total > PART_BYTES else ()):
                digest.update(part)
                size += len(part)
                if file is not None:
                    file.write(part)
            if file is not None:
                file.flush()
                os.fsync(file.fileno())
        return Written(size, digest.hexdigest(), tag)

    def _first_part(self, key: str) -> tuple[int, str | None, bytes]:
        """Returns the object's size, its ETag and the beginning of it."""
        try:
            found = obstore.get(self._bulk, key, options={"range": (0, PART_BYTES)})
            return int(found.meta["size"]), found.meta["e_tag"], bytes(found.bytes())
        except FileNotFoundError:
            raise
        except BaseError:
            found_head = obstore.head(self._bulk, key)
            if found_head["size"] != 0:  # of nothing there is no part, says S3
                raise
            return 0, found_head["e_tag"], b""

    def _more_parts(self, key: str, total: int, tag: str | None) -> Iterator[bytes]:
        """Yields the parts after the first in order, some of them fetched ahead."""
        condition: GetOptions = {"if_match": tag} if tag else {}

        def part(start: int) -> bytes:
            end = min(start + PART_BYTES, total)
            found = bytes(obstore.get(self._bulk, key, options={**condition, "range": (start, end)}).bytes())
            if len(found) != end - start:
                raise OSError(f"bytes {start} to {end} were cut short")
            return found

        return ahead(part, range(PART_BYTES, total, PART_BYTES), _PARTS_AT_A_TIME)


def failed(what: str, error: BaseError) -> StoreError:
    """Returns the error to raise, in one line."""
    kind = NotAllowed if isinstance(error, PermissionDeniedError | UnauthenticatedError) else StoreError
    return kind(f"{what}: {first_line(error)}")


def first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).partition("\n")[0][:500]
