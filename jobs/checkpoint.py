"""Checkpoints that are whole or not there: written aside, verified, renamed into place; the last N are kept.

Decides the format: one folder a checkpoint, one file an entry, and a manifest with the sha256 of each, written last.
Arrays and dictionaries of arrays are stored bit for bit without pickle; anything with a torch tensor by torch (which is
imported only if the program has it loaded, or the checkpoint needs it); the rest by pickle. Loading takes the newest
checkpoint whose digests all agree, and says which ones it passed over. A checkpoint is as trusted as the program that
wrote it: do not load one from somebody else.

    checkpoints = Checkpoints(folder)
    if (found := checkpoints.load()) is not None:
        step, model = found.step, found["model"]
    checkpoints.save(step, {"model": {"w": w}, "sampler": sampler.state(), "random": randomness.capture()})
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import pickle
import re
import shutil
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jobs.files import read_json, sync_folder

_NAME = re.compile(r"step-(\d{12})\.(\d{4,})")
_ENTRY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_MANIFEST = "manifest.json"
_FORMAT = 1


class Damaged(Exception):
    """The checkpoint is not what was written."""


class Checkpoint(Mapping[str, Any]):
    """A checkpoint that was read and verified: its entries by name."""

    def __init__(self, step: int, entries: Mapping[str, Any]) -> None:
        self.step = step
        self._entries = dict(entries)

    def __getitem__(self, name: str) -> Any:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


class Checkpoints:
    """Owns one folder of checkpoints. One writer at a time (of several ranks, let one save)."""

    def __init__(self, folder: str | Path, keep: int = 3) -> None:
        if keep < 1:
            raise ValueError("at least one checkpoint must be kept")
        self._folder = Path(folder)
        self._keep = keep

    def steps(self) -> list[int]:
        """Returns the steps there are checkpoints of, oldest first."""
        return [step for step, _, _ in self._found()]

    def save(self, step: int, state: Mapping[str, Any]) -> Path:
        """Saves `state` as the newest checkpoint and returns its folder; then removes all but the last N.

        Raises:
            OSError: it could not be written (a full disk); the checkpoints before it are untouched.
            Damaged: what was written reads back differently; likewise.
        """
        if not 0 <= step < 10**12:
            raise ValueError(f"step {step} is not from 0 to 999,999,999,999")
        self._folder.mkdir(parents=True, exist_ok=True)
        part = self._folder / f".part-{os.getpid()}-{step}"
        shutil.rmtree(part, ignore_errors=True)
        try:
            part.mkdir()
            entries = {name: _write(part, number, name, value) for number, (name, value) in enumerate(state.items())}
            manifest = {"format": _FORMAT, "step": step, "entries": entries, "digest": _digest_of(step, entries)}
            _write_file(part / _MANIFEST, json.dumps(manifest, indent=1).encode())
            sync_folder(part)
            _verified(part, step)
            # Saving a step again (it was redone) makes a new generation: nothing good is ever replaced.
            generation = max((old for of, old, _ in self._found() if of == step), default=-1) + 1
            final = self._folder / f"step-{step:012d}.{generation:04d}"
            part.rename(final)
            sync_folder(self._folder)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
        self._prune(step)
        return final

    def load(self, step: int | None = None) -> Checkpoint | None:
        """Returns the newest checkpoint that is whole (of `step` if given), or None. Warns of damaged ones."""
        for found, _, path in reversed(self._found()):
            if step is not None and found != step:
                continue
            try:
                contents = _verified(path, found)
                return Checkpoint(found, {name: _decode(*content) for name, content in contents.items()})
            except (Damaged, OSError) as error:
                warnings.warn(f"checkpoint {path.name} is passed over: {error}", RuntimeWarning, stacklevel=2)
        return None

    def _found(self) -> list[tuple[int, int, Path]]:
        try:
            names = os.listdir(self._folder)
        except FileNotFoundError:
            return []
        matches = [(match, self._folder / name) for name in names if (match := _NAME.fullmatch(name))]
        return sorted((int(match[1]), int(match[2]), path) for match, path in matches)

    def _prune(self, saved: int) -> None:
        """Removes all but the last N up to the step just saved, what comes after it, and what kills left half done."""
        found = self._found()
        # A later step than the one just saved is of a run that was given up (it was resumed from before it).
        upto = [entry for entry in found if entry[0] <= saved]
        for path in [entry[2] for entry in found if entry[0] > saved] + [entry[2] for entry in upto[: -self._keep]]:
            gone = path.with_name(f".part-gone-{path.name}")
            with contextlib.suppress(OSError):
                path.rename(gone)  # half a checkpoint must never be found under a good name
        for name in os.listdir(self._folder):
            if name.startswith(".part-"):
                shutil.rmtree(self._folder / name, ignore_errors=True)


def _write(part: Path, number: int, name: str, value: Any) -> dict[str, Any]:
    if not _ENTRY.fullmatch(name):
        raise ValueError(f"'{name}' cannot be the name of an entry")
    kind, names, content = _encode(value)
    file = f"{number:03d}.{kind}"
    _write_file(part / file, content)
    return {"file": file, "kind": kind, "names": names, "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest()}  # fmt: skip


def _write_file(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _digest_of(step: int, entries: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps([step, entries], sort_keys=True).encode()).hexdigest()


def _verified(folder: Path, step: int) -> dict[str, tuple[str, list[str], bytes]]:
    """Returns the bytes of every entry. Raises Damaged, OSError."""
    manifest = read_json(folder / _MANIFEST)
    if manifest is None:
        raise Damaged("its manifest cannot be read")
    entries = manifest.get("entries")
    if manifest.get("format") != _FORMAT or manifest.get("step") != step or not isinstance(entries, dict):
        raise Damaged("its manifest is not one")
    if manifest.get("digest") != _digest_of(step, entries):
        raise Damaged("its manifest was changed")
    found = {}
    for name, entry in entries.items():
        content = (folder / entry["file"]).read_bytes()
        if hashlib.sha256(content).hexdigest() != entry["sha256"]:
            raise Damaged(f"{name} is not what was written")
        found[name] = (entry["kind"], entry["names"], content)
    return found


# ---------------------------------------------------------------------- entries


def _encode(value: Any) -> tuple[str, list[str], bytes]:
    """Returns kind, names of arrays, and bytes."""
    stream = io.BytesIO()
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        np.save(stream, value, allow_pickle=False)
        return "npy", [], stream.getvalue()
    if isinstance(value, dict) and value and all(_is_plain(name, array) for name, array in value.items()):
        np.savez(stream, *value.values(), allow_pickle=False)
        return "npz", list(value), stream.getvalue()
    torch = sys.modules.get("torch")
    if torch is not None and _has_tensor(value, torch.Tensor):
        torch.save(value, stream)
        return "pt", [], stream.getvalue()
    return "pickle", [], pickle.dumps(value, protocol=5)


def _is_plain(name: object, array: object) -> bool:
    return type(name) is str and type(array) is np.ndarray and not array.dtype.hasobject


def _has_tensor(value: Any, tensor: type[Any]) -> bool:
    if isinstance(value, tensor):
        return True
    if isinstance(value, Mapping):
        return any(_has_tensor(inner, tensor) for inner in value.values())
    return isinstance(value, list | tuple) and any(_has_tensor(inner, tensor) for inner in value)


def _decode(kind: str, names: list[str], content: bytes) -> Any:
    stream = io.BytesIO(content)
    if kind == "npy":
        return np.load(stream, allow_pickle=False)
    if kind == "npz":
        with np.load(stream, allow_pickle=False) as arrays:
            return {name: arrays[f"arr_{number}"] for number, name in enumerate(names)}
    if kind == "pt":
        import torch  # type: ignore[import-not-found,unused-ignore]

        return torch.load(stream, map_location="cpu", weights_only=False)
    if kind == "pickle":
        return pickle.loads(content)
    raise Damaged(f"an entry is of the unknown kind '{kind}'")
