"""Releases over REST: the twin of `sluice releases …`, below /v1/releases on the admin listener.

Decides paths, forms and status codes; what is allowed is the registry's business. Invariants: nothing blocks the event
loop; whatever was changed makes this gateway look at once; a web page cannot ask for a change (see `models_api`).
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from aiohttp import web

from gateway.admin.registry_work import RegistryWork
from gateway.core.compatibility import breaking_changes
from gateway.core.rollout import decide
from gateway.judgements import EvidenceBundle
from gateway.ports import LiveReleases
from gateway.registry.bundle_document import parse_bundle, render_bundle, render_criterion
from gateway.registry.document import DocumentError
from gateway.registry.opening import open_store
from gateway.registry.release_commands import (
    model_of,
    pause_release,
    promote_release,
    resume_release,
    rollback_release,
)
from gateway.registry.release_document import render_plan, render_release
from gateway.registry.release_history import bundles_of, release_entries, release_of, states
from gateway.registry.release_options import OptionProblems, plan_of
from gateway.registry.release_starting import start_release
from gateway.registry.store import Store, StoreError
from gateway.registry.switching import NotInRegistry, PublishError
from gateway.releases import Release, SupersedePolicy
from gateway.reports.page import page_of
from gateway.reports.text import report_text

MOST_BODY = 256 * 1024
_JSON = "application/json"
_CHANGES: dict[str, Callable[..., Release]] = {
    "pause": pause_release,
    "resume": resume_release,
    "promote": promote_release,
    "rollback": rollback_release,
}
_Handler = Callable[[web.Request], Awaitable[web.Response]]


class ReleasesApi:
    """Answers for the registry at `location`; `live` is what this gateway sees."""

    def __init__(self, location: str, live: LiveReleases | None) -> None:
        self._location = location
        self._work = RegistryWork()
        self._live = live

    def add_to(self, app: web.Application) -> None:
        """Adds the routes."""
        app.router.add_get("/v1/releases", self._list)
        app.router.add_post("/v1/releases", _guarded(self._start))
        app.router.add_post("/v1/releases/look", _guarded(self._look))
        app.router.add_post("/v1/releases/replay", _guarded(self._replay))
        app.router.add_get("/v1/releases/history", self._history)
        app.router.add_get("/v1/releases/{id}", self._status)
        app.router.add_get("/v1/releases/{id}/report", self._report)
        for name, change in _CHANGES.items():
            app.router.add_post(f"/v1/releases/{{id}}/{name}", _guarded(partial(self._change, change)))

    # ------------------------------------------------------------------ looking

    async def _list(self, request: web.Request) -> web.Response:
        return await self._answer(lambda store: {"models": states(store)})

    async def _status(self, request: web.Request) -> web.Response:
        release_id = request.match_info["id"]
        live = self._seen(release_id)
        document = json.loads(render_bundle(live)) if live is not None else None
        return await self._answer(lambda store: render_release(release_of(store, release_id)) | {"live": document})

    async def _history(self, request: web.Request) -> web.Response:
        limit, model = request.query.get("limit", "50"), request.query.get("model")
        if not limit.isdecimal() or not limit.isascii() or not 0 < len(limit) < 6:
            raise web.HTTPBadRequest(reason="limit must be a positive number")
        return await self._answer(lambda store: {"entries": release_entries(store, model, int(limit))})

    async def _report(self, request: web.Request) -> web.Response:
        release_id, form = request.match_info["id"], request.query.get("format", "json")
        if form not in ("json", "html", "text"):
            raise web.HTTPBadRequest(reason="format must be json, html or text")

        def work(store: Store) -> Any:
            release, bundles = release_of(store, release_id), bundles_of(store, release_id)
            if form == "html":
                return page_of(release, bundles)
            if form == "text":
                return report_text(release, bundles) + "\n"
            return render_release(release) | {"bundles": [json.loads(render_bundle(bundle)) for bundle in bundles]}

        found = await self._done(work)
        if form == "json":
            return web.json_response(found)
        return web.Response(text=found, content_type="text/html" if form == "html" else "text/plain")

    async def _replay(self, request: web.Request) -> web.Response:
        try:
            bundle = parse_bundle(await _content(request))
        except DocumentError as error:
            raise web.HTTPUnprocessableEntity(reason=_line(error)) from None
        decision = await asyncio.to_thread(decide, bundle.release, bundle.evidence, bundle.at)
        recorded = bundle.decision
        same = (decision.kind, decision.detail) == (recorded.kind, recorded.detail)
        return web.json_response(
            {
                "recorded": recorded.kind.value,
                "replayed": decision.kind.value,
                "detail": decision.detail,
                "same": None if bundle.actor else same,
                "criteria": [render_criterion(line) for line in decision.criteria],
            }
        )

    # ------------------------------------------------------------------ changing

    async def _start(self, request: web.Request) -> web.Response:
        body = await _body(request)
        model, policy = body.pop("model", None), body.pop("if_running", None)
        who = _who(request, body)
        if not isinstance(model, str) or policy not in (None, *(policy.value for policy in SupersedePolicy)):
            raise web.HTTPBadRequest(reason="model must be a name; if_running refuse, queue or supersede")
        try:
            plan = plan_of(model, body, **who)
        except OptionProblems as error:
            raise web.HTTPBadRequest(reason=_line(error)) from None

        def work(store: Store) -> dict[str, Any]:
            wanted = SupersedePolicy(policy) if policy else None
            begun, status = start_release(store, plan, now=time.time_ns(), breaking=breaking_changes, if_running=wanted)
            return {"id": begun.id, "status": status.value, "plan": render_plan(begun)}

        return await self._changed(work)

    async def _change(self, change: Callable[..., Release], request: web.Request) -> web.Response:
        body, release_id = await _body(request), request.match_info["id"]
        who = _who(request, body)
        more: dict[str, Any] = {}
        if change is promote_release:
            more = {"full": body.pop("full", False), "arm": body.pop("arm", "")}
            if not isinstance(more["full"], bool) or not isinstance(more["arm"], str):
                raise web.HTTPBadRequest(reason="full must be true or false, arm a name")
        if body:
            raise web.HTTPBadRequest(reason=f"there is no option {min(body)}")
        seen = self._seen(release_id)

        def work(store: Store) -> dict[str, Any]:
            return render_release(change(store, release_id, now=time.time_ns(), seen=seen, **who, **more))

        return await self._changed(work)

    async def _look(self, request: web.Request) -> web.Response:
        if self._live is not None:
            self._live.look_now()
        return web.json_response({"looking": self._live is not None})

    # ------------------------------------------------------------------ the way there

    def _seen(self, release_id: str) -> EvidenceBundle | None:
        try:
            live = self._live.seen(model_of(release_id)) if self._live is not None else None
        except NotInRegistry as error:
            raise web.HTTPNotFound(reason=_line(error)) from None
        return live if live is not None and live.release.plan.id == release_id else None

    async def _changed(self, work: Callable[[Store], Any]) -> web.Response:
        response = await self._answer(work)
        if self._live is not None:
            self._live.look_now()
        return response

    async def _answer(self, work: Callable[[Store], Any]) -> web.Response:
        return web.json_response(await self._done(work))

    async def _done(self, work: Callable[[Store], Any]) -> Any:
        try:
            return await self._work.run(lambda: work(open_store(self._location)))
        except NotInRegistry as error:
            raise web.HTTPNotFound(reason=_line(error)) from None
        except DocumentError as error:
            raise web.HTTPUnprocessableEntity(reason=_line(error)) from None
        except PublishError as error:
            raise web.HTTPConflict(reason=_line(error)) from None
        except StoreError as error:
            raise web.HTTPServiceUnavailable(reason=_line(error)) from None


def _guarded(handler: _Handler) -> _Handler:
    """Lets no change through that a foreign web page asked for."""

    async def guarded(request: web.Request) -> web.Response:
        origin = request.headers.get("Origin")
        if origin is not None and origin.partition("://")[2] != request.headers.get("Host"):
            raise web.HTTPForbidden(reason="a page of another site asked for this")
        if request.content_type != _JSON:
            raise web.HTTPUnsupportedMediaType(reason=f"send {_JSON}")
        return await handler(request)

    return guarded


async def _content(request: web.Request) -> bytes:
    """Returns the body, which may be larger here than the listener allows elsewhere."""
    content = bytearray()
    async for chunk in request.content.iter_any():
        content += chunk
        if len(content) > MOST_BODY:
            raise web.HTTPRequestEntityTooLarge(MOST_BODY, len(content))
    return bytes(content)


async def _body(request: web.Request) -> dict[str, Any]:
    try:
        found = json.loads(await _content(request) or b"{}")
    except ValueError:
        raise web.HTTPBadRequest(reason="the body is not JSON") from None
    if not isinstance(found, dict):
        raise web.HTTPBadRequest(reason="the body must be an object")
    return found


def _who(request: web.Request, body: dict[str, Any]) -> dict[str, str]:
    actor, reason = body.pop("actor", None) or f"admin API ({request.remote})", body.pop("reason", None) or ""
    if not isinstance(actor, str) or not isinstance(reason, str):
        raise web.HTTPBadRequest(reason="actor and reason must be text")
    return {"actor": actor, "reason": reason}


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
