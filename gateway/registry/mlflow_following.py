"""Publishes what an alias of a registered MLflow model points to, once for each version, and serves it if asked to.

Level-triggered and without state of its own: what was published is read from the manifests' lineage, so a follower that
was killed, or runs twice, publishes nothing twice for long. An alias that goes back serves the version published then.
MLflow being down changes nothing.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.registry import numbering
from gateway.registry.document import DocumentError
from gateway.registry.mlflow_client import Mlflow, MlflowError, RegisteredVersion
from gateway.registry.overview import manifest_document
from gateway.registry.pointing import pointer_of
from gateway.registry.publishing import PublishOptions, publish_version
from gateway.registry.store import Store
from gateway.registry.switching import serve_version
from gateway.versions import ModelVersion


@dataclass(frozen=True, slots=True, kw_only=True)
class Following:
    """What to follow (`model` and `alias` in MLflow) and what to make of it (`name` in the registry)."""

    model: str
    alias: str
    name: str
    serve: bool = False
    actor: str = "follow-mlflow"
    tool: str = "sluice"


def follow_once(store: Store, mlflow: Mlflow, following: Following) -> str | None:
    """Looks once; returns a sentence about what was done, None if there was nothing to do.

    Raises:
        MlflowError: MLflow cannot be asked, or what it names cannot be had.
        PublishError, StoreError: as `publish_version`.
    """
    found = mlflow.alias(following.model, following.alias)
    if not found.ready:
        raise MlflowError(f"{found.model} {found.version} is not ready in MLflow yet")
    why = f"{following.alias} of {found.model} in MLflow is version {found.version}"
    known = _published(store, following.name, mlflow.url, found)
    if known is not None:
        return _serve(store, known, following, why)
    run = mlflow.run(found.run_id) if found.run_id else {}
    logged = mlflow.logged_model(found)
    if logged is not None:
        run["logged_model"] = logged
    with tempfile.TemporaryDirectory(prefix="sluice-mlflow-") as folder:
        source = Path(folder) / "artifacts"
        mlflow.download(found, source)
        published = publish_version(
            store, source, following.name, actor=following.actor, reason=why,
            options=PublishOptions(
                serve=following.serve, tool=following.tool,
                lineage={"mlflow": _lineage(mlflow.url, found, following.alias, run)},
            ),
        )  # fmt: skip
    return f"{published.version} published: {why}"


def _serve(store: Store, version: ModelVersion, following: Following, why: str) -> str | None:
    pointer = pointer_of(store, version.model_name)
    if not following.serve or (pointer is not None and pointer.stable == version.number):
        return None
    serve_version(store, version, actor=following.actor, reason=why)
    return f"{version} is the one to serve: {why}"


def _lineage(url: str, found: RegisteredVersion, alias: str, run: dict[str, Any]) -> dict[str, Any]:
    identity = {"server": url.rstrip("/"), "model": found.model, "version": found.version, "alias": alias}
    return {**identity, "source": found.source, "run_id": found.run_id, "version_tags": dict(found.tags), **run}


def _published(store: Store, name: str, url: str, found: RegisteredVersion) -> ModelVersion | None:
    """Returns the newest version that was made from this MLflow version and is not retired."""
    marks = numbering.retired(store, name)
    wanted = {"server": url.rstrip("/"), "model": found.model, "version": found.version, "run_id": found.run_id}
    for number in reversed(numbering.numbers_present(store, name)):
        version = ModelVersion(name, number)
        try:
            document = manifest_document(store, version) or {}
        except DocumentError:
            continue
        lineage = document.get("lineage")
        origin = lineage.get("mlflow") if isinstance(lineage, dict) else None
        if number not in marks and isinstance(origin, dict) and all(origin.get(k) == v for k, v in wanted.items()):
            return version
    return None
