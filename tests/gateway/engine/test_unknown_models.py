"""Models that exist and of which it is not known what should be served."""

from __future__ import annotations

import pytest

from gateway.errors import ErrorCode, GatewayError
from tests.support.swapping import Swapping
from tests.support.virtual_loop import run


async def _first_start_with_an_unreadable_pointer() -> None:
    world = Swapping()
    world.source.mute = frozenset({"other"})
    world.manager.start()
    await world.want(1)
    assert world.service.model_ready("m", None)
    assert not world.service.server_ready(), "a model of which nothing is known counts as one that is not ready"
    for number in (None, "1"):
        assert not world.service.model_ready("other", number)
        with pytest.raises(GatewayError, match="cannot be read from the registry") as caught:
            world.service.metadata("other", number)
        assert caught.value.code is ErrorCode.MODEL_NOT_READY
    with pytest.raises(GatewayError) as caught:
        world.service.metadata("third", None)
    assert caught.value.code is ErrorCode.MODEL_NOT_FOUND
    world.source.mute = frozenset()
    world.source.wanted["other"] = (1,)
    await world.look()
    assert world.service.server_ready()
    await world.manager.close()


def test_a_model_whose_pointer_cannot_be_read_is_known_and_not_ready() -> None:
    run(_first_start_with_an_unreadable_pointer())


async def _nothing_known() -> None:
    world = Swapping()
    world.source.error = "the registry cannot be read"
    world.manager.start()
    await world.look()
    assert not world.service.server_ready()
    with pytest.raises(GatewayError, match="not known yet") as caught:
        world.service.metadata("m", None)
    assert caught.value.code is ErrorCode.MODEL_NOT_READY, "nobody can say that there is no such model"
    world.source.error = None
    await world.look()
    with pytest.raises(GatewayError) as caught:
        world.service.metadata("m", None)
    assert caught.value.code is ErrorCode.MODEL_NOT_FOUND
    await world.manager.close()


def test_as_long_as_nothing_was_read_no_model_is_said_not_to_exist() -> None:
    run(_nothing_known())
