"""What the manager does again and again costs as much as there are models, not as much as their square."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

from tests.support.swapping import Swapping
from tests.support.virtual_loop import run


async def _steps_of_a_look(models: int) -> int:
    """Returns how many bytecodes it takes to look at everything once, which keeps the event loop busy."""
    world = Swapping()
    for replica in world.replicas:
        replica.load_seconds = replica.infer_seconds = lambda: 0.0
    world.source.wanted = {f"m{number:03d}": (1,) for number in range(models)}
    world.manager.start()
    await world.look()
    assert len(world.service.table.routes) == models
    assert world.service.server_ready()
    found = 0

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal found
        frame.f_trace_opcodes = True
        found += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        world.manager.publish()
    finally:
        sys.settrace(before)
    await world.manager.close()
    return found


def test_a_look_at_many_models_is_linear() -> None:
    found: list[int] = []

    async def count(models: int) -> None:
        found.append(await _steps_of_a_look(models))

    run(count(4))
    run(count(32))
    assert found[1] < 9 * found[0], found
