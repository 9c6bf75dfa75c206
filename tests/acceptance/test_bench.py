"""`sluice bench` in a process of its own against a real gateway with a real Triton, in every protocol."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.support.processes import ROOT, Gateway

INVALID = 4


@pytest.mark.parametrize("protocol", ["grpc", "rest_json", "rest_binary"])
def test_a_run_against_the_gateway(gateway: Gateway, protocol: str) -> None:
    address = gateway.grpc if protocol == "grpc" else gateway.rest
    command = [
        sys.executable, "-m", "gateway.cli", "bench", "--json", "--url", address, "--protocol", protocol,
        "--model", "add_sub", "--rate", "200", "--seconds", "1", "--warmup", "0.2", "--slo-ms", "10000",
        "--arrivals", "bursts", "--connections", "4", "--patience", "60",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    # A machine busy with other tests may make the run invalid; it must not make an answer wrong.
    assert done.returncode in (0, INVALID), done.stderr
    result = json.loads(done.stdout)
    assert result["valid"] == (done.returncode == 0)
    outcomes = result["outcomes"]
    assert outcomes["ok"] == sum(outcomes.values()) > 0
    assert {"generator", "server", "tritonserver"} <= set(result["cpu_us_per_request"])
