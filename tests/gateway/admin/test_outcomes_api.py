"""What may be said of a request that was answered, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from gateway.admin.outcomes_api import AT_ONCE, MOST_OUTCOMES, OutcomesApi, parse_outcomes
from gateway.core.outcome_matching import Outcome


def test_the_three_forms() -> None:
    document = [
        {"request_id": "a", "good": True},
        {"request_id": "b", "value": 2},
        {"request_id": "c", "label": "cat"},
        {"request_id": "d", "label": [1, 2]},
    ]
    outcomes = [
        Outcome("a", good=True),
        Outcome("b", value=2.0),
        Outcome("c", label=("cat",)),
        Outcome("d", label=(1, 2)),
    ]
    assert parse_outcomes(document) == parse_outcomes({"outcomes": document}) == outcomes


@pytest.mark.parametrize(
    "item",
    [
        1,
        {},
        {"request_id": 1, "good": True},
        {"request_id": "a"},
        {"request_id": "a", "good": 1},
        {"request_id": "a", "good": True, "value": 1},
        {"request_id": "a", "good": True, "more": 1},
        {"request_id": "a", "value": "1"},
        {"request_id": "a", "value": True},
        {"request_id": "a", "label": 1.5},
        {"request_id": "a", "label": []},
        {"request_id": "a", "label": [True]},
    ],
)
def test_what_is_wrong_is_named(item: Any) -> None:
    with pytest.raises(ValueError, match="outcome 1"):
        parse_outcomes([{"request_id": "z", "good": True}, item])


class Known:
    """Stands where the releases are: knows one request."""

    def report(self, outcomes: list[Outcome]) -> int:
        return sum(outcome.request_id == "known" for outcome in outcomes)


class Turns:
    """Notes how many outcomes it gets between two turns of the event loop."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.between = 0

    def turn(self) -> None:
        self.between = 0
        asyncio.get_running_loop().call_soon(self.turn)

    def report(self, outcomes: list[Outcome]) -> int:
        self.between += len(outcomes)
        self.sizes.append(self.between)
        return len(outcomes)


@asynccontextmanager
async def served(releases: Any) -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
    app = web.Application(client_max_size=10)
    OutcomesApi(releases).add_to(app)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with aiohttp.ClientSession() as session:
            yield session, f"http://127.0.0.1:{runner.addresses[0][1]}/v1/outcomes"
    finally:
        await runner.cleanup()


def test_many_outcomes_do_not_hold_the_event_loop() -> None:
    async def test() -> None:
        turns = Turns()
        turns.turn()
        async with served(turns) as (session, url):
            body = [{"request_id": str(n), "good": True} for n in range(MOST_OUTCOMES)]
            async with session.post(url, json=body) as answer:
                assert (await answer.json())["matched"] == MOST_OUTCOMES
            assert max(turns.sizes) == AT_ONCE
            async with session.post(url, json=[*body, body[0]]) as answer:
                assert answer.status == 400
            wrong = [*body[:-1], {"request_id": "a"}]
            before = len(turns.sizes)
            async with session.post(url, json=wrong) as answer:
                assert answer.status == 400
                assert f"outcome {MOST_OUTCOMES - 1}" in await answer.text()
            assert len(turns.sizes) == before, "all or none"

    asyncio.run(test())


def test_over_http() -> None:
    async def test() -> None:
        async with served(Known()) as (session, url):
            body = [{"request_id": name, "good": True} for name in ("known", "other")]
            async with session.post(url, json=body) as answer:
                assert answer.status == 200
                assert await answer.json() == {"outcomes": 2, "matched": 1, "unmatched": 1}
            for data, headers, status in (
                ("{", {"content-type": "application/json"}, 400),
                ("[]", {"content-type": "text/plain"}, 415),
                ("[]", {"content-type": "application/json", "origin": "http://elsewhere"}, 403),
                ("[]", {"content-type": "application/json"}, 200),
            ):
                async with session.post(url, data=data, headers=headers) as answer:
                    assert answer.status == status, data

    asyncio.run(test())
