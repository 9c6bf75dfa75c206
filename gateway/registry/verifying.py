"""Checks what a registry holds against what was published, and names every file that is not as it should be.

Decides nothing and changes nothing. Reads every byte: call it off the event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from gateway.registry import journal, layout, numbering
from gateway.registry.document import DocumentError
from gateway.registry.integrity import IntegrityError, check_manifest
from gateway.registry.manifest import FileEntry, Manifest, parse_manifest
from gateway.registry.pointing import pointer_of
from gateway.registry.store import Store, StoreError
from gateway.versions import ModelVersion


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: `file` is relative to the version's folder, empty if it concerns more than one."""

    model: str
    version: int | None
    file: str
    problem: str

    def __str__(self) -> str:
        where = self.model if self.version is None else f"{self.model}/{self.version}"
        return f"{where}: {self.file} {self.problem}" if self.file else f"{where}: {self.problem}"


Progress = Callable[[str, int, int], None]


def models_in(store: Store) -> list[str]:
    """Returns the names of all models in the registry, those without a version too."""
    return [name for name in store.names("") if layout.is_model_name(name) and store.names(name)]


def verify_model(
    store: Store, model: str, number: int | None = None, progress: Progress = lambda what, done, total: None
) -> list[Finding]:
    """Returns everything that is wrong with the model, or with one of its versions.

    Raises:
        StoreError: the registry cannot be read at all.
    """
    published = _digests(store, model)
    present = numbering.numbers_present(store, model)
    if number is not None and number not in present:
        return [Finding(model, number, "", "is not in the registry")]
    findings = []
    manifests: list[Manifest] = []
    for each in present if number is None else (number,):
        version = ModelVersion(model, each)
        try:
            manifests.append(_manifest(store, version, published.get(each)))
        except IntegrityError as error:
            findings += [Finding(model, each, "", problem) for problem in error.problems]
        except DocumentError as error:
            findings += [Finding(model, each, layout.MANIFEST_FILE, problem) for problem in error.problems]
    total = sum(file.size for manifest in manifests for file in manifest.files)
    done = 0
    for manifest in manifests:
        for file in manifest.files:
            progress(f"{manifest.version} {file.path}", done, total)
            if problem := _problem(store, manifest.version, file):
                findings.append(Finding(model, manifest.version.number, file.path, problem))
            done += file.size
    progress("", total, total)
    return findings if number is not None else [*findings, *_pointer_findings(store, model, present)]


def _digests(store: Store, model: str) -> dict[int, str]:
    """Returns the manifest digests that the journal remembers."""
    return {
        entry["version"]: str(entry["manifest_sha256"])
        for entry in journal.entries(store, model)
        if entry.get("action") == "publish" and isinstance(entry.get("version"), int) and "manifest_sha256" in entry
    }


def _manifest(store: Store, version: ModelVersion, remembered: str | None) -> Manifest:
    folder = f"{version.model_name}/{version.number}"
    manifest = store.read(f"{folder}/{layout.MANIFEST_FILE}")
    if manifest is None:
        raise IntegrityError(str(version), [f"{layout.MANIFEST_FILE} is missing"])
    digest = store.read(f"{folder}/{layout.MANIFEST_DIGEST_FILE}")
    check_manifest(str(version), manifest.content, digest.content if digest else None)
    found = store.digest(f"{folder}/{layout.MANIFEST_FILE}")
    if remembered is not None and (found is None or found.sha256 != remembered):
        raise IntegrityError(
            str(version), [f"{layout.MANIFEST_FILE} is not the one that was published, says the journal"]
        )
    return parse_manifest(manifest.content, version)


def _problem(store: Store, version: ModelVersion, file: FileEntry) -> str | None:
    try:
        found = store.digest(f"{version.model_name}/{version.number}/{file.path}")
    except StoreError as error:
        return f"cannot be read: {error}"
    if found is None:
        return "was not fetched: run `sluice models fetch`" if file.can_be_had else "is missing"
    if found.size != file.size:
        return f"has {found.size} bytes, the manifest says {file.size}"
    return None if found.sha256 == file.sha256 else "has another sha256 than the manifest says"


def _pointer_findings(store: Store, model: str, present: tuple[int, ...]) -> Iterator[Finding]:
    try:
        pointer = pointer_of(store, model)
    except DocumentError as error:
        yield from (Finding(model, None, layout.SERVING_FILE, problem) for problem in error.problems)
        return
    for number in pointer.desired if pointer else ():
        if number not in present:
            yield Finding(model, number, "", f"is not in the registry, and {layout.SERVING_FILE} says to serve it")
