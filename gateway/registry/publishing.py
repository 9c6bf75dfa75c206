"""Publishes: makes a complete, checked, immutable version out of a prepared folder or an ONNX file.

The order: number, files, check, manifest, visible, journal, pointer, journal. Invariants: readers see the state
before or after, whenever the process dies; a version never changes once it is visible; every change has an actor and
a reason. All functions block; they are safe against other publishers in other processes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from gateway.registry import journal, layout, numbering
from gateway.registry.describing import DescribeOptions, Description, describe
from gateway.registry.document import DocumentError
from gateway.registry.integrity import manifest_digest
from gateway.registry.manifest import parse_manifest
from gateway.registry.pointing import pointer_of
from gateway.registry.serving import ServingPointer
from gateway.registry.store import Step, Store, StoreError, Writing, Written, no_step
from gateway.registry.switching import BadSource, PublishError, check_no_release, check_who, now, pin, serve_version
from gateway.versions import ModelVersion

Progress = Callable[[str, int, int], None]
"""Hears (what is being done, bytes done, bytes in all)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A version that is in the registry now; `generation` is the pointer's if it was changed."""

    version: ModelVersion
    generation: int | None
    manifest_sha256: str
    size: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishOptions:
    """What `publish_version` may be told. `lineage` and `metrics` are added to what the source says of itself.

    `tool` is the program that publishes, with its version, for the lineage.
    """

    serve: bool = False
    lineage: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    tool: str = "sluice"
    describe: DescribeOptions = field(default_factory=DescribeOptions)
    step: Step = no_step
    progress: Progress = lambda what, done, total: None


def publish_version(
    store: Store, source: Path, name: str, *, actor: str, reason: str = "", options: PublishOptions | None = None
) -> Published:
    """Publishes what `source` holds (a prepared folder, or an ONNX file) as the model's next version.

    A prepared folder has a `manifest.json` (without `files`, `version` and `model`, or with: they are replaced), or one
    ONNX file from which it is made. Without `options.serve` nothing that is served changes.

    Raises:
        PublishError: bad name or source, no number is left, or a release is in progress and `serve` was asked for.
        StoreError: the store failed (no space, no permission).
    """
    options = options or PublishOptions()
    check_who(name, actor)
    description = described(source, options.describe)
    if options.serve:
        check_no_release(pointer_of(store, name))
    recover(store, name)
    at = now()
    options.step("started")
    try:
        version = ModelVersion(name, numbering.next_number(store, name, at, actor))
    except numbering.NoNumberLeft as error:
        raise PublishError(str(error)) from None
    options.step("numbered")
    writing = store.begin(f"{name}/{version.number}")
    try:
        files = _write(writing, description, options)
        origin = {"at": at, "by": actor, "reason": reason, "tool": options.tool}
        manifest = _manifest(description, version, files, options, origin)
        writing.add(layout.MANIFEST_DIGEST_FILE, manifest_digest(manifest))
        if not options.serve:
            pin(store, name, actor)
            options.step("pinned")
        writing.commit(manifest)
    finally:
        writing.abandon()
    options.step("visible")
    digest = hashlib.sha256(manifest).hexdigest()
    size = sum(written.size for written in files.values())
    journal.note(store, _publish_entry(version, origin, digest, size))
    options.step("journaled the version")
    generation = None
    if options.serve:
        generation = serve_version(store, version, actor=actor, reason=reason or f"published {version}").generation
    options.step("done")
    return Published(
        version=version,
        generation=generation,
        manifest_sha256=digest,
        size=size,
        notes=description.notes,
    )


def recover(store: Store, model: str, settle_s: float = 60.0) -> int:
    """Writes the journal entries that somebody who died, or had no way to, could not write; returns how many.

    What was changed less than `settle_s` seconds ago is left to whoever changed it. A journal that cannot be read is a
    warning: it keeps nobody from changing what is served.
    """
    before = (datetime.now(UTC) - timedelta(seconds=settle_s)).isoformat(timespec="milliseconds")
    try:
        seen = list(journal.entries(store, model))
    except StoreError as error:
        journal.warn(f"the journal cannot be read: {error}")
        return 0
    published = {entry.get("version") for entry in seen if entry.get("action") == "publish"}
    generations = {entry.get("generation") for entry in seen}
    missing = []
    for number in numbering.numbers_present(store, model):
        stored = store.read(f"{model}/{number}/{layout.MANIFEST_FILE}")
        origin = _origin(stored.content) if stored and number not in published else None
        if stored is not None and origin is not None:
            digest = hashlib.sha256(stored.content).hexdigest()
            missing.append(_publish_entry(ModelVersion(model, number), origin, digest, None))
    pointer = _usable_pointer(store, model)
    for item in pointer.history if pointer else ():
        # (What a release did is `releasing.mend_journal`'s business.)
        if item.get("generation") not in generations and "release" not in item:
            missing.append(
                journal.Entry(at=str(item.get("at")), actor=str(item.get("actor")),
                              action=str(item.get("action", "serve")), model=model, version=item.get("stable"),
                              generation=item.get("generation"), reason=str(item.get("reason", "")))
            )  # fmt: skip
    missing += _retired_in_silence(store, model, {e.get("version") for e in seen if e.get("action") == "retire"})
    missing = [entry for entry in missing if entry.at <= before]
    return sum(journal.note(store, replace(entry, more=entry.more | {"recovered": True})) for entry in missing)


def _retired_in_silence(store: Store, model: str, known: set[Any]) -> list[journal.Entry]:
    found = []
    for number, content in numbering.retired(store, model).items():
        try:
            mark = json.loads(content)
            at, actor, reason = (str(mark[key]) for key in ("at", "actor", "reason"))
        except (ValueError, KeyError, TypeError):
            continue
        if number not in known:
            found.append(journal.Entry(at=at, actor=actor, action="retire", model=model, version=number, reason=reason))
    return found


def described(source: Path, options: DescribeOptions) -> Description:
    """Returns what would be published from `source`. Raises BadSource with every reason why nothing can be."""
    try:
        return describe(source, options)
    except (DocumentError, ValueError) as error:
        raise BadSource(str(error)) from error
    except OSError as error:
        raise BadSource(f"{error.filename or source}: {error.strerror}") from error


def _write(writing: Writing, description: Description, options: PublishOptions) -> dict[str, Written]:
    """Writes the files and reads them back."""
    total = description.size
    done, files = 0, {}
    for path, source in sorted(description.files.items()):
        options.progress(path, done, total)
        files[path] = writing.add(path, source)
        done += files[path].size
    options.step("wrote the files")
    done = 0
    for path, written in files.items():
        options.progress(f"checking {path}", done, total)
        if writing.written(path) != written:
            raise PublishError(f"{path} reads back other than it was written: the disk is not to be trusted")
        done += written.size
    options.progress("", total, total)
    options.step("checked the files")
    return files


def _manifest(
    description: Description,
    version: ModelVersion,
    files: Mapping[str, Written],
    options: PublishOptions,
    origin: Mapping[str, str],
) -> bytes:
    """Returns the manifest's content; it is parsed again, so that what is published can be read."""
    document = {
        "schema_version": 1,
        "model": version.model_name,
        "version": version.number,
        **description.document,
        "metrics": {**description.document.get("metrics", {}), **options.metrics},
        "lineage": {**description.document.get("lineage", {}), **options.lineage, "published": origin},
        "files": [{"path": path, "size": file.size, "sha256": file.sha256} for path, file in files.items()],
    }
    content = (json.dumps(document, indent=2) + "\n").encode()
    try:
        parse_manifest(content, version)
    except DocumentError as error:
        raise BadSource(str(error)) from error
    return content


def _usable_pointer(store: Store, model: str) -> ServingPointer | None:
    try:
        return pointer_of(store, model)
    except DocumentError:
        return None


def _origin(manifest: bytes) -> Mapping[str, str] | None:
    """Returns the lineage's `published` of a version that was published; None of one that was made by hand."""
    try:
        origin = json.loads(manifest)["lineage"]["published"]
        return {key: str(origin[key]) for key in ("at", "by", "reason")}
    except (ValueError, KeyError, TypeError):
        return None


def _publish_entry(version: ModelVersion, origin: Mapping[str, str], digest: str, size: int | None) -> journal.Entry:
    more: dict[str, Any] = {"manifest_sha256": digest}
    return journal.Entry(
        at=origin["at"],
        actor=origin["by"],
        action="publish",
        model=version.model_name,
        version=version.number,
        reason=origin["reason"],
        more=more if size is None else more | {"bytes": size},
    )
