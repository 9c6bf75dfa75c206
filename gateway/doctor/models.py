"""The registry: readable, manifests valid, artifacts there and unchanged."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from gateway.config import Config
from gateway.doctor.finding import Finding, failed, ok, warning
from gateway.registry.directory import DirectorySource, RegistryError
from gateway.registry.document import DocumentError
from gateway.registry.integrity import ArtifactsNotFetched, IntegrityError
from gateway.registry.numbering import numbers_present
from gateway.registry.opening import is_folder, open_store
from gateway.registry.pointing import pointer_of
from gateway.registry.store import Store, StoreError
from gateway.registry.verifying import models_in, verify_model
from gateway.versions import ModelVersion

_FETCH = "run `make models` (or `sluice models fetch`)"


def models(config: Config) -> Iterator[Finding]:
    """Checks every version that would be served; reads every byte of its files once."""
    if config.triton.source == "triton":
        return
    if not is_folder(config.registry.root):
        yield from _bucket(config.registry.root)
        return
    root = Path(config.registry.root)
    source = DirectorySource(root)
    warnings = _Warnings()
    registry_log = logging.getLogger("sluice.registry")
    registry_log.addHandler(warnings)
    propagate, registry_log.propagate = registry_log.propagate, False
    try:
        desired = source.scan()
    except RegistryError as error:
        yield failed("registry", str(error), "set registry.root, or start in the folder that holds model_repo")
        return
    finally:
        registry_log.propagate = propagate
        registry_log.removeHandler(warnings)
    for message in warnings.messages:
        yield warning("registry", message, "mend or remove it")
    if not desired:
        yield warning("registry", f"{root.absolute()} holds no model", "add a model, or set registry.root")
        return
    for name, numbers in desired.items():
        for number in numbers:
            yield _version(source, ModelVersion(name, number))
    for name in config.models:
        if name not in desired:
            yield warning(f"models.{name}", "is configured, but the registry has no such model", "correct the name")


def _bucket(location: str) -> Iterator[Finding]:
    try:
        store = open_store(location)
        store.check()
        names = models_in(store)
        if not names:
            yield warning("registry", f"{location} holds no model", "publish one, or set registry.root")
        for name in names:
            found = [problem for number in _served(store, name) for problem in verify_model(store, name, number)]
            for problem in found:
                yield failed(f"model {name}", str(problem), "publish the version again, or restore its files")
            if not found:
                yield ok(f"model {name}", "what is served is as it was published")
    except StoreError as error:
        yield failed("registry", str(error), "check registry.root and the AWS_... variables")


def _served(store: Store, name: str) -> tuple[int | None, ...]:
    """Returns the versions to check; None, which is the whole model, where the pointer cannot be read."""
    try:
        pointer = pointer_of(store, name)
    except DocumentError:
        return (None,)
    return pointer.desired if pointer is not None else numbers_present(store, name)[-1:]


def _version(source: DirectorySource, version: ModelVersion) -> Finding:
    subject = f"model {version}"
    try:
        manifest = source.verify(version)
    except ArtifactsNotFetched as error:
        return failed(subject, "; ".join(error.problems), _FETCH)
    except IntegrityError as error:
        return failed(subject, "; ".join(error.problems), "publish the version again, or restore its files")
    except (DocumentError, RegistryError, OSError) as error:
        return failed(subject, str(error), "mend its manifest.json")
    size = sum(entry.size for entry in manifest.files)
    targets = ", ".join(target.name for target in manifest.targets)
    return ok(subject, f"{len(manifest.files)} files, {size / 1e6:.1f} MB, for {targets}")


class _Warnings(logging.Handler):
    """Keeps what the registry reader warns about."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())
