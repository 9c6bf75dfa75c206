"""Brings rendered versions to a Triton: as folders of a repository on a common disk, or pushed over its load API.

Invariants: a folder under the repository's root is complete or absent (rendered beside it, then renamed); artifacts are
never changed; both ways give the same configuration.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
from collections.abc import Callable, Collection
from pathlib import Path

from gateway.backends.triton_config import to_text
from gateway.backends.triton_repository import Lookup, RenderedModel, RenderOptions, render, triton_name
from gateway.errors import ErrorCode, GatewayError
from gateway.versions import ModelVersion


class DiskPlacement:
    """Places versions in the model repository of a Triton that shares our disk.

    `models` below `root` is Triton's `--model-repository`; rendering happens in `staging` beside it.
    """

    def __init__(self, root: Path, lookup: Lookup, options_for: Callable[[str], RenderOptions]) -> None:
        self.models = root.absolute() / "models"
        self._staging = root.absolute() / "staging"
        self._lookup = lookup
        self._options_for = options_for
        self._serial = itertools.count()

    async def fingerprint(self, version: ModelVersion) -> str:
        """Returns what `prepare` would render, in short. Raises GatewayError as it does."""
        return await asyncio.to_thread(_fingerprint, version, self._lookup, self._options_for)

    async def prepare(self, version: ModelVersion) -> dict[str, str | bytes]:
        """Renders `version` where Triton finds it; returns the parameters for its load call (none are needed).

        Raises:
            GatewayError: BACKEND_FAILED with the reason.
        """
        await asyncio.to_thread(self.write, version)
        return {}

    async def discard(self, version: ModelVersion) -> None:
        """Removes what was rendered for `version`, if anything."""
        await asyncio.to_thread(self._remove, self.models / triton_name(version))

    def write(self, version: ModelVersion) -> RenderedModel:
        """Does the work of `prepare` in the calling thread; a folder that is there already is replaced."""
        rendered = _rendered(version, self._lookup, self._options_for)
        fresh = self._staging / f"{rendered.name}.{os.getpid()}.{next(self._serial)}"
        try:
            (fresh / "1").mkdir(parents=True)
            (fresh / "config.pbtxt").write_text(to_text(rendered.config), encoding="ascii")
            for path, content in rendered.files.items():
                _place(content, fresh / path)
            self.models.mkdir(parents=True, exist_ok=True)
            self._remove(self.models / rendered.name)
            fresh.rename(self.models / rendered.name)
        except OSError as error:
            shutil.rmtree(fresh, ignore_errors=True)
            raise GatewayError(
                ErrorCode.BACKEND_FAILED, f"{version} could not be placed for Triton: {error.strerror}"
            ) from error
        return rendered

    def prune(self, keep: Collection[ModelVersion]) -> list[str]:
        """Removes every rendered folder but those of `keep`, and unfinished ones; returns the names removed."""
        shutil.rmtree(self._staging, ignore_errors=True)
        names = {triton_name(version) for version in keep}
        stale = [path for path in self.models.glob("*") if path.name not in names]
        for path in stale:
            self._remove(path)
        return sorted(path.name for path in stale)

    def _remove(self, folder: Path) -> None:
        """Takes `folder` away in one step, then deletes it."""
        gone = self._staging / f"{folder.name}.{os.getpid()}.{next(self._serial)}.gone"
        self._staging.mkdir(parents=True, exist_ok=True)
        try:
            folder.rename(gone)
        except FileNotFoundError:
            return
        shutil.rmtree(gone, ignore_errors=True)


class PushPlacement:
    """Carries versions to a Triton over its API; nothing lies on a disk of ours."""

    def __init__(self, lookup: Lookup, options_for: Callable[[str], RenderOptions]) -> None:
        self._lookup = lookup
        self._options_for = options_for

    async def fingerprint(self, version: ModelVersion) -> str:
        """Returns what `prepare` would push, in short. Raises GatewayError as it does."""
        return await asyncio.to_thread(_fingerprint, version, self._lookup, self._options_for)

    async def prepare(self, version: ModelVersion) -> dict[str, str | bytes]:
        """Returns the parameters for the load call: `config` (text) and `file:<path>` (bytes).

        Raises:
            GatewayError: BACKEND_FAILED with the reason.
        """
        return await asyncio.to_thread(self._load_parameters, version)

    async def discard(self, version: ModelVersion) -> None:
        """Triton keeps nothing of a pushed model after its unload."""

    def _load_parameters(self, version: ModelVersion) -> dict[str, str | bytes]:
        return _rendered(version, self._lookup, self._options_for).load_parameters()


def _rendered(version: ModelVersion, lookup: Lookup, options_for: Callable[[str], RenderOptions]) -> RenderedModel:
    try:
        description, folder = lookup(version)
    except ValueError as error:
        raise GatewayError(ErrorCode.BACKEND_FAILED, str(error)) from error
    return render(description, folder, options_for(version.model_name))


def _fingerprint(version: ModelVersion, lookup: Lookup, options_for: Callable[[str], RenderOptions]) -> str:
    return _rendered(version, lookup, options_for).fingerprint


def _place(content: Path | bytes, target: Path) -> None:
    """Writes or links one file. A hard link costs nothing and survives if the registry's folder vanishes."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        target.write_bytes(content)
        return
    real = content.resolve()
    try:
        os.link(real, target)
    except OSError:
        shutil.copyfile(real, target)
