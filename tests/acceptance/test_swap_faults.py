"""Swaps that go wrong: damaged files, breaking versions, gateway or Triton killed at any moment, orphans, health."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway._generated import open_inference_pb2 as pb
from tests.acceptance.bare_triton import BareTriton
from tests.acceptance.clients import grpc, rest
from tests.support.processes import Gateway, fetch, triton_statistics, until
from tests.support.versions import MODEL, publish, switch

FAST = {"registry.poll_interval_ms": 200, "registry.drain_limit_ms": 5000, "registry.orphan_age_ms": 1000}
BODY = json.dumps({"inputs": [{"name": "X", "datatype": "FP32", "shape": [1, 4], "data": [0, 0, 0, 0]}]}).encode()


class Place:
    """A registry and the gateways that were started on it, one after the other, with one work folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "registry"
        self.gateways: list[Gateway] = []
        publish(self.root, folder, 1)

    def start(self, **settings: Any) -> Gateway:
        gateway = Gateway(self.folder, self.root, {**FAST, **settings})
        self.gateways.append(gateway)
        return gateway

    def publish(self, number: int, **changes: Any) -> None:
        publish(self.root, self.folder, number, **changes)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    for gateway in place.gateways:
        gateway.stop()


def answering(gateway: Gateway) -> str:
    answer = rest(gateway.rest, f"/v2/models/{MODEL}/infer", BODY)
    if answer.status != 200:
        return f"{answer.status} {answer.message}"
    document = json.loads(answer.body)
    assert document["outputs"][0]["data"] == [int(document["model_version"])] * 4
    version: str = document["model_version"]
    return version


def serves(gateway: Gateway, number: int) -> None:
    until(lambda: answering(gateway) == str(number), 30, f"version {number} answers")


def detail(gateway: Gateway, number: int) -> str:
    """Returns what the gateway says of a version in its list of models."""
    for model in json.loads(fetch(f"{gateway.admin}/v1/models"))["models"]:
        for version in model["versions"]:
            if version["version"] == number:
                return f"{version['state']}: {version['detail']}"
    return ""


def loaded(address: str) -> set[str]:
    return set(triton_statistics(address))


def switch_to_damaged(root: Path, number: int, path: Path, content: bytes) -> None:
    """Damages a file of a version in the same moment in which the version becomes the stable one."""
    pointer = root / MODEL / "serving.json"
    document = json.loads(pointer.read_text())
    document |= {"generation": document["generation"] + 1, "stable": number}
    path.write_bytes(content)
    fresh = pointer.with_name("fresh")
    fresh.write_text(json.dumps(document))
    fresh.replace(pointer)


def test_a_damaged_version_is_refused_by_the_file_s_name_and_the_old_one_serves(place: Place) -> None:
    gateway = place.start()
    number = 1
    files = sorted(
        str(path.relative_to(place.root / MODEL / "1"))
        for path in (place.root / MODEL / "1").rglob("*")
        if path.is_file()
    )
    assert len(files) == 5
    for name in files:
        number += 1
        place.publish(number, serve=False)
        path = place.root / MODEL / str(number) / name
        content = path.read_bytes()
        switch_to_damaged(place.root, number, path, content[:-20] + bytes([content[-20] ^ 1]) + content[-19:])
        until(lambda at=number: "failed" in detail(gateway, at), 10, f"{name} is refused")
        assert name in detail(gateway, number)
        assert answering(gateway) == "1"
        assert not (Path(gateway.ready["triton_repository"]) / f"{MODEL}.v{number}").exists()
    place.publish(number + 1)
    serves(gateway, number + 1)


def test_versions_that_answer_wrongly_or_break_callers_are_refused_until_they_are_allowed(place: Place) -> None:
    gateway = place.start()
    place.publish(2, answers=7)
    until(lambda: "golden answers" in detail(gateway, 2), 20, "the wrong answers are noticed")
    assert answering(gateway) == "1"
    renamed = [{"name": "Z", "datatype": "FP32", "shape": [4]}]
    place.publish(3, inputs=renamed)
    until(lambda: "input 'X' is gone" in detail(gateway, 3), 20, "the renamed input is noticed")
    assert answering(gateway) == "1"
    assert loaded(gateway.ready["triton_http"]) == {f"{MODEL}.v1"}
    switch(place.root, 3, allow_breaking=True)
    until(lambda: "X" in answering(gateway), 20, "version 3 serves, which does not know X")
    assert '"3"' in rest(gateway.rest, f"/v2/models/{MODEL}").body.decode()


def test_a_restart_serves_without_the_registry(place: Place) -> None:
    gateway = place.start()
    assert answering(gateway) == "1"
    gateway.stop()
    place.root.rename(place.folder / "away")
    gateway = place.start()
    assert answering(gateway) == "1"
    look = json.loads(fetch(f"{gateway.admin}/v1/models"))
    assert "cannot be read" in look["notes"][0]
    assert gateway.metrics()["sluice_registry_age_seconds"] > 0
    (place.folder / "away").rename(place.root)
    place.publish(2)
    serves(gateway, 2)
    shutil.rmtree(place.root / MODEL / "2")
    until(lambda: gateway.metrics()["sluice_registry_alarms"] == 1, 10, "the loss is an alarm")
    assert answering(gateway) == "2"


@pytest.mark.parametrize("wait_for", ["LOADING", "loaded", "answers", "drained"])
def test_the_gateway_killed_at_any_step_of_a_swap(place: Place, wait_for: str) -> None:
    gateway = place.start()
    place.publish(2)
    http = gateway.ready["triton_http"]
    reached = {
        "LOADING": lambda: any(Path(gateway.ready["triton_repository"]).glob("*.v2")),
        "loaded": lambda: f"{MODEL}.v2" in loaded(http),
        "answers": lambda: answering(gateway) == "2",
        "drained": lambda: loaded(http) == {f"{MODEL}.v2"},
    }[wait_for]
    until(reached, 20, wait_for)
    os.kill(gateway.process.pid, signal.SIGKILL)
    gateway.process.wait()
    again = place.start()
    serves(again, 2)
    until(lambda: loaded(again.ready["triton_http"]) == {f"{MODEL}.v2"}, 10, "only version 2 is loaded")
    assert [path.name for path in Path(again.ready["triton_repository"]).iterdir()] == [f"{MODEL}.v2"]


def test_triton_killed_during_a_load(place: Place) -> None:
    gateway = place.start()
    place.publish(2)
    until(lambda: any(Path(gateway.ready["triton_repository"]).glob("*.v2")), 20, "version 2 is being loaded")
    state = json.loads((place.folder / "triton" / "triton.state.json").read_text())
    os.kill(state["server"][0], signal.SIGKILL)
    serves(gateway, 2)
    until(lambda: loaded(gateway.ready["triton_http"]) == {f"{MODEL}.v2"}, 20, "only version 2 is loaded")


def test_what_a_killed_gateway_left_in_a_remote_triton(place: Place) -> None:
    triton = BareTriton(place.folder / "bare")
    triton.start()
    try:
        remote = {"triton.mode": "remote", "triton.addresses": [triton.grpc], "triton.owner": "us"}
        first = place.start(**remote)
        assert answering(first) == "1"
        os.kill(first.process.pid, signal.SIGKILL)
        first.process.wait()
        place.publish(2)
        shutil.rmtree(place.folder / "triton" / "registry")  # and nobody remembers what was served
        second = place.start(**remote)
        serves(second, 2)
        until(lambda: loaded(triton.http) == {f"{MODEL}.v2.us"}, 20, "the orphan is unloaded")
    finally:
        triton.stop()


def test_gateways_that_share_a_triton_leave_each_other_alone(place: Place, tmp_path: Path) -> None:
    """Two of one registry, one of another whose version 1 is something else; all of them swap and one dies."""
    triton = BareTriton(tmp_path / "bare")
    triton.start()
    (tmp_path / "other").mkdir()
    remote = {"triton.mode": "remote", "triton.addresses": [triton.grpc], "registry.orphan_age_ms": 100}
    gateways = {}
    try:
        for name, root in (("one", place.root), ("two", place.root), ("other", tmp_path / "other" / "registry")):
            if name == "other":
                publish(root, tmp_path / "other", 1, outputs=[{"name": "W", "datatype": "FP32", "shape": [4]}])
            gateways[name] = Gateway(tmp_path / name, root, {**FAST, **remote, "triton.owner": name})
        outputs = {name: rest(one.rest, f"/v2/models/{MODEL}/infer", BODY).body for name, one in gateways.items()}
        assert [b'"W"' in body for body in outputs.values()] == [False, False, True], "nobody loaded over another"
        assert loaded(triton.http) == {f"{MODEL}.v1.{name}" for name in gateways}
        os.kill(gateways["other"].process.pid, signal.SIGSTOP)  # it sees nothing, and what it has must stay
        place.publish(2)

        def both_swapped() -> bool:
            versions = [answering(gateways[name]) for name in ("one", "two")]
            assert set(versions) <= {"1", "2"}, versions
            return loaded(triton.http) == {f"{MODEL}.v2.one", f"{MODEL}.v2.two", f"{MODEL}.v1.other"}

        until(both_swapped, 30, "each has unloaded its own version 1 and nobody else's")
        os.kill(gateways["other"].process.pid, signal.SIGCONT)
        assert answering(gateways["other"]) == "1"
        gateways["one"].stop()
        place.publish(3)
        serves(gateways["two"], 3)
        left = {f"{MODEL}.v2.one", f"{MODEL}.v3.two", f"{MODEL}.v1.other"}
        until(lambda: loaded(triton.http) == left, 10, "what the stopped one left is its own affair")
        assert answering(gateways["other"]) == "1"
    finally:
        for gateway in gateways.values():
            gateway.process.send_signal(signal.SIGCONT)
            gateway.stop()
        triton.stop()


@pytest.mark.parametrize("policy", ["availability", "resource"])
def test_readiness_is_what_an_inference_would_hear(place: Place, policy: str) -> None:
    """Asked all through a swap, in both protocols: ready before and after means answered in between."""
    gateway = place.start(**{"registry.swap_policy": policy})
    seen = set()

    def look() -> bool:
        for number in ("", "1", "2"):
            before, server = _ready(gateway, number), _server_ready(gateway)
            path = f"/v2/models/{MODEL}{f'/versions/{number}' if number else ''}/infer"
            status = rest(gateway.rest, path, BODY).status
            after = _ready(gateway, number)
            if before == after:
                assert (status == 200) == before[0], (number, before, status)
                assert before[0] == before[1], "both protocols say the same"
                seen.add((number, before[0]))
            if number == "" and before == after and server == _server_ready(gateway):
                assert server == before, "the gateway is ready when its one model is"
        assert rest(gateway.rest, "/v2/health/live").status == 200
        assert grpc(gateway.grpc, "ServerLive", b"").body == b"\x08\x01"
        return ("1", False) in seen and ("2", True) in seen

    assert not look()
    place.publish(2)
    until(look, 20, "version 2 took over")
    assert {("", True), ("1", True), ("1", False), ("2", False), ("2", True)} <= seen
    assert (("", False) in seen) == (policy == "resource"), "only then is the model away in between"


def _server_ready(gateway: Gateway) -> tuple[bool, bool]:
    answer = grpc(gateway.grpc, "ServerReady", b"")
    return rest(gateway.rest, "/v2/health/ready").status == 200, answer.status == 0 and answer.body == b"\x08\x01"


def _ready(gateway: Gateway, number: str) -> tuple[bool, bool]:
    path = f"/v2/models/{MODEL}{f'/versions/{number}' if number else ''}/ready"
    answer = grpc(gateway.grpc, "ModelReady", pb.ModelReadyRequest(name=MODEL, version=number).SerializeToString())
    return rest(gateway.rest, path).status == 200, answer.status == 0 and answer.body == b"\x08\x01"
