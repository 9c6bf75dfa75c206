"""What metrics and the access log cost: one gateway that counts and logs in every other run."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks import intervals
from benchmarks.arms import SLUICE, Arms, request
from benchmarks.loads import LoadFailed, Measured, h2load
from benchmarks.scenarios.registry import build
from benchmarks.scenarios.session import Session
from benchmarks.scenarios.switched_gateway import COUNT, SILENCE
from gateway.bench.grpc_codec import grpc_infer

_MODULE = "benchmarks.scenarios.switched_gateway"
_MODEL = "small_net"
_RUN_SECONDS, _PAIRS = 0.15, 16
"""A per cent is to be seen where single runs, long ones too, differ by eight: many pairs, and short ones."""


def run(session: Session) -> None:
    """Adds the ratio of requests/s with telemetry over requests/s without. Raises LoadFailed.

    The gateway is new and has the one model: that of the other scenarios has more to look after.
    """
    folder = session.folder / "telemetry"
    arms = Arms(folder / "gateway", build(folder / "registry", [_MODEL]), module=_MODULE)
    try:
        _compare(session, arms, folder)
    finally:
        arms.stop()


def _compare(session: Session, arms: Arms, folder: Path) -> None:
    payload = folder / "small_net.bin"
    tensors = session.tensors(_MODEL)
    payload.write_bytes(grpc_infer(_MODEL, "", tensors))
    size = arms.answer_bytes(SLUICE, _MODEL, tensors)
    rates: dict[str, list[float]] = {"on": [], "off": []}
    cpu_us: dict[str, list[float]] = {"on": [], "off": []}

    def shoot(name: str) -> tuple[Measured, float]:
        arms.process.send_signal(COUNT if name == "on" else SILENCE)
        before, used = _counted(arms), arms.watch_cpu()
        measured = session.pace.run(
            ("telemetry", name),
            _RUN_SECONDS,
            64,
            lambda requests: h2load(arms.ready["grpc"], payload, requests, 4, 16, size),
        )
        cpu, seen = used()[0], _counted(arms) - before
        if (seen < 0.999 * measured.answers) if name == "on" else seen:
            raise LoadFailed(f"telemetry {name}: {seen} of {measured.answers} requests were counted")
        return measured, cpu / measured.answers * 1e6

    for name in rates:
        shoot(name)
    pairs = _PAIRS * session.scale.pairs
    command = ""
    for pair in range(pairs):
        for name in ("on", "off") if pair % 2 == 0 else ("off", "on"):
            measured, cpu = shoot(name)
            rates[name].append(measured.rate)
            cpu_us[name].append(cpu)
            command = measured.command
        session.say(f"  telemetry {pair + 1}/{pairs}: on {rates['on'][-1]:,.0f}/s, off {rates['off'][-1]:,.0f}/s")
    session.results["ratios"]["telemetry_on_vs_off"] = intervals.ratio(rates["on"], rates["off"])
    session.results["scenarios"]["telemetry"] = {
        "requests_per_second": {name: [round(rate) for rate in values] for name, values in rates.items()},
        "cpu_on_vs_off": intervals.ratio(cpu_us["on"], cpu_us["off"]),
        "command": command,
    }


def _counted(arms: Arms) -> int:
    """Returns how many requests the gateway says it has answered."""
    found = json.loads(request(arms.ready["rest"], f"/v2/models/{_MODEL}/stats", None)[1])
    return int(found["model_stats"][0]["inference_count"])
