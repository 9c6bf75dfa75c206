"""A registry in a directory: the embedded `model_repo/` or any folder of the same layout.

Decides which of what lies there counts. Invariants: nothing is written; what cannot be used is left out with one
warning for each cause, never silently and never again at every look; a broken model does not hide the others.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from pathlib import Path

from gateway.errors import SourceUnreadable
from gateway.registry import layout
from gateway.registry.document import MAX_DOCUMENT_BYTES, DocumentError
from gateway.registry.integrity import check_manifest, verify_version
from gateway.registry.manifest import Manifest, parse_manifest
from gateway.registry.serving import ServingPointer, parse_serving
from gateway.versions import ModelVersion

_log = logging.getLogger("sluice.registry")


class RegistryError(SourceUnreadable):
    """The registry itself cannot be read, or does not have what was asked for."""


class DirectorySource:
    """Reads the registry below `root`. Implements `ports.RegistrySource`."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._warned: set[str] = set()

    async def desired(self) -> dict[str, tuple[int, ...]]:
        """Returns the complete set of versions to serve, by model name, the stable one first.

        A model with a `serving.json` is served as it says, one without by its highest version.

        Raises:
            RegistryError: the root is not a folder that can be listed.
        """
        return await asyncio.to_thread(self.scan)

    def scan(self) -> dict[str, tuple[int, ...]]:
        """Does the work of `desired` in the calling thread."""
        try:
            folders = sorted(self.root.iterdir())
        except OSError as error:
            raise RegistryError(f"the registry {self.root} cannot be read: {error.strerror}") from error
        found = {}
        for folder in folders:
            if not folder.is_dir() or folder.name in (layout.STAGING_FOLDER, layout.OWN_FOLDER):
                continue
            if not layout.is_model_name(folder.name):
                self._warn(folder, "is not a model name; ignored")
                continue
            if versions := self._desired_of(folder):
                found[folder.name] = versions
        return found

    def versions(self, model_name: str) -> tuple[int, ...]:
        """Returns every version of the model that has a manifest, in rising order."""
        numbers = []
        for folder in layout.model_path(self.root, model_name).iterdir():
            if not folder.is_dir():
                continue
            number = layout.version_number(folder.name)
            if number is None:
                self._warn(folder, "is not a version (1, 2, 3 …, without leading zeros); ignored")
            elif not (folder / layout.MANIFEST_FILE).is_file():
                self._warn(folder, "has no manifest.json; ignored")
            else:
                numbers.append(number)
        return tuple(sorted(numbers))

    def serving(self, model_name: str) -> ServingPointer | None:
        """Returns the model's pointer, or None if it has none. Raises DocumentError if it cannot be used."""
        path = layout.serving_path(self.root, model_name)
        try:
            return parse_serving(_read(path))
        except FileNotFoundError:
            return None

    def version_path(self, version: ModelVersion) -> Path:
        """Returns the version's folder, whether it exists or not."""
        return layout.version_path(self.root, version)

    def manifest(self, version: ModelVersion) -> Manifest:
        """Returns the version's manifest.

        Raises:
            RegistryError: the version is not there.
            IntegrityError: its manifest is not the one that was published.
            DocumentError: its manifest cannot be used.
        """
        folder = self.version_path(version)
        try:
            content = _read(folder / layout.MANIFEST_FILE)
        except FileNotFoundError as error:
            raise RegistryError(f"{version} is not in the registry") from error
        digest: bytes | None = None
        with suppress(FileNotFoundError):
            digest = _read(folder / layout.MANIFEST_DIGEST_FILE)
        check_manifest(str(version), content, digest)
        return parse_manifest(content, version)

    def verify(self, version: ModelVersion) -> Manifest:
        """Returns the version's manifest after checking every file against it (blocking; see `verify_version`)."""
        manifest = self.manifest(version)
        verify_version(self.version_path(version), manifest)
        return manifest

    def _desired_of(self, folder: Path) -> tuple[int, ...]:
        try:
            present = self.versions(folder.name)
            pointer = self.serving(folder.name)
        except (DocumentError, OSError) as error:
            self._warn(folder, f"cannot be served: {error}")
            return ()
        if pointer is None:
            if not present:
                self._warn(folder, "has no version; ignored")
            return present[-1:]
        # A version that is named but not there is announced all the same: its load fails with a reason, and an accident
        # on the disk never reads as "unload it".
        return pointer.desired

    def _warn(self, path: Path, message: str) -> None:
        text = f"{path.relative_to(self.root)} {message}"
        if text not in self._warned and len(self._warned) < 1000:
            self._warned.add(text)
            _log.warning("registry: %s", text)


def _read(path: Path) -> bytes:
    """Returns a document's bytes, at most one more than allowed, so that a huge file is refused and not read."""
    with open(path, "rb") as file:
        return file.read(MAX_DOCUMENT_BYTES + 1)
