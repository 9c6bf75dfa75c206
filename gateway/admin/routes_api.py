"""Which version would answer a request, over REST: the twin of `sluice routes`, below /v1/routes.

`GET /v1/routes` shows every route; `GET` or `POST /v1/routes/{model}/explain` says of one request which rule, bucket,
arm, version and replica it would get, and why. Read-only: a POST only carries what a query cannot.
"""

from __future__ import annotations

from typing import Any

import orjson
from aiohttp import web

from gateway.engine.explaining import RouteExplanation, RouteQuestion, explain, rule_text
from gateway.engine.service import InferService
from gateway.errors import GatewayError
from gateway.routes import Route

_FIELDS = {"sticky_key", "request_id", "headers", "parameters", "version"}


class RoutesApi:
    """Answers from the routes that are in force at the moment of asking."""

    def __init__(self, service: InferService) -> None:
        self._service = service

    def add_to(self, app: web.Application) -> None:
        """Adds the routes."""
        app.router.add_get("/v1/routes", self._list)
        app.router.add_get("/v1/routes/{model}/explain", self._explain)
        app.router.add_post("/v1/routes/{model}/explain", self._explain)

    async def _list(self, request: web.Request) -> web.Response:
        table = self._service.table
        routes = [_route(route) | {"rules_passed_over": self._service.rules_passed_over.get(name, 0)}
                  for name, route in sorted(table.routes.items())]  # fmt: skip
        return _json({"generation": table.generation, "routes": routes})

    async def _explain(self, request: web.Request) -> web.Response:
        try:
            body = await request.json(loads=orjson.loads) if request.method == "POST" else _query(request)
            question = _question(request.match_info["model"], body)
        except ValueError as error:
            return _json({"error": str(error)}, 400)
        try:
            return _json(as_document(explain(self._service, question)))
        except GatewayError as error:
            return _json({"error": error.message}, 404)


def as_document(found: RouteExplanation) -> dict[str, Any]:
    """Returns an explanation as plain data."""
    return {
        "model": found.model_name,
        "version": found.version,
        "ready": found.ready,
        "release": found.release_id or None,
        "arm": found.arm or None,
        "rule": found.rule,
        "bucket": found.bucket,
        "key": found.key,
        "replica": found.replica,
        "targets": [{"version": number, "weight_bp": weight, "arm": arm} for number, weight, arm in found.targets],
        "generation": found.generation,
        "reasons": list(found.reasons),
    }


def _route(route: Route) -> dict[str, Any]:
    arms = route.arms or ("",) * len(route.targets)
    return {
        "model": route.model_name,
        "release": route.release_id or None,
        "salt": route.salt,
        "targets": [
            {"version": number, "weight_bp": weight, "arm": arm}
            for (number, weight), arm in zip(route.targets, arms, strict=True)
        ],
        "rules": [rule_text(rule) for rule in route.rules],
        "sticky_header": route.sticky.header,
        "sticky_parameter": route.sticky.parameter,
    }


def _query(request: web.Request) -> dict[str, Any]:
    """Returns a GET's question: `header` (name: value) and `parameter` (name=value) may be repeated."""
    query = request.query
    body: dict[str, Any] = {key: query[key] for key in ("sticky_key", "request_id", "version") if key in query}
    unknown = set(query) - {"sticky_key", "request_id", "version", "header", "parameter"}
    if unknown:
        raise ValueError(f"unknown query parameter '{min(unknown)}'")
    body["headers"] = dict(_pair(text, ":") for text in query.getall("header", []))
    body["parameters"] = dict(_pair(text, "=") for text in query.getall("parameter", []))
    return body


def _pair(text: str, separator: str) -> tuple[str, str]:
    name, found, value = text.partition(separator)
    if not found or not name.strip():
        raise ValueError(f"'{text[:64]}' is not NAME{separator}VALUE")
    return name.strip(), value.strip() if separator == ":" else value


def _question(model: str, body: Any) -> RouteQuestion:
    if not isinstance(body, dict) or set(body) - _FIELDS:
        raise ValueError(f"the body must be an object with some of {', '.join(sorted(_FIELDS))}")
    for key in ("sticky_key", "request_id"):
        if not isinstance(body.get(key, ""), str):
            raise ValueError(f"{key} must be a string")
    headers, parameters = body.get("headers", {}), body.get("parameters", {})
    if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
        raise ValueError("headers must be an object of strings")
    if not isinstance(parameters, dict) or not all(
        isinstance(v, str | int | float | bool) for v in parameters.values()
    ):
        raise ValueError("parameters must be an object of strings, numbers and booleans")
    version = body.get("version")
    if version is not None and (isinstance(version, bool) or not isinstance(version, str | int)):
        raise ValueError("version must be a number")
    return RouteQuestion(
        model_name=model,
        sticky_key=body.get("sticky_key"),
        request_id=body.get("request_id"),
        headers=headers,
        parameters=parameters,
        version=None if version is None else str(version),
    )


def _json(value: object, status: int = 200) -> web.Response:
    body = orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    return web.Response(body=body, status=status, content_type="application/json")
