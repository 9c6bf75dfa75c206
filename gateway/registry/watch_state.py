"""What the watcher remembers over a restart, in one small file: what was served, and which content each number has.

Invariants: the file is replaced whole; a file that cannot be read is like none (everything in it can be learned again,
only protection against changed versions starts anew). Thread-safe.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gateway.registry import durable
from gateway.versions import ModelVersion

_log = logging.getLogger("sluice.registry")
_FORM = 1
_MOST_PINS = 1000


@dataclass(frozen=True, slots=True)
class ModelState:
    """What the registry said last of a model; `generation` is 0 for a model without a pointer."""

    versions: tuple[int, ...]
    generation: int = 0
    allow_breaking: bool = False
    pointer: str = ""
    """sha256 of the pointer's content."""
    release: str = ""
    """The release as the pointer has it (JSON), empty if there is none."""


class WatchState:
    """Owns the file at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._models: dict[str, ModelState] = {}
        self._pins: dict[str, dict[int, str]] = {}
        self._last_good: dict[str, int] = {}
        self._saved = ""
        self._read()

    def models(self) -> dict[str, ModelState]:
        with self._lock:
            return dict(self._models)

    def last_good(self, model_name: str) -> int | None:
        return self._last_good.get(model_name)

    def pinned(self, version: ModelVersion) -> str | None:
        """Returns the digest of the manifest that was admitted under the version's number."""
        with self._lock:
            return self._pins.get(version.model_name, {}).get(version.number)

    def set_models(self, models: Mapping[str, ModelState], withdrawn: Collection[str] = ()) -> None:
        """Notes what the registry says; what served last of a model that is or was `withdrawn` is forgotten."""
        with self._lock:
            self._models = dict(models)
            for name in [name for name in self._last_good if self._withdrawn(name) or name in withdrawn]:
                del self._last_good[name]
        self._save()

    def set_last_good(self, model_name: str, number: int) -> None:
        with self._lock:
            if self._withdrawn(model_name):
                return  # decided before that was known
            self._last_good[model_name] = number
        self._save()

    def pin(self, version: ModelVersion, digest: str) -> None:
        with self._lock:
            pins = self._pins.setdefault(version.model_name, {})
            pins[version.number] = digest
            while len(pins) > _MOST_PINS:
                del pins[min(pins)]
        self._save()

    def _withdrawn(self, model_name: str) -> bool:
        model = self._models.get(model_name)
        return model is not None and not model.versions

    def _read(self) -> None:
        try:
            document = json.loads(self.path.read_text(encoding="utf-8"))
            if document["form"] != _FORM:
                raise ValueError("written by another version of Sluice")
            self._models = {
                name: ModelState(**(fields | {"versions": tuple(fields["versions"])}))
                for name, fields in document["models"].items()
            }
            self._pins = {
                name: {int(n): str(digest) for n, digest in pins.items()} for name, pins in document["pins"].items()
            }
            self._last_good = {name: int(number) for name, number in document["last_good"].items()}
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            _log.warning("what was served before cannot be read (%s): %s", self.path, error)

    def _save(self) -> None:
        with self._lock:
            document: dict[str, Any] = {
                "form": _FORM,
                "models": {name: asdict(model) for name, model in sorted(self._models.items())},
                "last_good": self._last_good,
                "pins": self._pins,
            }
            text = json.dumps(document, indent=1)
            if text == self._saved:
                return
            fresh = self.path.with_name(f"{self.path.name}.{os.getpid()}")
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                fresh.unlink(missing_ok=True)
                durable.write_new(fresh, text.encode())
                fresh.replace(self.path)
                durable.sync_folder(self.path.parent)
                self._saved = text
            except OSError as error:
                _log.error("what is served cannot be written down (%s): %s", self.path, error.strerror)
                with suppress(OSError):
                    fresh.unlink(missing_ok=True)
