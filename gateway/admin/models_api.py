"""The registry over REST: the twin of `sluice models …`, below /v1/registry on the admin listener.

Decides paths, forms and status codes; what is allowed is the registry's business. Invariants: nothing blocks the event
loop; a rollback waits for nobody, since pointers are replaced only as they were read, while versions are written one
at a time; uploads are bounded in number, size and time; a web page cannot ask for a change, because every POST needs a
content type that browsers send across sites only after asking, and must come from the listener's own origin if it
names one.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from aiohttp import web

import gateway
from gateway.admin.registry_work import RegistryWork
from gateway.admin.upload import received, unpacked
from gateway.registry.collecting import Ages, collect
from gateway.registry.describing import DescribeOptions
from gateway.registry.document import DocumentError
from gateway.registry.journal import warnings_heard
from gateway.registry.layout import is_model_name
from gateway.registry.opening import open_store
from gateway.registry.overview import history, manifest_document, model_overview, registry_overview
from gateway.registry.publishing import PublishOptions, publish_version
from gateway.registry.store import Store, StoreError
from gateway.registry.switching import (
    BadSource,
    NotInRegistry,
    PublishError,
    retire_version,
    serve_version,
    stop_serving,
)
from gateway.registry.verifying import models_in, verify_model
from gateway.versions import ModelVersion

MOST_UPLOADS = 2
"""Received or waiting to be published at one time: each takes as much of the disk as it has bytes, twice."""
_STALL_S = 30.0
_JSON, _ONNX, _TAR = "application/json", "application/octet-stream", "application/x-tar"
_Answer = dict[str, Any]
_Work = Callable[[Store], _Answer]


class RegistryApi:
    """Answers for the registry at `location`; an upload of which nothing comes for `stall_s` seconds is ended."""

    def __init__(self, location: str, stall_s: float = _STALL_S) -> None:
        self._location = location
        self._stall_s = stall_s
        self._work = RegistryWork()
        self._writing = asyncio.Lock()
        self._verifying = asyncio.Lock()
        self._uploads = 0

    def add_to(self, app: web.Application) -> None:
        """Adds the routes."""
        models = "/v1/registry/models"
        app.router.add_get(models, self._list)
        app.router.add_get(models + "/{model}", self._show)
        app.router.add_get(models + "/{model}/versions/{version}", self._manifest)
        app.router.add_get("/v1/registry/history", self._history)
        app.router.add_post(models + "/{model}/publish", self._changed(self._publish))
        app.router.add_post(models + "/{model}/serve", self._changed(self._serve))
        app.router.add_post(models + "/{model}/retire", self._changed(self._retire))
        app.router.add_post("/v1/registry/verify", self._changed(self._verify))
        app.router.add_post("/v1/registry/gc", self._changed(self._gc))

    # ------------------------------------------------------------------ looking

    async def _list(self, request: web.Request) -> web.Response:
        return await self._answer(registry_overview)

    async def _show(self, request: web.Request) -> web.Response:
        model = _model(request)
        return await self._answer(lambda store: model_overview(store, _known(store, model)))

    async def _manifest(self, request: web.Request) -> web.Response:
        version = ModelVersion(_model(request), _number(request.match_info["version"]))

        def work(store: Store) -> _Answer:
            found = manifest_document(store, version)
            if found is None:
                raise NotInRegistry(f"{version} is not in the registry")
            return found

        return await self._answer(work)

    async def _history(self, request: web.Request) -> web.Response:
        model, limit = request.query.get("model"), _number(request.query.get("limit", "50"))
        return await self._answer(lambda store: {"entries": history(store, model, limit)})

    # ------------------------------------------------------------------ changing

    async def _serve(self, request: web.Request) -> web.Response:
        body = await _body(request, {"version": int, "also": list, "allow_breaking": bool, "retry": bool})
        version = ModelVersion(_model(request), _number(body.get("version")))
        also = tuple(_number(number) for number in body["also"]) if "also" in body else None
        who = _who(request, body)

        def work(store: Store) -> _Answer:
            insist = {key: body.get(key, False) for key in ("allow_breaking", "retry")}
            pointer = serve_version(store, version, also=also, **insist, **who)
            return {"stable": pointer.stable, "also": list(pointer.also), "generation": pointer.generation}

        return await self._answer(work)

    async def _retire(self, request: web.Request) -> web.Response:
        body = await _body(request, {"version": int})
        model, who = _model(request), _who(request, body)
        number = _number(body["version"]) if "version" in body else None

        def work(store: Store) -> _Answer:
            if number is None:
                pointer = stop_serving(store, model, **who)
            else:
                found = retire_version(store, ModelVersion(model, number), **who)
                assert found is not None
                pointer = found
            return {"version": number, "stable": pointer.stable, "generation": pointer.generation}

        return await self._answer(work)

    async def _verify(self, request: web.Request) -> web.Response:
        body = await _body(request, {"model": str, "version": int})

        def work(store: Store) -> _Answer:
            models = [_known(store, body["model"])] if "model" in body else models_in(store)
            findings = [finding for model in models for finding in verify_model(store, model, body.get("version"))]
            return {"models": models, "findings": [asdict(finding) for finding in findings]}

        return await self._alone(self._verifying, work)

    async def _gc(self, request: web.Request) -> web.Response:
        body = await _body(request, {"dry_run": bool, "retired_hours": float, "unfinished_hours": float})
        ages = Ages(
            retired_s=body.get("retired_hours", 168.0) * 3600, unfinished_s=body.get("unfinished_hours", 24.0) * 3600
        )
        dry, who = body.get("dry_run", False), _who(request, body)

        def work(store: Store) -> _Answer:
            found = collect(store, ages=ages, remove=not dry, **who)
            return {
                "removed": not dry,
                "versions": [str(version) for version in found.versions],
                "leftovers": list(found.leftovers),
                "journal_entries_recovered": found.recovered,
            }

        return await self._alone(self._writing, work)

    async def _publish(self, request: web.Request) -> web.Response:
        """The body is an ONNX file, or a tar archive of a prepared folder; options are in the query."""
        query, model = request.query, _model(request)
        if request.content_type not in (_ONNX, _TAR):
            raise web.HTTPUnsupportedMediaType(reason=f"send an ONNX file as {_ONNX}, or a folder as {_TAR}")
        rows = int(query["max_batch_size"]) if query.get("max_batch_size", "").isdecimal() else None
        options = PublishOptions(
            serve=query.get("serve", "").lower() in ("1", "true", "yes"),
            describe=DescribeOptions(max_batch_size=rows, description=query.get("description", "")),
            tool=f"sluice {gateway.__version__}, REST",
        )
        who = _who(request, query)
        if self._uploads >= MOST_UPLOADS:
            raise web.HTTPConflict(reason=f"{self._uploads} uploads are under way: try again")
        self._uploads += 1
        try:
            async with received(request, self._stall_s) as upload:

                def work(store: Store) -> _Answer:
                    source = upload if request.content_type == _ONNX else unpacked(upload)
                    return asdict(publish_version(store, source, model, options=options, **who))

                async with self._writing:
                    return await self._answer(work)
        finally:
            self._uploads -= 1

    # ------------------------------------------------------------------ the way there

    def _changed(
        self, handler: Callable[[web.Request], Awaitable[web.Response]]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        """Lets no change through that a foreign web page asked for."""

        async def guarded(request: web.Request) -> web.Response:
            origin = request.headers.get("Origin")
            if origin is not None and origin.partition("://")[2] != request.headers.get("Host"):
                raise web.HTTPForbidden(reason="a page of another site asked for this")
            if request.content_type not in (_JSON, _ONNX, _TAR):
                raise web.HTTPUnsupportedMediaType(reason=f"send {_JSON}")
            return await handler(request)

        return guarded

    async def _alone(self, lock: asyncio.Lock, work: _Work) -> web.Response:
        """Answers unless the like is under way: it would take a thread each, and those are few."""
        if lock.locked():
            raise web.HTTPConflict(reason="another request of this kind is under way: try again")
        async with lock:
            return await self._answer(work)

    async def _answer(self, work: _Work) -> web.Response:
        def heard() -> _Answer:
            with warnings_heard() as warnings:
                answer = work(open_store(self._location))
            return answer | {"warnings": warnings} if warnings else answer

        try:
            found = await self._work.run(heard)
        except NotInRegistry as error:
            raise web.HTTPNotFound(reason=_line(error)) from None
        except (BadSource, DocumentError) as error:
            raise web.HTTPUnprocessableEntity(reason=_line(error)) from None
        except PublishError as error:
            raise web.HTTPConflict(reason=_line(error)) from None
        except StoreError as error:
            raise web.HTTPServiceUnavailable(reason=_line(error)) from None
        return web.json_response(found)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _model(request: web.Request) -> str:
    name = request.match_info["model"]
    if not is_model_name(name):
        raise web.HTTPNotFound(reason="that is not a model name")
    return name


def _known(store: Store, model: str) -> str:
    if not is_model_name(model) or model not in models_in(store):
        raise NotInRegistry(f"{model} is not in the registry")
    return model


def _number(value: object) -> int:
    text = str(value)
    if isinstance(value, bool) or not text.isdecimal() or not text.isascii() or not 0 < len(text) < 11 or int(text) < 1:
        raise web.HTTPBadRequest(reason="a version or limit must be a positive number")
    return int(text)


async def _body(request: web.Request, allowed: dict[str, type]) -> dict[str, Any]:
    """Returns the JSON object of the request, keys of the types they must have; actor and reason are always allowed."""
    try:
        found = json.loads(await request.text() or "{}")
    except ValueError:
        raise web.HTTPBadRequest(reason="the body is not JSON") from None
    types = {**allowed, "actor": str, "reason": str}
    if not isinstance(found, dict) or found.keys() - types.keys():
        raise web.HTTPBadRequest(reason=f"the body must be an object with some of: {', '.join(types)}")
    for key, value in found.items():
        fits = isinstance(value, int | float if types[key] is float else types[key])
        if not fits or (isinstance(value, bool) and types[key] is not bool):
            raise web.HTTPBadRequest(reason=f"{key}: must be of type {types[key].__name__}")
    return found


def _who(request: web.Request, given: Any) -> dict[str, Any]:
    return {"actor": given.get("actor") or f"admin API ({request.remote})", "reason": given.get("reason") or ""}
