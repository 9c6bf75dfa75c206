"""Looks at the registry again and again, and keeps what it said last.

Level-triggered: each look gives the complete set, so a lost or repeated one changes nothing. Invariants: a look that
fails changes nothing; looks never overlap; the pause between them is spread at random, so that many gateways do not
come all at once.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping

from gateway.engine.clock import pause
from gateway.engine.earliest_timer import EarliestTimer
from gateway.errors import GatewayError
from gateway.messages import Instant, Nanos
from gateway.ports import Clock, RegistrySource

_log = logging.getLogger("sluice.registry")
_SECOND: Nanos = 1_000_000_000
_PATIENCE: Nanos = 10 * _SECOND
_SPREAD = 0.1
_HURRIED_S = 0.25
_LEAST_S = 0.1
_REST = 4


class SourceWatch:
    """Owns the last good answer of a `RegistrySource`. `on_look` is called after every look that gave one."""

    def __init__(
        self,
        source: RegistrySource,
        clock: Clock,
        rng: random.Random,
        interval_seconds: float,
        last_known: Mapping[str, tuple[int, ...]],
    ) -> None:
        """`last_known` is what holds until the first look succeeds."""
        self._source = source
        self._clock = clock
        self._rng = rng
        self._interval = interval_seconds
        self._asked = asyncio.Event()
        self.on_look: Callable[[], None] = lambda: None
        self.hurried: Callable[[], bool] = lambda: False
        """Whether what others decide must be known here within a fraction of a second."""
        self.desired: Mapping[str, tuple[int, ...]] = dict(last_known)
        self.error: str | None = None
        self.seen_at: Instant | None = None
        self._began = clock.now()
        self._since: Instant | None = None
        """When the look that is under way began."""
        self._timer = EarliestTimer(clock, self._silent)

    def age(self) -> float:
        """Returns the seconds since the registry was last read, or since the start if it never was."""
        return (self._clock.now() - (self.seen_at or self._began)) / 1e9

    def look_now(self) -> None:
        """Asks for a look without waiting for its time. Only a hint: many are one, and some time lies between looks."""
        self._asked.set()

    async def run(self) -> None:
        """Looks until cancelled."""
        while True:
            began = self._clock.now()
            await self.look()
            hurried = self.hurried()
            interval = min(self._interval, _HURRIED_S) if hurried else self._interval
            wait = interval * self._rng.uniform(1 - _SPREAD, 1 + _SPREAD)
            # However many ask: most of the time nobody looks, unless there is a hurry.
            least = min(wait, _LEAST_S if hurried else max(_LEAST_S, _REST * (self._clock.now() - began) / 1e9))
            await pause(least)
            try:
                async with asyncio.timeout(wait - least):
                    await self._asked.wait()
            except TimeoutError:
                pass
            self._asked.clear()

    async def look(self) -> None:
        """Looks once; never raises. A look that hangs is said to, and still waited for: its answer counts."""
        self._since = self._clock.now()
        self._timer.arm(self._since + _PATIENCE)
        try:
            desired = await self._source.desired()
        except (GatewayError, ValueError, OSError) as error:
            self._failed(str(error))
            return
        except Exception as error:
            _log.exception("reading the registry")
            self._failed(f"internal error: {error}")
            return
        finally:
            self._since = None
        if self.error is not None:
            _log.info("the registry can be read again")
        self.error, self.seen_at = None, self._clock.now()
        self.desired = desired
        try:
            self.on_look()
        except Exception:
            _log.exception("what the registry says was read and could not be taken over")

    def _silent(self) -> None:
        """The timer's call, which may be about a look that is long over."""
        if self._since is None:
            return
        if self._clock.now() - self._since < _PATIENCE:
            self._timer.arm(self._since + _PATIENCE)
        else:
            self._failed(f"the registry has not answered for {_PATIENCE // _SECOND} s")

    def _failed(self, reason: str) -> None:
        if self.error != reason:
            _log.error("%s; serving the last good state", reason)
        self.error = reason
