"""Two Tritons behind one gateway: a version's traffic goes only where that version is ready, whichever way it swaps."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.bare_triton import BareTriton
from tests.acceptance.test_swaps import SwapClient, serves
from tests.support.processes import Gateway, fetch, triton_statistics, until
from tests.support.versions import MODEL, publish

OWNER = "pair"


@pytest.fixture(scope="module")
def tritons(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[BareTriton]]:
    pair = [BareTriton(tmp_path_factory.mktemp(name)) for name in ("left", "right")]
    for triton in pair:
        triton.start()
    yield pair
    for triton in pair:
        triton.stop()


def statistics(triton: BareTriton) -> dict[str, tuple[int, int]]:
    """Returns executed and failed requests by what is loaded there."""
    stats = triton_statistics(triton.http)
    return {name: (found["success"]["count"], found["fail"]["count"]) for name, found in stats.items()}


@pytest.mark.parametrize("policy", ["availability", "resource"])
def test_swaps_on_two_tritons_lose_nothing(tritons: list[BareTriton], tmp_path: Path, policy: str) -> None:
    root = tmp_path / "registry"
    publish(root, tmp_path, 1)
    settings = {
        "triton.mode": "remote",
        "triton.addresses": [triton.grpc for triton in tritons],
        "triton.owner": f"{OWNER}-{policy}",
        "registry.swap_policy": policy,
        "registry.poll_interval_ms": 200,
        "registry.orphan_age_ms": 500,
    }
    gateway = Gateway(tmp_path, root, settings)
    try:
        everywhere(tritons, f"{MODEL}.v1.{OWNER}-{policy}")
        clients = SwapClient(gateway, clients=6, rate=150)
        for number in (2, 3):
            publish(root, tmp_path, number)
            serves(gateway, number)
            # Both have it and nothing else of ours, and both get traffic.
            everywhere(tritons, f"{MODEL}.v{number}.{OWNER}-{policy}")
        tally = clients.finish()
        assert (tally["errors"], tally["lost"], tally["wrong"], tally["refused"]) == ({}, [], [], 0)
        assert tally["back"] == 0
        assert all(failed == 0 for triton in tritons for _, failed in statistics(triton).values())
        if policy == "resource":
            return
        tritons[1].stop(signal.SIGKILL)
        until(lambda: loaded_here(gateway) == 1, 20, "the dead one is noticed")
        publish(root, tmp_path, 4)
        serves(gateway, 4)
        tritons[1].start()
        everywhere(tritons, f"{MODEL}.v4.{OWNER}-{policy}")
        until(lambda: loaded_here(gateway) == 2, 20, "the one that came back takes part")
        serves(gateway, 4)
    finally:
        gateway.stop()


def everywhere(tritons: list[BareTriton], name: str) -> None:
    """Waits until every Triton has that and nothing else of its owner."""
    owner = name.rpartition(".")[2]

    def only() -> bool:
        return all({other for other in statistics(one) if other.endswith(owner)} == {name} for one in tritons)

    until(only, 30, f"both Tritons have {name} and nothing else")


def loaded_here(gateway: Gateway) -> int:
    """Returns on how many Tritons the gateway has the version that serves."""
    replicas = json.loads(fetch(f"{gateway.admin}/v1/models"))["replicas"]
    return sum(bool(replica["versions"]) for replica in replicas)
