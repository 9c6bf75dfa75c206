"""What metrics and the access log cost: two gateways, one of them silent, each with its Triton, runs alternating."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from benchmarks import intervals
from benchmarks.arms import Arms
from benchmarks.loads import Measured, h2load
from benchmarks.scenarios.registry import build
from benchmarks.scenarios.session import Session
from gateway.bench.grpc_codec import grpc_infer

_SILENT = "benchmarks.scenarios.silent_gateway"
_RUN_SECONDS, _PAIRS = 0.15, 12
"""A per cent is to be seen where single runs, long ones too, differ by eight: many pairs, and short ones."""


def run(session: Session) -> None:
    """Adds the ratio of requests/s with telemetry over requests/s without. Raises LoadFailed.

    Both gateways are new and have the one model: that of the other scenarios has more to look after.
    """
    folder = session.folder / "telemetry"
    registry = build(folder / "registry", ["small_net"])
    with ExitStack() as running:
        arms = {}
        for name, module in (("on", "gateway.cli"), ("off", _SILENT)):
            settings = {} if name == "on" else {"telemetry.access_log": ""}
            arms[name] = Arms(folder / name, registry, settings, module)
            running.callback(arms[name].stop)
        _compare(session, arms, folder)


def _compare(session: Session, arms: dict[str, Arms], folder: Path) -> None:
    payload = folder / "small_net.bin"
    tensors = session.tensors("small_net")
    payload.write_bytes(grpc_infer("small_net", "", tensors))
    size = arms["on"].answer_bytes("sluice", "small_net", tensors)
    addresses = {name: one.ready["grpc"] for name, one in arms.items()}
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
