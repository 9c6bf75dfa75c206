"""The shape of the load: phases one after the other, and how many users there are at any instant. Pure."""

from __future__ import annotations

from dataclasses import dataclass

RAMP, SOAK, SPIKE, CANARY, SWAP = "ramp", "soak", "spike", "canary", "swap"
SHAPES = (RAMP, SOAK, SPIKE, CANARY, SWAP)
_SHARES = {RAMP: 0.25, SOAK: 0.25, SPIKE: 0.15, CANARY: 0.175, SWAP: 0.175}
_SPIKE_FACTOR = 3
_RAMP_STEPS = 10


@dataclass(frozen=True, slots=True)
class Phase:
    """One part of a run, in seconds from its start; `swap` and `canary` are steady load while versions change."""

    name: str
    start: float
    end: float

    def users(self, at: float, users: int) -> int:
        """Returns how many users there are `at` seconds into the run, `users` being the steady number."""
        done = (at - self.start) / (self.end - self.start)
        if self.name == RAMP:
            return max(1, round(users * min(1.0, (int(done * _RAMP_STEPS) + 1) / _RAMP_STEPS)))
        if self.name == SPIKE:
            return users * _SPIKE_FACTOR if 0.25 <= done < 0.75 else users
        return users


def phases(shape: str, seconds: float) -> list[Phase]:
    """Returns the phases of a run: all of SHAPES with "all", else that one alone. Raises ValueError."""
    if shape != "all":
        if shape not in SHAPES:
            raise ValueError(f"shape is all, {', '.join(SHAPES)}; not {shape!r}")
        return [Phase(shape, 0.0, seconds)]
    found, start = [], 0.0
    for name in SHAPES:
        end = start + _SHARES[name] * seconds
        found.append(Phase(name, start, end))
        start = end
    return found


def phase_at(plan: list[Phase], at: float) -> Phase | None:
    """Returns the phase of an instant, None after the end."""
    return next((phase for phase in plan if phase.start <= at < phase.end), None)
