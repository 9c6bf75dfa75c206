"""`POST /v1/outcomes`: what turned out to be true of requests that were answered earlier.

A JSON list (or `{"outcomes": [...]}`) of objects with `request_id` and exactly one of `good` (true or false), `value`
(a number, more is better) and `label` (text, a whole number, or a list of them, one a row). Answers how many could be
matched with a release's request; those that could not are no error, since other gateways may know them. Invariant: the
event loop, which serves the callers, is held for some hundred outcomes at a time only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import orjson
from aiohttp import web

from gateway.core.outcome_matching import Outcome
from gateway.engine.clock import pause
from gateway.engine.releases import ReleaseControl

MOST_BODY = 1 << 20
MOST_OUTCOMES = 10_000
AT_ONCE = 250
_JSON = "application/json"


class OutcomesApi:
    """Hands outcomes to the releases in progress."""

    def __init__(self, releases: ReleaseControl) -> None:
        self._releases = releases

    def add_to(self, app: web.Application) -> None:
        """Adds the route."""
        app.router.add_post("/v1/outcomes", self._post)

    async def _post(self, request: web.Request) -> web.Response:
        origin = request.headers.get("Origin")
        if origin is not None and origin.partition("://")[2] != request.headers.get("Host"):
            raise web.HTTPForbidden(reason="a page of another site asked for this")
        if request.content_type != _JSON:
            raise web.HTTPUnsupportedMediaType(reason=f"send {_JSON}")
        content = bytearray()
        async for chunk in request.content.iter_any():
            content += chunk
            if len(content) > MOST_BODY:
                raise web.HTTPRequestEntityTooLarge(MOST_BODY, len(content))
        outcomes: list[Outcome] = []
        try:
            for part in _parts(orjson.loads(content)):
                outcomes += part
                await pause(0)
        except ValueError as error:
            return _answer({"error": str(error)}, 400)
        matched = 0
        for begin in range(0, len(outcomes), AT_ONCE):
            matched += self._releases.report(outcomes[begin : begin + AT_ONCE])
            await pause(0)
        return _answer({"outcomes": len(outcomes), "matched": matched, "unmatched": len(outcomes) - matched}, 200)


def parse_outcomes(document: Any) -> list[Outcome]:
    """Returns the outcomes in a document. Raises ValueError naming the first that is wrong."""
    return [outcome for part in _parts(document) for outcome in part]


def _parts(document: Any) -> Iterator[list[Outcome]]:
    items = document.get("outcomes") if isinstance(document, dict) else document
    if not isinstance(items, list) or len(items) > MOST_OUTCOMES:
        raise ValueError(f"send a list of at most {MOST_OUTCOMES} outcomes")
    for begin in range(0, len(items), AT_ONCE):
        yield [_outcome(index, item) for index, item in enumerate(items[begin : begin + AT_ONCE], begin)]


def _outcome(index: int, item: Any) -> Outcome:
    where = f"outcome {index}"
    if not isinstance(item, dict) or not isinstance(item.get("request_id"), str):
        raise ValueError(f"{where}: must be an object with request_id")
    given = [key for key in ("good", "value", "label") if key in item]
    if len(given) != 1 or len(item) != 2:
        raise ValueError(f"{where}: give request_id and exactly one of good, value, label")
    request_id, value = item["request_id"], item[given[0]]
    if given[0] == "good":
        if not isinstance(value, bool):
            raise ValueError(f"{where}: good must be true or false")
        return Outcome(request_id, good=value)
    if given[0] == "value":
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{where}: value must be a number")
        return Outcome(request_id, value=float(value))
    labels = value if isinstance(value, list) else [value]
    if not labels or len(labels) > 64 or any(isinstance(one, bool) or not isinstance(one, str | int) for one in labels):
        raise ValueError(f"{where}: label must be text or a whole number, or a list of them")
    return Outcome(request_id, label=tuple(labels))


def _answer(value: object, status: int) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, content_type=_JSON)
