"""Versions change under load and nothing is lost: real gateway, real Triton, clients of every protocol.

SLUICE_SWAPS is how many swaps there are (20 unless told otherwise; docs/versions.md has what 100 gave).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.acceptance.swap_client import PROTOCOLS
from tests.support.processes import ROOT, Gateway, fetch, read_line, triton_statistics, until
from tests.support.versions import MODEL, publish

SWAPS = int(os.environ.get("SLUICE_SWAPS", "20"))
CLIENT = ROOT / "tests" / "acceptance" / "swap_client.py"
REPORT = os.environ.get("SLUICE_SWAPS_REPORT")


class Addresses(Protocol):
    """Whom clients may ask."""

    @property
    def rest(self) -> str: ...

    @property
    def grpc(self) -> str: ...


class SwapClient:
    """The process of `swap_client.py`."""

    def __init__(
        self, server: Addresses, clients: int = 16, rate: int = 500, protocols: Sequence[str] = PROTOCOLS
    ) -> None:
        call = {
            "rest": server.rest, "grpc": server.grpc, "clients": clients, "rate": rate, "protocols": list(protocols),
        }  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, str(CLIENT), json.dumps(call)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert read_line(self.process, 30) == "under way"

    def phase(self, name: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(name.encode() + b"\n")
        self.process.stdin.flush()

    def finish(self) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        try:
            tally: dict[str, Any] = json.loads(read_line(self.process, 30))
            self.process.wait(10)
            return tally
        finally:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()


def answering(gateway: Gateway) -> str:
    """Returns the version that answers a request which names none."""
    body = json.dumps({"inputs": [{"name": "X", "datatype": "FP32", "shape": [1, 4], "data": [0, 0, 0, 0]}]})
    answer = json.loads(fetch(f"{gateway.rest}/v2/models/{MODEL}/infer", body.encode()))
    assert answer["outputs"][0]["data"] == [int(answer["model_version"])] * 4
    version: str = answer["model_version"]
    return version


def serves(gateway: Gateway, number: int, seconds: float = 20) -> None:
    until(lambda: answering(gateway) == str(number), seconds, f"version {number} answers")


def loaded(gateway: Gateway) -> set[str]:
    """Returns what the gateway's own Triton has loaded."""
    return set(triton_statistics(gateway.ready["triton_http"]))


def memory(gateway: Gateway) -> int:
    """Returns the gateway's resident memory in KiB."""
    lines = Path(f"/proc/{gateway.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    publish(tmp_path / "registry", tmp_path, 1)
    return tmp_path / "registry"


@pytest.fixture
def gateway(tmp_path: Path, registry: Path) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path, registry, {"registry.drain_limit_ms": 5000})
    try:
        yield gateway
    finally:
        gateway.stop()


def test_swaps_under_load_lose_nothing(gateway: Gateway, registry: Path, tmp_path: Path) -> None:
    serves(gateway, 1)
    clients = SwapClient(gateway)
    clients.phase("before")
    wait(15 if REPORT else 3)
    clients.phase("swaps")
    changed, memories = {}, []
    for number in range(2, SWAPS + 2):
        publish(registry, tmp_path, number)
        changed[number] = time.monotonic()  # noqa: TID251
        serves(gateway, number)
        memories.append(memory(gateway))
        if REPORT:  # what is measured beside swaps must be measured at the same time: other programs come and go
            clients.phase("between")
            wait(1)
            clients.phase("swaps")
    clients.phase("after")
    tally = clients.finish()
    delays = sorted(tally["first"][str(number)] - at for number, at in changed.items())
    if REPORT:
        facts = {
            "memory_kib": memories[:: max(1, SWAPS // 10)],
            "delay_s": [delays[0], delays[len(delays) // 2], delays[-1]],
        }
        Path(REPORT).write_text(json.dumps({**tally, "first": None, **facts}, indent=1))
    assert (tally["errors"], tally["lost"], tally["wrong"], tally["refused"]) == ({}, [], [], 0)
    assert tally["right"] == tally["sent"] > 100 * SWAPS
    assert tally["back"] == 0, "a client was answered by an older version after a newer one"
    assert memories[-1] - memories[SWAPS // 4] < 20 * SWAPS + 1500, f"the gateway's memory grows: {memories} KiB"
    last = SWAPS + 1
    until(lambda: loaded(gateway) == {f"{MODEL}.v{last}"}, 10, "Triton has only the last version")
    # Triton says a version is gone a moment before the gateway has heard that its unload is done.
    kept = min(6, last)
    until(lambda: len(series(gateway)) == kept, 10, "the series of all but the latest retired versions are gone")


def series(gateway: Gateway) -> set[str]:
    """Returns the gateway's series of versions' states, one a version it still tells of."""
    return {name for name in gateway.metrics() if name.startswith("sluice_version_state{")}


def wait(seconds: float) -> None:
    """Lets the clients work for a while."""
    with pytest.raises(AssertionError):
        until(lambda: False, seconds, "never")
