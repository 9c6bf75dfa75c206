"""Puts a proven outcome into the registry: pre-flight first, publication last, read back afterwards.

Invariant: without a passing verdict nothing reaches the registry; whatever ends the run before the registry's own
commit leaves nothing visible (`gateway.registry.publishing` stages and renames; our own files lie in a temporary
folder, `quantize.workspace`).
"""

from __future__ import annotations

import argparse
import getpass
import os
import shutil
import socket
import tempfile
from pathlib import Path
from typing import Any

from gateway import __version__
from gateway.registry.folder_store import FolderStore
from gateway.registry.layout import is_model_name
from gateway.registry.opening import open_store
from gateway.registry.publishing import PublishOptions, publish_version
from gateway.registry.store import AlreadyThere, Changed, Store, StoreError
from gateway.registry.switching import PublishError
from quantize.actions import text_of, verify_folder
from quantize.errors import BadInput, GateRefused, RegistryFailure, VersionConflict
from quantize.gate import FORCED, PASS
from quantize.packaging import lay_out
from quantize.pipeline import Outcome, run
from quantize.policy import Policy
from quantize.progress import Progress
from quantize.report import report_of
from quantize.workspace import workspace

_SPARE_BYTES = 16 << 20
_WHY = "INT8 proven by the gate"


def publish(
    parsed: argparse.Namespace, location: str, policy: Policy, progress: Progress
) -> tuple[dict[str, Any], str]:
    """Returns the result and its text.

    Raises:
        QuantizeError: with the exit code's kind; a refusal carries `report`.
    """
    if not is_model_name(parsed.name):
        raise BadInput(f"{parsed.name!r} is not a model name")
    if policy.force and not parsed.reason.strip():
        raise BadInput("--force needs --reason: it is recorded who overruled the gate, and why")
    store = None if parsed.dry_run else preflight(location, Path(parsed.model))
    outcome = run(parsed.model, parsed.calibration, parsed.evaluation, policy, progress, unlabelled=parsed.agreement)
    if outcome.verdict != PASS and policy.force:
        _overrule(outcome, parsed)
    report = report_of(outcome, parsed.name)
    if outcome.verdict not in (PASS, FORCED):
        refusal = GateRefused(*outcome.reasons())
        refusal.verdict = outcome.verdict
        refusal.report = report  # type: ignore[attr-defined]
        raise refusal
    if store is None:
        return {"report": report, "published": None}, text_of(report) + "\n\ndry run: nothing was published"
    try:
        with workspace() as folder:
            progress("packing", 0, 0)
            lay_out(outcome, report, folder)
            published = _put(store, folder, parsed, progress)
    except OSError as error:
        raise RegistryFailure(f"the version could not be packed in {tempfile.gettempdir()}: {error}") from error
    if isinstance(store, FolderStore):
        progress("reading back", 0, 0)
        verify_folder(store.root / parsed.name / str(published["version"]))
    serving = "served now" if published["generation"] is not None else (
        f"not served yet: sluice models serve {parsed.name} {published['version']}"
    )  # fmt: skip
    text = f"{text_of(report)}\n\n{parsed.name} version {published['version']} published; {serving}"
    return {"report": report, "published": published}, text


def _overrule(outcome: Outcome, parsed: argparse.Namespace) -> None:
    try:
        outcome.force(by=parsed.actor or _user(), reason=parsed.reason.strip())
    except GateRefused as refusal:
        refusal.report = report_of(outcome, parsed.name)  # type: ignore[attr-defined]
        refusal.problems.append("--force does not overrule this")
        raise


def preflight(location: str, model: Path) -> Store:
    """Returns the open registry, after making sure that it can be written.

    Raises:
        RegistryFailure: it is not there, read-only, or nearly full.
    """
    try:
        store = open_store(location)
    except StoreError as error:
        raise RegistryFailure(str(error)) from error
    if isinstance(store, FolderStore):
        if not os.access(store.root, os.W_OK | os.X_OK):
            raise RegistryFailure(f"{location}: may not be written by this user, or is read-only")
        size = model.stat().st_size if model.is_file() else 0
        free = shutil.disk_usage(store.root).free
        needed = 2 * size + _SPARE_BYTES
        if free < needed:
            raise RegistryFailure(f"{location}: {free / 1e6:.0f} MB free, {needed / 1e6:.0f} MB needed")
    return store


def _put(store: Store, folder: Path, parsed: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    options = PublishOptions(serve=parsed.serve, tool=f"sluice quantize {__version__}", progress=progress)
    try:
        found = publish_version(
            store,
            folder,
            parsed.name,
            actor=parsed.actor or _user(),
            reason=parsed.reason or _WHY,
            options=options,
        )
    except (AlreadyThere, Changed) as error:
        raise VersionConflict(str(error)) from error
    except PublishError as error:
        raise VersionConflict(str(error)) from error
    except (StoreError, OSError) as error:
        raise RegistryFailure(str(error)) from error
    return {
        "model": found.version.model_name,
        "version": found.version.number,
        "generation": found.generation,
        "manifest_sha256": found.manifest_sha256,
        "bytes": found.size,
    }


def _user() -> str:
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError):
        return f"unknown@{socket.gethostname()}"
