"""The runner's REST API, on loopback.

Decides paths and status codes. Whoever can talk to it can run commands as this user: it binds loopback only, wants the
token from the state folder with every call, and refuses Host headers that are not loopback (so that a web page cannot
reach it through a name of its own).

    GET  /v1/health                     POST /v1/jobs  {"job": {…}, "key": "…", "owner": "…"}
    GET  /v1/jobs?state=&limit=         GET  /v1/jobs/<id>      GET /v1/jobs/<id>/metrics
    GET  /v1/jobs/<id>/logs?attempt=&offset=&follow=1
    POST /v1/jobs/<id>/cancel  {"grace_s": 0}     POST /v1/jobs/<id>/resume|preempt|evict
    POST /v1/gc  {"older_than_s": 86400}          GET  /v1/schema
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
import re
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from jobs import logs, reading
from jobs.collecting import collect
from jobs.documents import JobError
from jobs.errors import KeyConflict, Refused, UnknownJob
from jobs.job_loading import from_document
from jobs.job_schema import schema
from jobs.runner import Runner
from jobs.state_folder import StateFolder
from jobs.states import JobState
from jobs.store import Store

_CHUNK = 1 << 16
_LOOK_AGAIN_S = 0.2
_MAX_BODY = 1 << 20
_OWNER = re.compile(r"[A-Za-z0-9._@-]{0,64}")
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Api:
    """Owns the routes; the runner does the work."""

    def __init__(self, runner: Runner, store: Store, state: StateFolder) -> None:
        self._runner = runner
        self._store = store
        self._state = state
        self._token = state.token()
        self.app = web.Application(middlewares=[self._guard], client_max_size=_MAX_BODY)
        self.app.add_routes(
            [
                web.get("/v1/health", self._health),
                web.get("/v1/schema", self._schema),
                web.get("/v1/jobs", self._list),
                web.post("/v1/jobs", self._submit),
                web.get(r"/v1/jobs/{id:\d{1,15}}", self._show),
                web.get(r"/v1/jobs/{id:\d{1,15}}/metrics", self._metrics),
                web.get(r"/v1/jobs/{id:\d{1,15}}/logs", self._logs),
                web.post(r"/v1/jobs/{id:\d{1,15}}/{verb:cancel|resume|preempt|evict}", self._command),
                web.post("/v1/gc", self._collect),
            ]
        )

    @web.middleware
    async def _guard(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        given = request.headers.get("Authorization", "").encode("utf-8", "replace")
        if not _is_loopback(request.host) or not hmac.compare_digest(given, f"Bearer {self._token}".encode()):
            return _error(401, "the token from the runner's state folder is needed (Authorization: Bearer …)")
        try:
            return await handler(request)
        except JobError as error:
            return web.json_response({"error": "the job has problems", "problems": error.problems}, status=422)
        except UnknownJob as error:
            return _error(404, str(error.args[0]))
        except KeyConflict as error:
            return _error(409, str(error))
        except Refused as error:
            return _error(409, str(error))
        except sqlite3.OperationalError as error:
            return _error(507, f"the state cannot be written: {error}")
        except web.HTTPException as error:
            return _error(error.status, error.reason)

    async def _health(self, _: web.Request) -> web.Response:
        waiting, running = (len(self._store.jobs((state,))) for state in (JobState.QUEUED, JobState.RUNNING))
        return web.json_response({"queued": waiting, "running": running, "trouble": self._runner.trouble})

    async def _schema(self, _: web.Request) -> web.Response:
        return web.json_response(schema())

    async def _submit(self, request: web.Request) -> web.Response:
        body = await _document(request)
        key, owner = body.get("key"), body.get("owner", "")
        if not isinstance(owner, str) or not _OWNER.fullmatch(owner):
            return _error(400, f"owner must be a string that matches {_OWNER.pattern}")
        if key is not None and not (isinstance(key, str) and 0 < len(key) <= 200):
            return _error(400, "key must be a string of 1 to 200 characters")
        record, new = await self._runner.submit(from_document(body.get("job")), key=key, owner=owner)
        return web.json_response({**reading.brief(record), "new": new}, status=201 if new else 200)

    async def _list(self, request: web.Request) -> web.Response:
        wanted = tuple(word for word in request.query.get("state", "").split(",") if word)
        for word in wanted:
            if word not in list(JobState):
                return _error(400, f"state: '{word}' is none of {', '.join(JobState)}")
        found = self._store.jobs(wanted, _number(request, "limit", 1000))
        return web.json_response({"jobs": [reading.brief(record) for record in found]})

    async def _show(self, request: web.Request) -> web.Response:
        return web.json_response(reading.full(self._store, self._state, _id(request)))

    async def _metrics(self, request: web.Request) -> web.Response:
        number = _id(request)
        reading.full(self._store, self._state, number)
        rows = await asyncio.to_thread(reading.metrics, self._state.metrics(number))
        return web.json_response({"metrics": rows})

    async def _command(self, request: web.Request) -> web.Response:
        number, verb = _id(request), request.match_info["verb"]
        if verb == "cancel":
            grace = (await _document(request)).get("grace_s")
            if grace is not None and (not isinstance(grace, int | float) or not 0 <= grace <= 3600):
                return _error(400, "grace_s must be a number from 0 to 3600")
            record = self._runner.cancel(number, grace_s=grace)
        elif verb == "resume":
            record = self._runner.resume(number)
        else:
            record = self._runner.preempt(number, evict=verb == "evict")
        return web.json_response(reading.brief(record))

    async def _collect(self, request: web.Request) -> web.Response:
        age = (await _document(request)).get("older_than_s", 0)
        if not isinstance(age, int | float) or age < 0:
            return _error(400, "older_than_s must be a number and not negative")
        count, freed = collect(self._store, self._state, age)
        return web.json_response({"removed": count, "freed_bytes": freed})

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        """With `follow`: until the attempt that was asked for has ended; none asked for: until the job has."""
        number = _id(request)
        record = self._store.known(number)
        attempt = wanted = _number(request, "attempt", 0)
        if not wanted:
            attempt = max(record.attempts, 1)
        offset, follow = _number(request, "offset", 0), request.query.get("follow", "0") == "1"
        response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
        await response.prepare(request)
        while True:
            # Asked before reading: what was written until the end is then read in this round.
            record = self._store.known(number)
            runs = self._store.attempts(number)
            over = attempt <= len(runs) and runs[attempt - 1].ended_at is not None
            offset = await self._copy(self._state.attempt(number, attempt), offset, response)
            if not follow or record.state.final or (over and wanted) or wanted > len(runs):
                break
            if over:
                attempt, offset = attempt + 1, 0
            if len(runs) < attempt or not over:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_AGAIN_S):
                        await self._runner.change()
        await response.write_eof()
        return response

    async def _copy(self, folder: Path, offset: int, response: web.StreamResponse) -> int:
        """Sends what the log has from `offset` on; returns where it ends now."""
        while (piece := await asyncio.to_thread(logs.read, folder, offset, _CHUNK)).data:
            if piece.start > offset:
                await response.write(f"\n[sluice: {piece.start - offset} bytes were dropped]\n".encode())
            await response.write(piece.data)
            offset = piece.start + len(piece.data)
        return offset


async def _document(request: web.Request) -> dict[str, Any]:
    if not request.can_read_body:
        return {}
    try:
        found = await request.json()
    except ValueError:
        raise web.HTTPBadRequest(reason="the body is not JSON") from None
    if not isinstance(found, dict):
        raise web.HTTPBadRequest(reason="the body must be a JSON object")
    return found


def _id(request: web.Request) -> int:
    return int(request.match_info["id"])


def _number(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name)
    if text is None:
        return default
    if not text.isdecimal() or len(text) > 18:
        raise web.HTTPBadRequest(reason=f"{name} must be a number")
    return int(text)


def _is_loopback(host: str) -> bool:
    name = host.rpartition(":")[0] if host.count(":") == 1 or host.startswith("[") else host
    name = name.strip("[]")
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"error": message}, status=status)
