"""Reads an MLflow server over its REST API: a registered model's alias, the run behind it, the files.

A few calls of a stable API, so no MLflow package is needed here. Decides where artifacts may come from: the server's
own artifact proxy (`mlflow-artifacts:`), or local folders that were allowed by name; everything else is refused.
Invariants: answers and downloads are bounded, redirects are not followed, names are checked before they become paths.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.registry.describing import MOST_FILES
from gateway.registry.layout import relative_problem

_API = "/api/2.0/mlflow"
_PROXY = "/api/2.0/mlflow-artifacts/artifacts"
_LOGGED_MODEL = re.compile(r"models:/(m-[A-Za-z0-9]{1,64})")
_MOST_ANSWER = 16 << 20
_MOST_BYTES = 64 << 30
_CHUNK = 1 << 20


class MlflowError(Exception):
    """MLflow cannot be asked, or answers with something that cannot be used; the next look may do better."""


class MlflowRefused(MlflowError):
    """What MLflow names must not be fetched: looking again will not help."""


@dataclass(frozen=True, slots=True)
class RegisteredVersion:
    """One version of a registered model, as MLflow tells it. `source` is where its files are."""

    model: str
    version: str
    source: str
    run_id: str
    ready: bool
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Mlflow:
    """The server at `url`; `roots` are the local folders from which artifacts may be read, real paths only."""

    url: str
    token: str | None = None
    roots: tuple[Path, ...] = ()
    timeout_s: float = 30.0
    opener: urllib.request.OpenerDirector = field(default_factory=lambda: urllib.request.build_opener(_NoRedirect()))

    def alias(self, model: str, alias: str) -> RegisteredVersion:
        """Returns the version that the alias points to. Raises MlflowError."""
        answer = self._ask(f"{_API}/registered-models/alias", {"name": model, "alias": alias})
        found = _object(answer, "model_version")
        return RegisteredVersion(
            model=_text(found, "name"),
            version=_text(found, "version"),
            source=_text(found, "source"),
            run_id=str(found.get("run_id") or ""),
            ready=found.get("status") == "READY",
            tags=_pairs(found.get("tags")),
        )

    def run(self, run_id: str) -> dict[str, Any]:
        """Returns the run's metrics (the last value of each), parameters and tags. Raises MlflowError."""
        data = _object(_object(self._ask(f"{_API}/runs/get", {"run_id": run_id}), "run"), "data")
        return {key: _pairs(data.get(key)) for key in ("metrics", "params", "tags")}

    def logged_model(self, version: RegisteredVersion) -> dict[str, Any] | None:
        """Returns what MLflow 3 knows of the model that the version was registered from; None if it is not of its kind.

        That is its `id`, `metrics`, `params` and `tags`. Raises MlflowError.
        """
        found = _LOGGED_MODEL.fullmatch(version.source)
        if found is None:
            return None
        model = _object(self._ask(f"{_API}/logged-models/{found[1]}", {}), "model")
        info, data = _object(model, "info"), model.get("data")
        data = data if isinstance(data, dict) else {}
        told = {key: _pairs(data.get(key)) for key in ("metrics", "params")}
        return {"id": found[1], **told, "tags": _pairs(info.get("tags"))}

    def _place(self, version: RegisteredVersion) -> str:
        """Returns where the files are: `models:/…` is a name, and the server says what lies behind it."""
        if urllib.parse.urlsplit(version.source).scheme != "models":
            return version.source
        query = {"name": version.model, "version": version.version}
        return _text(self._ask(f"{_API}/model-versions/get-download-uri", query), "artifact_uri")

    def download(self, version: RegisteredVersion, target: Path) -> None:
        """Fetches the version's files into the new folder `target`.

        Raises:
            MlflowRefused: the place is not allowed, or there is too much.
            MlflowError: the server does not give them.
        """
        place = self._place(version)
        parts = urllib.parse.urlsplit(place)
        if parts.scheme == "mlflow-artifacts" and not parts.netloc:
            target.mkdir()
            self._fetch(_artifact_path(parts.path), target, [MOST_FILES, _MOST_BYTES], depth=0)
        elif parts.scheme in ("", "file") and parts.netloc in ("", "localhost"):
            self._copy(Path(urllib.parse.unquote(parts.path)), target)
        else:
            raise MlflowRefused(
                f"{version.model} {version.version} lies at {place}: only the MLflow server's own artifacts "
                "and allowed folders are read"
            )

    def _copy(self, source: Path, target: Path) -> None:
        real = Path(os.path.realpath(source))
        if not any(real.is_relative_to(os.path.realpath(root)) for root in self.roots):
            raise MlflowRefused(
                f"{source} lies outside the allowed folders ({', '.join(map(str, self.roots)) or 'none'})"
            )
        try:
            # Links are kept as links, and refused when the folder is published.
            shutil.copytree(real, target, symlinks=True)
        except (OSError, shutil.Error) as error:
            raise MlflowError(f"{source} cannot be copied: {error}") from error

    def _fetch(self, path: str, target: Path, left: list[int], depth: int) -> None:
        """Fetches a folder of the artifact proxy; `left` counts files and bytes down."""
        if depth > 16:
            raise MlflowRefused("the artifacts are nested too deeply")
        listing = self._ask(_PROXY, {"path": path}).get("files", [])
        for item in listing if isinstance(listing, list) else []:
            if not isinstance(item, dict):
                raise MlflowError(f"MLflow's list of the artifacts in {path} makes no sense")
            name = str(item.get("path", "")).rpartition("/")[2]
            if relative_problem(name):
                raise MlflowRefused(f"MLflow names an artifact {name!r}")
            left[0] -= 1
            if left[0] < 0:
                raise MlflowRefused(f"there are more than {MOST_FILES} artifacts")
            if item.get("is_dir"):
                try:
                    (target / name).mkdir()
                except OSError as error:
                    raise MlflowError(f"{name} cannot be fetched: {error}") from error
                self._fetch(f"{path}/{name}", target / name, left, depth + 1)
            else:
                self._save(f"{_PROXY}/{urllib.parse.quote(f'{path}/{name}')}", target / name, left)

    def _save(self, path: str, target: Path, left: list[int]) -> None:
        try:
            with self.opener.open(self._request(path), timeout=self.timeout_s) as answer, open(target, "xb") as file:
                expected = answer.headers.get("Content-Length")
                size = 0
                while chunk := answer.read(_CHUNK):
                    size += len(chunk)
                    left[1] -= len(chunk)
                    if left[1] < 0:
                        raise MlflowRefused(f"the artifacts are larger than {_MOST_BYTES} bytes")
                    file.write(chunk)
        except (OSError, ValueError) as error:
            raise MlflowError(f"{target.name} cannot be fetched: {error}") from error
        if expected is not None and size != int(expected):
            raise MlflowError(f"{target.name} was cut short: {size} of {expected} bytes")

    def _ask(self, endpoint: str, query: Mapping[str, str]) -> dict[str, Any]:
        try:
            request = self._request(f"{endpoint}?{urllib.parse.urlencode(query)}")
            with self.opener.open(request, timeout=self.timeout_s) as answer:
                content = answer.read(_MOST_ANSWER + 1)
            found = json.loads(content) if len(content) <= _MOST_ANSWER else None
        except urllib.error.HTTPError as error:
            with error:
                raise MlflowError(f"MLflow answers {error.code}: {_reason(error.read(65536))}") from None
        except (OSError, ValueError) as error:
            raise MlflowError(f"MLflow at {self.url} does not answer: {getattr(error, 'reason', error)}") from error
        if not isinstance(found, dict):
            raise MlflowError(f"what answers at {self.url} is not MLflow")
        return found

    def _request(self, path: str) -> urllib.request.Request:
        if urllib.parse.urlsplit(self.url).scheme not in ("http", "https"):
            raise MlflowError(f"{self.url} is not an http(s) address")
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        return urllib.request.Request(self.url.rstrip("/") + path, headers=headers)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """An MLflow that sends us elsewhere could read what only this machine may see."""

    def redirect_request(self, *_: object) -> None:
        return None


def _artifact_path(path: str) -> str:
    found = path.strip("/")
    if relative_problem(found):
        raise MlflowRefused(f"MLflow names the artifacts {path!r}")
    return found


def _object(answer: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = answer.get(key)
    if not isinstance(found, dict):
        raise MlflowError(f"MLflow's answer has no {key}")
    return found


def _text(answer: Mapping[str, Any], key: str) -> str:
    found = answer.get(key)
    if not isinstance(found, str) or not found:
        raise MlflowError(f"MLflow's answer has no {key}")
    return found


def _pairs(items: object) -> dict[str, Any]:
    """Returns MLflow's lists of key and value as a mapping; numbers that JSON lacks become text."""
    found: dict[str, Any] = {}
    for item in items if isinstance(items, list) else ():
        if isinstance(item, dict) and isinstance(item.get("key"), str):
            value = item.get("value")
            found[item["key"]] = str(value) if isinstance(value, float) and not math.isfinite(value) else value
    return found


def _reason(content: bytes) -> str:
    try:
        return str(json.loads(content)["message"])[:500]
    except (ValueError, KeyError, TypeError):
        return "no reason given"
