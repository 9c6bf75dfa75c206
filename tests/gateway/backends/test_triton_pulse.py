"""When a Triton that gives no sign of life is taken for hanging, and when it is not."""

from __future__ import annotations

import asyncio

from gateway.backends.triton_pulse import Pulse
from tests.support.clock import ManualClock

SECOND = 1_000_000_000


class Server:
    """Answers, or takes the whole time that it is given and does not."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.well = True
        self.pulse = Pulse(self.ask, self.clock, self.sleep, 8 * SECOND)

    async def ask(self, seconds: float) -> bool:
        if not self.well:
            await self.sleep(seconds)
        return self.well

    async def sleep(self, seconds: float) -> None:
        self.clock.advance(round(seconds * SECOND))


def test_silence_is_noticed_within_the_limit_and_a_question() -> None:
    async def story() -> None:
        server = Server()
        for _ in range(20):
            assert not await server.pulse.hangs()
        server.well, since = False, server.clock.now()
        while not await server.pulse.hangs():
            assert server.clock.now() - since < 11 * SECOND
        assert server.clock.now() - since >= 8 * SECOND - 1 * SECOND

    asyncio.run(story())


def test_one_answer_is_enough() -> None:
    async def story() -> None:
        server = Server()
        for turn in range(100):
            server.well = turn % 3 == 2
            assert not await server.pulse.hangs()

    asyncio.run(story())


def test_a_gateway_that_was_stopped_itself_blames_nobody() -> None:
    async def story() -> None:
        server = Server()
        assert not await server.pulse.hangs()
        server.clock.advance(3600 * SECOND)
        server.well = False  # the question that was under way has run out
        assert not await server.pulse.hangs()
        server.well = True
        assert not await server.pulse.hangs()

    asyncio.run(story())
