"""What becomes of a placed execution: which of Triton's words lose the region, and who gives the part back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from gateway.backends.triton import TritonBackend
from gateway.backends.triton_channel import Done, TritonChannel
from gateway.backends.triton_errors import from_grpc_status
from gateway.backends.triton_names import VersionedNames
from gateway.errors import GatewayError
from gateway.ports import BackendResponse, Cancellable
from gateway.tensors import Buffer
from tests.gateway.backends.test_shared_inputs import LARGE, MIB, World, request, run

UNKNOWN = "Unable to find shared memory region: '{}'"
FULL = "Failed to increase the shared memory region size: No space left, use --shm-size"


class Channel:
    """Keeps the one execution it was given; or refuses it."""

    def __init__(self, refusal: Exception | None = None) -> None:
        self.refusal = refusal

    def execute(self, framed: Buffer, done: Done, answered: Callable[[], None]) -> Cancellable | None:
        if self.refusal is not None:
            raise self.refusal
        self.done, self.answered = done, answered
        return None


@pytest.mark.parametrize(("message", "lost"), [(UNKNOWN, True), (UNKNOWN.format("another"), False), (FULL, False)])
def test_only_that_triton_does_not_know_this_region_loses_it(message: str, lost: bool) -> None:
    async def test() -> None:
        world, channel, heard = await World().opened(), Channel(), list[BackendResponse | GatewayError]()
        backend = TritonBackend(cast("TritonChannel", channel), VersionedNames(), world.shared)
        backend.infer(request(LARGE), heard.append)
        name, _ = world.registered[0]
        channel.answered()
        channel.done(from_grpc_status(5, message.format(name)))
        assert isinstance(heard[0], GatewayError)
        assert heard[0].unprocessed is lost, "what was not executed is sent again, nothing else is"
        assert (world.shared.place(request(LARGE)) is None) is lost
        await asyncio.gather(*world.tasks)

    run(test)


def test_what_could_not_be_sent_gives_its_part_back() -> None:
    async def test() -> None:
        world = await World().opened()
        backend = TritonBackend(cast("TritonChannel", Channel(OSError("gone"))), VersionedNames(), world.shared)
        for _ in range(20):
            with pytest.raises(OSError, match="gone"):
                backend.infer(request(LARGE), lambda outcome: None)
        placed = world.placed(LARGE)
        assert placed.region.free.free == MIB - placed.nbytes

    run(test)
