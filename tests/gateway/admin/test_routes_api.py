"""Routes over REST: what a request would get, asked with GET and POST, and what is refused."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from gateway.admin.routes_api import RoutesApi
from tests.gateway.engine.test_routing import Releasing


async def ask(world: Releasing, calls: list[tuple[str, Any]]) -> list[tuple[int, Any]]:
    """Returns (status, document) of each call: (path, None) is a GET, (path, body) a POST."""
    app = web.Application()
    RoutesApi(world.service).add_to(app)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        answers = []
        async with aiohttp.ClientSession() as session:
            for path, body in calls:
                call = session.get(url + path) if body is None else session.post(url + path, json=body)
                async with call as response:
                    answers.append((response.status, await response.json()))
        return answers
    finally:
        await runner.cleanup()


@pytest.fixture
def world() -> Releasing:
    return Releasing()


def test_get_and_post_say_the_same(world: Releasing) -> None:
    path = "/v1/routes/m/explain"
    (first, by_get), (second, by_post) = asyncio.run(
        ask(
            world,
            [
                (f"{path}?sticky_key=user%201&header=X-Other:%20a&parameter=tier=gold", None),
                (path, {"sticky_key": "user 1", "headers": {"x-other": "a"}, "parameters": {"tier": "gold"}}),
            ],
        )
    )
    assert (first, second) == (200, 200)
    assert by_get == by_post
    version, context = world.send({b"x-sluice-sticky-key": b"user 1", b"x-other": b"a"}, {"tier": "gold"})
    assert context.decision is not None
    assert (by_get["version"], by_get["bucket"]) == (version, context.decision.bucket)
    assert by_get["targets"] == [
        {"version": 2, "weight_bp": 1000, "arm": "candidate"},
        {"version": 1, "weight_bp": 9000, "arm": "stable"},
    ]


def test_what_is_refused(world: Releasing) -> None:
    path = "/v1/routes/m/explain"
    answers = asyncio.run(
        ask(
            world,
            [
                ("/v1/routes/other/explain", None),
                (f"{path}?version=9", None),
                (f"{path}?header=nothing", None),
                (f"{path}?colour=red", None),
                (path, {"headers": {"a": 1}}),
                (path, {"sticky_key": 5}),
                (path, [1]),
                (path, {"version": True}),
                (path, {"parameters": {"a": [1]}}),
            ],
        )
    )
    assert [status for status, _ in answers] == [404, 404, 400, 400, 400, 400, 400, 400, 400]
    assert all(document["error"] for _, document in answers)


def test_the_list_shows_rules_as_a_person_reads_them(world: Releasing) -> None:
    [(status, document)] = asyncio.run(ask(world, [("/v1/routes", None)]))
    assert status == 200
    [route] = document["routes"]
    assert route["release"] == "r1"
    assert route["rules"][0] == "header x-tester equals 'yes' -> version 2"
