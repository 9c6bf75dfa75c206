"""The admin listener: metrics, health, models, configuration, status page.

Read-only but for the registry (`models_api`). Decides paths and forms; who may ask is `access`'s business, what is true
the engine's. It runs on the event loop of the data plane, so every answer is made from values that are at hand.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

import orjson
from aiohttp import web

import gateway
from gateway.admin import status_page
from gateway.admin.access import Guard
from gateway.admin.models_api import RegistryApi
from gateway.admin.view import AdminView, as_json
from gateway.config import Config
from gateway.config_printing import as_dict
from gateway.telemetry.exposition import CONTENT_TYPE, Exposition
from gateway.telemetry.loop_lag import LoopLagProbe
from gateway.telemetry.rates import NO_RATE, RateMeter

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_MOST_BODY = 4096
_SHUTDOWN_S = 1.0
_SECURITY_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class AdminPart(Protocol):
    """One more thing that the admin listener answers for."""

    def add_to(self, app: web.Application) -> None:
        """Adds its routes."""
        ...


class AdminApi:
    """Owns the admin listener of one gateway."""

    def __init__(
        self,
        view: AdminView,
        exposition: Exposition,
        rates: RateMeter,
        lag: LoopLagProbe,
        config: Config,
        token: str | None,
        parts: Sequence[AdminPart] = (),
    ) -> None:
        """`parts` are what else is answered here, each below paths of its own."""
        self._parts = parts
        self._view = view
        self._exposition = exposition
        self._rates = rates
        self._lag = lag
        self._config = config
        self._guard = Guard(token)
        self._runner: web.AppRunner | None = None

    def application(self) -> web.Application:
        """Returns the aiohttp application."""
        app = web.Application(middlewares=[self._protect], client_max_size=_MOST_BODY)
        app.router.add_get("/", self._page)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/healthz", self._health)
        app.router.add_get("/readyz", self._ready)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/v1/config", self._configuration)
        app.router.add_get("/v1/pressure", self._pressure)
        if self._config.triton.source == "registry":
            RegistryApi(self._config.registry.root).add_to(app)
        for part in self._parts:
            part.add_to(app)
        return app

    async def start(self, host: str, port: int) -> int:
        """Listens and returns the port, which was chosen where `port` is 0. Raises OSError if it cannot."""
        self._runner = web.AppRunner(
            self.application(), access_log=None, handle_signals=False, shutdown_timeout=_SHUTDOWN_S
        )
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError:
            await self.stop()
            raise
        bound: int = self._runner.addresses[0][1]
        return bound

    async def stop(self) -> None:
        """Closes the listener and its connections; again is harmless."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    # ------------------------------------------------------------------ protection

    @web.middleware
    async def _protect(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        refusal = self._guard.refusal(
            request.path, request.remote, request.headers.get("Host", ""), request.headers.get("Authorization", "")
        )
        response: web.StreamResponse
        if refusal is not None:
            response = _json({"error": refusal[1]}, status=refusal[0])
            if refusal[0] == 401:
                response.headers["WWW-Authenticate"] = 'Basic realm="sluice admin", charset="UTF-8"'
        else:
            try:
                response = await handler(request)
            except web.HTTPException as error:
                response = _json({"error": error.reason}, status=error.status)
        response.headers.update(_SECURITY_HEADERS)
        return response

    # ------------------------------------------------------------------ answers

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _ready(self, request: web.Request) -> web.Response:
        ready = self._view.ready()
        return web.Response(text="ready\n" if ready else "not ready\n", status=200 if ready else 503)

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=self._exposition.render(), headers={"Content-Type": CONTENT_TYPE})

    async def _page(self, request: web.Request) -> web.Response:
        text = status_page.render(self._view.look(), self._rates.rates(), self._lag.latest / 1e6)
        return web.Response(text=text, content_type="text/html")

    async def _configuration(self, request: web.Request) -> web.Response:
        return _json(as_dict(self._config))

    async def _pressure(self, request: web.Request) -> web.Response:
        """For neighbours that give way: requests answered since the start, and how many are here now."""
        return _json({"requests": self._rates.requests(), "requests_in_flight": self._view.look().requests_in_flight})

    async def _models(self, request: web.Request) -> web.Response:
        view, rates = self._view.look(), self._rates.rates()
        models: dict[str, list[dict[str, Any]]] = {}
        for version in view.versions:
            rate = rates.get(version.version, NO_RATE)
            body = as_json(version) | {
                "requests_per_second": round(rate.requests, 3),
                "failures_per_second": round(rate.failures, 3),
                "rows_per_batch": round(rate.rows_per_batch, 3),
            }
            models.setdefault(version.version.model_name, []).append(body)
        return _json(
            {
                "gateway": gateway.__version__,
                "ready": view.ready,
                "closing": view.closing,
                "generation": view.generation,
                "requests_in_flight": view.requests_in_flight,
                "notes": list(view.notes),
                "models": [{"name": name, "versions": versions} for name, versions in models.items()],
                "replicas": [
                    {
                        "name": replica.name,
                        "available": replica.available,
                        "versions": [str(version) for version in replica.versions],
                        "outstanding_rows": replica.outstanding_rows,
                    }
                    for replica in view.replicas
                ],
            }
        )


def _json(value: object, status: int = 200) -> web.Response:
    body = orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    return web.Response(body=body, status=status, content_type="application/json")
