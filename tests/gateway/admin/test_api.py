"""The admin listener over a real socket: paths, forms, protection."""

from __future__ import annotations

import asyncio
import html.parser
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from gateway.admin.api import AdminApi
from gateway.admin.view import GatewayView, ProfilePoint, ReplicaView, VersionView
from gateway.config import Config, SecurityConfig
from gateway.errors import ErrorCode
from gateway.messages import RequestContext
from gateway.telemetry.exposition import Exposition
from gateway.telemetry.loop_lag import LoopLagProbe
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.rates import RateMeter
from gateway.versions import ModelVersion, VersionState
from tests.support.clock import ManualClock

V1, V2 = ModelVersion("m", 1), ModelVersion("m", 2)
NASTY = "<script>alert('x')</script>"

VIEW = GatewayView(
    ready=True,
    closing=False,
    generation=4,
    requests_in_flight=3,
    versions=(
        VersionView(
            version=V1,
            state=VersionState.READY,
            weight=10_000,
            queued_rows=5,
            max_batch_size=8,
            profile=(ProfilePoint(rows=1, mean=2_000_000, high=3_000_000),),
        ),
        VersionView(version=V2, state=VersionState.FAILED, detail=NASTY),
        VersionView(version=ModelVersion("n", 1), state=VersionState.READY, unbatchable_reason="it is stateful"),
    ),
    replicas=(ReplicaView(name="embedded", available=True, versions=(V1,), outstanding_rows=6),),
    notes=(f"registry: {NASTY}",),
)


class Engine:
    """An `AdminView` that shows what it is told to."""

    def __init__(self) -> None:
        self.view = VIEW
        self.is_ready = True

    def ready(self) -> bool:
        return self.is_ready

    def look(self) -> GatewayView:
        return self.view


class World:
    def __init__(self, token: str | None = None) -> None:
        self.clock = ManualClock()
        self.engine = Engine()
        self.metrics = Metrics(self.clock.now, (1000,))
        lag = LoopLagProbe(self.clock, 1_000_000)
        rates = RateMeter(self.clock, self.metrics)
        rates.start()
        config = Config(security=SecurityConfig(admin_token=token or ""))
        self.api = AdminApi(self.engine, Exposition(self.metrics, lag), rates, lag, config, token)
        self.url = ""

    async def get(self, path: str, headers: dict[str, str] | None = None) -> tuple[int, str, Any]:
        """Returns (status, text, headers)."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(self.url + path, headers=headers, allow_redirects=False) as response,
        ):
            return response.status, await response.text(), response.headers

    async def json(self, path: str) -> Any:
        async with aiohttp.ClientSession() as session, session.get(self.url + path) as response:
            assert response.status == 200
            assert response.content_type == "application/json"
            return await response.json()


def with_world(test: Callable[[World], Awaitable[None]], token: str | None = None) -> None:
    """Runs `test` against a listening admin API."""

    async def run() -> None:
        world = World(token)
        port = await world.api.start("127.0.0.1", 0)
        world.url = f"http://127.0.0.1:{port}"
        try:
            async with asyncio.timeout(20):
                await test(world)
        finally:
            await world.api.stop()
            await world.api.stop()

    asyncio.run(run())


def test_health_and_readiness() -> None:
    async def test(world: World) -> None:
        assert (await world.get("/healthz"))[:2] == (200, "ok\n")
        assert (await world.get("/readyz"))[:2] == (200, "ready\n")
        world.engine.is_ready = False
        assert (await world.get("/readyz"))[:2] == (503, "not ready\n")
        assert (await world.get("/healthz"))[0] == 200

    with_world(test)


def test_metrics_are_prometheus_text() -> None:
    async def test(world: World) -> None:
        now = world.clock.now()
        world.metrics.request_done(RequestContext("r", now, now, "grpc"), V1, ErrorCode.INTERNAL, 1, 0, now, "m")
        status, text, headers = await world.get("/metrics")
        assert status == 200
        assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert 'sluice_requests_total{model="m",version="1",protocol="grpc",outcome="internal"} 1\n' in text

    with_world(test)


def test_models_with_states_rates_and_profiles() -> None:
    async def test(world: World) -> None:
        now = world.clock.now()
        for _ in range(30):
            world.metrics.request_done(RequestContext("r", now, now, "grpc"), V1, None, 2, 0, now, "m")
        world.clock.advance(10_000_000_000)
        answer = await world.json("/v1/models")
        assert answer["ready"] is True
        assert answer["generation"] == 4
        assert answer["notes"] == [f"registry: {NASTY}"]
        assert [model["name"] for model in answer["models"]] == ["m", "n"]
        first, second = answer["models"][0]["versions"]
        assert (first["version"], first["state"], first["weight_bp"]) == (1, "ready", 10_000)
        assert first["requests_per_second"] == 3.0
        assert first["queued_rows"] == 5
        assert first["profile"] == [{"rows": 1, "mean_us": 2000, "high_us": 3000}]
        assert (second["state"], second["detail"]) == ("failed", NASTY)
        assert answer["replicas"] == [
            {"name": "embedded", "available": True, "versions": ["m/1"], "outstanding_rows": 6}
        ]

    with_world(test)


class Tags(html.parser.HTMLParser):
    """Collects the tags of a page and whatever they point to."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.targets: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.targets += [value or "" for name, value in attrs if name in ("src", "href")]


def test_the_status_page_is_whole_honest_and_harmless() -> None:
    async def test(world: World) -> None:
        status, text, headers = await world.get("/")
        assert status == 200
        assert headers["Content-Type"].startswith("text/html")
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        page = Tags()
        page.feed(text)
        assert "script" not in page.tags
        assert page.tags.count("tr") == 2 + 3 + 1
        assert all(target.startswith("/") for target in page.targets)
        assert "&lt;script&gt;" in text
        assert "not batched: it is stateful" in text
        world.engine.view = GatewayView(
            ready=False, closing=False, generation=0, requests_in_flight=0, versions=(), replicas=()
        )
        empty = (await world.get("/"))[1]
        assert "not ready" in empty
        assert "No model is known yet." in empty

    with_world(test)


def test_pressure_counts_requests() -> None:
    async def test(world: World) -> None:
        answer = await world.json("/v1/pressure")
        assert sorted(answer) == ["requests", "requests_in_flight"]
        assert min(answer.values()) >= 0

    with_world(test)


def test_the_configuration_without_its_secrets() -> None:
    async def test(world: World) -> None:
        headers = {"Authorization": "Bearer sesame"}
        status, text, _ = await world.get("/v1/config", headers)
        assert status == 200
        assert '"rest_port": 8000' in text
        assert "sesame" not in text

    with_world(test, token="sesame")


@pytest.mark.parametrize("path", ["/", "/metrics", "/v1/models", "/v1/config", "/nowhere"])
def test_the_token_guards_everything_but_health(path: str) -> None:
    async def test(world: World) -> None:
        status, text, headers = await world.get(path)
        assert status == 401
        assert "WWW-Authenticate" in headers
        assert "error" in text
        assert (await world.get(path, {"Authorization": "Bearer wrong"}))[0] == 401
        assert (await world.get(path, {"Authorization": "Bearer sesame"}))[0] == (404 if path == "/nowhere" else 200)
        assert (await world.get("/healthz"))[0] == 200

    with_world(test, token="sesame")


def test_a_page_elsewhere_cannot_reach_it_through_its_own_name() -> None:
    async def test(world: World) -> None:
        status, _, _ = await world.get("/v1/config", {"Host": "evil.example"})
        assert status == 403

    with_world(test)


def test_unknown_paths_and_methods_are_json_errors() -> None:
    async def test(world: World) -> None:
        status, text, headers = await world.get("/v1/nothing")
        assert (status, headers["Content-Type"].partition(";")[0]) == (404, "application/json")
        assert "error" in text
        async with aiohttp.ClientSession() as session, session.post(world.url + "/v1/models", data=b"x") as response:
            assert response.status == 405

    with_world(test)


def test_a_taken_port_is_an_os_error() -> None:
    async def test(world: World) -> None:
        port = int(world.url.rpartition(":")[2])
        second = World().api
        with pytest.raises(OSError, match="address already in use"):
            await second.start("127.0.0.1", port)

    with_world(test)
