"""What metrics and the access log cost: two gateways, one of them silent, each with its Triton, runs alternating."""

from __future__ import annotations

from pathlib import Path

from benchmarks import intervals
from benchmarks.arms import Arms
from benchmarks.loads import Measured, h2load
from benchmarks.scenarios.registry import build
from benchmarks.scenarios.session import Session
from gateway.bench.grpc_codec import grpc_infer

_SILENT = "benchmarks.scenarios.silent_gateway"
_RUN_SECONDS, _PAIRS = 0.4, 6
"""A per cent is to be seen where single runs differ by eight, long ones too: many short pairs, six times the usual."""


def run(session: Session) -> None:
    """Adds the ratio of requests/s with telemetry over requests/s without. Raises LoadFailed."""
    folder = session.folder / "silent"
    registry = build(folder / "registry", ["small_net"])
    silent = Arms(folder, registry, {"telemetry.access_log": ""}, _SILENT)
    try:
        _compare(session, silent, folder)
    finally:
        silent.stop()


def _compare(session: Session, silent: Arms, folder: Path) -> None:
    payload = folder / "small_net.bin"
    tensors = session.tensors("small_net")
    payload.write_bytes(grpc_infer("small_net", "", tensors))
    size = session.arms.answer_bytes("sluice", "small_net", tensors)
    addresses = {"on": session.arms.ready["grpc"], "off": silent.ready["grpc"]}
    rates: dict[str, list[float]] = {"on": [], "off": []}
    command = ""

    def shoot(name: str) -> Measured:
        return session.pace.run(
            ("telemetry", name),
            _RUN_SECONDS,
            64,
            lambda requests: h2load(addresses[name], payload, requests, 4, 16, size),
        )

    for name in addresses:
        shoot(name)
    pairs = _PAIRS * session.scale.pairs
    for pair in range(pairs):
        for name in ("on", "off") if pair % 2 == 0 else ("off", "on"):
            measured = shoot(name)
            rates[name].append(measured.rate)
            command = measured.command if name == "on" else command
        session.say(f"  telemetry {pair + 1}/{pairs}: on {rates['on'][-1]:,.0f}/s, off {rates['off'][-1]:,.0f}/s")
    ratio = intervals.ratio(rates["on"], rates["off"])
    session.results["ratios"]["telemetry_on_vs_off"] = ratio
    session.results["scenarios"]["telemetry"] = {
        "requests_per_second": {name: [round(rate) for rate in values] for name, values in rates.items()},
        "command": command,
    }
