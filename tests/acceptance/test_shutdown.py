"""SIGTERM under load: readiness first, nothing accepted is lost, the door closes, exit status 0."""

from __future__ import annotations

import asyncio
import http.client
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from gateway._generated.open_inference_pb2 import ModelInferRequest
from gateway.transport.http2 import Http2Client
from tests.acceptance.clients import SERVICE, Answer, call, framed, grpc_head
from tests.support.processes import Gateway, LoadClient, alive, descendants, fetch, until

INFER = grpc_head(SERVICE + "ModelInfer")


def beside(gateway: Gateway, folder: Path, **more: Any) -> Gateway:
    """A gateway of its own in front of the same Triton: it starts in a moment."""
    address = {"triton.mode": "remote", "triton.source": "triton", "triton.addresses": [gateway.ready["triton_grpc"]]}
    return Gateway(folder, None, {**address, **more})


def slow(milliseconds: int) -> bytes:
    message = ModelInferRequest(model_name="faulty.v1")
    message.inputs.add(name="X", datatype="FP32", shape=[1, 1]).contents.fp32_contents.append(1000 + milliseconds)
    return framed(message.SerializeToString())


def refuses(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), 5).close()
    except (ConnectionRefusedError, ConnectionResetError):  # the latter where the door closes at that very moment
        return True
    return False


@pytest.mark.parametrize("round_", range(3))
def test_nothing_accepted_is_lost(gateway: Gateway, tmp_path: Path, round_: int) -> None:
    """Many clients of all protocols, busy and idle between requests; they reconnect when told and are then refused."""
    leaving = beside(gateway, tmp_path)
    busy = LoadClient(leaving, clients=9, models=["add_sub"], suffix=".v1", until_refused=True, seed=round_)
    calm = LoadClient(leaving, clients=9, models=["add_sub"], suffix=".v1", until_refused=True, pace_ms=20 + round_)
    leaving.process.send_signal(signal.SIGTERM)
    tallies = [busy.report(), calm.report()]
    assert leaving.process.wait(30) == 0
    leaving.stop()
    for tally in tallies:
        assert (tally["wrong"], tally["lost"], tally["errors"]) == ([], [], {})
        assert tally["right"] > 0
        assert tally["right"] + tally["refused"] == tally["sent"]


def test_the_whole_gateway_goes_in_order(tmp_path: Path, registry: Path) -> None:
    """With its own Triton: readiness says no while requests are still taken, then the door closes, then all ends."""
    leaving = Gateway(tmp_path, registry, {"server.drain_delay_ms": 1000})
    below = descendants(leaving.process.pid)
    load = LoadClient(leaving, clients=6, models=["add_sub", "identity"], until_refused=True, pace_ms=2)
    probe = http.client.HTTPConnection(leaving.rest, timeout=10)

    def status(path: str) -> int:
        probe.request("GET", path)
        answer = probe.getresponse()
        answer.read()
        return answer.status

    assert status("/v2/health/ready") == 200
    leaving.process.send_signal(signal.SIGTERM)
    until(lambda: status("/v2/health/ready") == 503, 5, "readiness says no")
    assert not refuses(leaving.rest), "the door closed before readiness could be seen"
    assert not refuses(leaving.grpc)
    with pytest.raises(OSError, match="503"):
        fetch(f"{leaving.admin}/readyz")
    probe.close()
    until(lambda: refuses(leaving.rest) and refuses(leaving.grpc), 10, "new connections are refused")
    tally = load.report()
    assert (tally["wrong"], tally["lost"], tally["errors"]) == ([], [], {})
    assert tally["right"] > 0
    assert leaving.process.wait(30) == 0
    leaving.stop()
    assert not [pid for pid in below if alive(pid)]


def test_requests_under_way_are_answered_and_the_grace_ends(gateway: Gateway, tmp_path: Path) -> None:
    """One request needs 600 ms when SIGTERM comes: it is answered, on both protocols, before the connections close."""
    leaving = beside(gateway, tmp_path)

    async def ask() -> tuple[Answer, bool]:
        client = Http2Client()
        host, _, port = leaving.grpc.rpartition(":")
        await client.connect(host, int(port))
        asked = asyncio.ensure_future(call(client, INFER, slow(600)))  # noqa: TID251
        await call(client, grpc_head(SERVICE + "ServerLive"), framed(b""))
        leaving.process.send_signal(signal.SIGTERM)
        answer = await asked
        return answer, client.available

    answer, available = asyncio.run(ask())
    assert answer.status == 0, answer
    assert not available, "the peer was not told that the connection ends"
    assert leaving.process.wait(30) == 0
    leaving.stop()


def test_a_second_signal_hurries(gateway: Gateway, tmp_path: Path) -> None:
    """A drain of many minutes ends at once, and the exit status is 0 all the same."""
    leaving = beside(gateway, tmp_path, **{"server.drain_delay_ms": 600_000})
    leaving.process.send_signal(signal.SIGTERM)
    with pytest.raises(OSError, match="503"):
        until(lambda: fetch(f"{leaving.rest}/v2/health/ready") is None, 10, "readiness says no")
    leaving.process.send_signal(signal.SIGTERM)
    assert leaving.process.wait(20) == 0
    leaving.stop()
