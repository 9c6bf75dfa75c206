"""A job that yields to the gateway stands still while there are requests, and goes on with nothing lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

from aiohttp import web

from jobs import files, processes
from jobs.yielding import Neighbour, gateway_of
from tests.jobs.world import World, world

COUNT = "i=0; while [ $i -lt 12000 ]; do i=$((i+1)); echo $i >> $SLUICE_OUTPUT_FOLDER/rows; /bin/true; done"


class Gateway:
    """The admin listener's answer, as the test sets it."""

    def __init__(self) -> None:
        self.requests, self.here = 0, 0

    async def start(self) -> tuple[web.AppRunner, str]:
        app = web.Application()
        app.router.add_get("/v1/pressure", self._answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner, f"http://127.0.0.1:{runner.addresses[0][1]}"

    async def _answer(self, _: web.Request) -> web.Response:
        return web.json_response({"requests": self.requests, "requests_in_flight": self.here})


def states(w: World, number: int) -> set[str]:
    """Returns the states of the job's processes without its keeper."""
    attempts = w.store.attempts(number)
    claim = files.read_json(w.state.attempt(number, len(attempts)) / "claim.json") if attempts else None
    found = [processes.stat(pid) for pid in processes.children_of(claim["pid"])] if claim else []
    return {known.state for known in found if known is not None and known.state != "Z"}


def still(w: World, number: int) -> bool:
    """Whether the job's processes are stopped; a shell whose child was stopped between vfork and exec waits for it."""
    found = states(w, number)
    return "T" in found and found <= {"T", "D"}


def test_paused_under_pressure_and_nothing_is_lost(tmp_path: Path) -> None:
    async def story() -> None:
        gateway = Gateway()
        serving, address = await gateway.start()
        async with world(tmp_path) as w:
            neighbour = asyncio.get_running_loop().create_task(Neighbour(w.runner, w.state, (address, None)).run())
            number = await w.submit("sh", "-c", COUNT, yield_to="gateway", outputs=["rows"])
            rows = w.state.outputs(number) / "rows"
            await w.until(lambda: rows.exists() and rows.read_text().count("\n") > 20, "it works")
            gateway.here = 3
            await w.until(lambda: still(w, number), "it stands still")
            before = rows.read_text()
            assert still(w, number)
            assert rows.read_text() == before
            gateway.here = 0
            assert (await w.ended(number)).state == "succeeded"
            assert rows.read_text().split() == [str(i) for i in range(1, 12001)]
            # Cancelled while it is paused: it gets its notice all the same.
            other = await w.submit("sh", "-c", "trap 'exit 3' TERM; while :; do /bin/true; done", yield_to="gateway")
            await w.until(lambda: states(w, other), "it runs")
            gateway.here = 1
            await w.until(lambda: still(w, other), "it stands still")
            w.runner.cancel(other)
            await w.ended(other)
            record = w.last(other).record
            assert record is not None
            assert record["exit_code"] == 3
            neighbour.cancel()
            await asyncio.gather(neighbour, return_exceptions=True)
        await serving.cleanup()

    asyncio.run(story())


def test_where_the_gateway_is(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret\n")
    environ = {"SLUICE_GATEWAY_ADMIN": "http://h:1/", "SLUICE_GATEWAY_ADMIN_TOKEN_FILE": str(tmp_path / "token")}
    assert gateway_of(environ) == ("http://h:1", "secret")
    assert gateway_of({}) == ("http://127.0.0.1:8002", None)
