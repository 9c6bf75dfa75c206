"""Good neighbours: jobs with `yield_to = "gateway"` are paused while the gateway has requests, and go on afterwards.

Decides when: a request in the gateway, or one answered since the last look, is pressure; without any for `_QUIET_S`
the jobs go on. A gateway that does not answer wants nothing. A pause is SIGSTOP to all processes of the job but its
keeper, so nothing is lost and the program knows nothing of it; memory stays. Level-triggered: every look says stop or
go again, so a runner that died leaves a pause only until the next one looks. A job that is told to end is not paused.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Mapping

import aiohttp

from jobs import clock, contract, files, processes
from jobs.runner import Runner
from jobs.state_folder import StateFolder
from jobs.store import Attempt

GATEWAY, TOKEN_FILE = "SLUICE_GATEWAY_ADMIN", "SLUICE_GATEWAY_ADMIN_TOKEN_FILE"
_DEFAULT = "http://127.0.0.1:8002"
_LOOK_S, _IDLE_S, _QUIET_S, _ANSWER_S = 0.1, 1.0, 2.0, 1.0
_log = logging.getLogger("sluice.jobs")


def gateway_of(environ: Mapping[str, str]) -> tuple[str, str | None]:
    """Returns the address of the gateway's admin listener and its token, if one is named."""
    token = None
    if named := environ.get(TOKEN_FILE):
        with contextlib.suppress(OSError), open(named, encoding="utf-8") as file:
            token = file.read().strip()
    return environ.get(GATEWAY, _DEFAULT).rstrip("/"), token


class Neighbour:
    """Owns what is known of the gateway's pressure, and which jobs are paused."""

    def __init__(self, runner: Runner, state: StateFolder, gateway: tuple[str, str | None]) -> None:
        self._runner = runner
        self._state = state
        self._address, token = gateway
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._requests: int | None = None
        self._pressed_at = -_QUIET_S
        self._paused = False

    async def run(self) -> None:
        """Looks until it is cancelled; then everything goes on."""
        timeout = aiohttp.ClientTimeout(total=_ANSWER_S)
        try:
            async with aiohttp.ClientSession(timeout=timeout, headers=self._headers) as session:
                while True:
                    attempts = self._runner.yielding()
                    if attempts:
                        await self._look(session, attempts)
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(_LOOK_S if attempts else _IDLE_S):
                            await self._runner.change()
        finally:
            for attempt in self._runner.yielding():
                self._tell(attempt, signal.SIGCONT)

    async def _look(self, session: aiohttp.ClientSession, attempts: list[Attempt]) -> None:
        if await self._pressure(session):
            self._pressed_at = clock.now()
        paused = clock.now() - self._pressed_at < _QUIET_S
        if paused != self._paused:
            _log.info("jobs that yield to the gateway %s", "pause" if paused else "go on")
        self._paused = paused
        for attempt in attempts:
            told = (self._state.attempt(attempt.job, attempt.number) / contract.STOP).exists()
            self._tell(attempt, signal.SIGSTOP if paused and not told else signal.SIGCONT)

    async def _pressure(self, session: aiohttp.ClientSession) -> bool:
        try:
            async with session.get(f"{self._address}/v1/pressure") as response:
                found = await response.json() if response.status == 200 else {}
            requests, here = int(found["requests"]), int(found["requests_in_flight"])
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError, TypeError):
            self._requests = None
            return False
        before, self._requests = self._requests, requests
        return here > 0 or (before is not None and requests > before)

    def _tell(self, attempt: Attempt, what: signal.Signals) -> None:
        claim = files.read_json(self._state.attempt(attempt.job, attempt.number) / contract.CLAIM)
        if claim and claim.get("boot") == processes.boot() and processes.is_running(claim["pid"], claim["start"]):
            pids = [pid for pid in processes.children_of(claim["pid"]) if pid != os.getpid()]
            processes.send(pids, what)
