"""Releases with a real gateway, a real Triton and clients of both protocols: promoted, rolled back, killed, resumed.

SLUICE_RELEASES is how many equal versions are released (1 unless told otherwise; docs/releases.md has what 3 gave; with
more than one the slow version is 30 % slower, otherwise twice as slow), and
SLUICE_RELEASE_REQUESTS how many requests the share is counted over (3,000, or 10,000 with several releases; see
`benchmarks/share_error.py` for 100,000).
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.classifier import MODEL, publish
from tests.support.processes import ROOT, Gateway, fetch, read_line, until

CLIENT = ROOT / "tests" / "acceptance" / "release_client.py"
RELEASES = int(os.environ.get("SLUICE_RELEASES", "1"))
REQUESTS = int(os.environ.get("SLUICE_RELEASE_REQUESTS", "10000" if RELEASES > 1 else "3000"))
REPORT = os.environ.get("SLUICE_RELEASES_REPORT")
BUSY_MS = 4.0
SLOWER = 1.3 if RELEASES > 1 else 2.0
"""Among other programs 30 % of a few milliseconds drown: the ordinary run does not depend on a quiet machine."""
QUICK = {
    "steps": "50%,100%", "latency_quantiles": "50", "score_shift": "off", "nan_rate": "2%", "disagreement_rate": "6%",
}  # fmt: skip
"""An equal version takes thousands of requests to pass every criterion; one run in the suite does with fewer."""
ENDED = ("rolled_back", "promoted", "ended")
CRITERION = {
    "slow": ("latency",),
    "errors": ("errors", "disagreement"),
    "accuracy": ("outcomes", "disagreement"),
    "scale": ("disagreement", "scores"),
    "nan": ("nan", "disagreement"),
}


class Clients:
    """The process of `release_client.py`."""

    def __init__(self, gateway: Gateway, **call: Any) -> None:
        call = {"rest": gateway.rest, "grpc": gateway.grpc, "admin": gateway.admin, "clients": 12, **call}
        self.process = subprocess.Popen(
            [sys.executable, str(CLIENT), json.dumps(call)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert read_line(self.process, 30) == "under way"

    def mark(self, name: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"mark {name}\n".encode())
        self.process.stdin.flush()

    def finish(self) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        try:
            tally: dict[str, Any] = json.loads(read_line(self.process, 60))
            return tally
        finally:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()


class Stage:
    """A gateway with one model, and what is done to its releases over REST."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "registry"
        self.number = 1
        publish(self.root, folder, 1, busy_ms=BUSY_MS)
        self.gateway = Gateway(folder / "gateway", self.root)

    def publish(self, fault: str = "none") -> int:
        self.number += 1
        publish(self.root, self.folder, self.number, fault, BUSY_MS, slower=SLOWER)
        return self.number

    def start(self, candidate: int, **options: Any) -> str:
        body = {"model": MODEL, "candidate": candidate, "actor": "test", "watch_after": "0s", **options}
        return str(self.post("/v1/releases", body)["id"])

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(
            f"http://{self.gateway.admin}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                found: dict[str, Any] = json.loads(answer.read())
                return found
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()) from None

    def release(self, release_id: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(fetch(f"{self.gateway.admin}/v1/releases/{release_id}"))
        return found

    def ends(self, release_id: str, seconds: float = 150) -> tuple[str, str]:
        """Waits until the release is over; returns its status and why."""

        def over() -> tuple[str, str] | None:
            progress = self.release(release_id)["progress"]
            assert progress["status"] != "paused", progress["detail"]
            return (progress["status"], progress["detail"]) if progress["status"] in ENDED else None

        try:
            found: tuple[str, str] = until(over, seconds, f"{release_id} ends")
        except AssertionError as error:
            live = json.dumps(self.release(release_id).get("live"))[:4000]
            if self.release(release_id)["progress"]["status"] not in ENDED:  # the next test wants a model without one
                self.post(f"/v1/releases/{release_id}/rollback", {"actor": "test", "reason": "the test failed"})
            raise AssertionError(f"{error}\n{live}") from None
        return found

    def weights(self) -> dict[int, int]:
        """Returns what the routes in force give to each version, in basis points."""
        routes = json.loads(fetch(f"{self.gateway.admin}/v1/routes"))["routes"]
        [route] = [route for route in routes if route["model"] == MODEL]
        found: dict[int, int] = {}
        for target in route["targets"]:
            found[target["version"]] = found.get(target["version"], 0) + target["weight_bp"]
        return found

    def ask(self, key: str, **headers: str) -> str:
        """Returns the version that answers a sticky key."""
        body = {"inputs": [{"name": "X", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}
        request = urllib.request.Request(
            f"http://{self.gateway.rest}/v2/models/{MODEL}/infer",
            json.dumps(body).encode(),
            {"x-sluice-sticky-key": key, **headers},
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            return str(json.loads(answer.read())["model_version"])

    def explained(self, key: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(fetch(f"{self.gateway.admin}/v1/routes/{MODEL}/explain?sticky_key={key}"))
        return found


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    stage = Stage(tmp_path_factory.mktemp("releases"))
    yield stage
    assert stage.gateway.stop() == 0


def test_a_share_is_kept_exactly_and_a_rollback_by_hand_holds_within_a_second(stage: Stage) -> None:
    number = stage.publish()
    rule = f"header x-tester equals yes -> {number}"
    release = stage.start(number, steps="10%", judged=False, rules=[rule], shadow_share="0%")
    until(lambda: stage.weights() == {1: 9_000, number: 1_000}, 30, "the candidate has its share")
    clients = Clients(stage.gateway, exact=True)
    clients.mark("share")
    until(lambda: _routed(stage, release) >= REQUESTS, 600, "enough requests")
    for n in range(60):
        said = stage.explained(f"user-{n}")
        assert stage.ask(f"user-{n}") == str(said["version"])
    assert stage.ask("anybody", **{"x-tester": "yes"}) == str(number)
    before = time.monotonic()  # noqa: TID251
    stage.post(f"/v1/releases/{release}/rollback", {"actor": "test", "reason": "by hand"})
    until(lambda: stage.weights() == {1: 10_000}, 1.0, "the rollback is in force")
    took = time.monotonic() - before  # noqa: TID251
    clients.mark("settling")
    wait(1.0)
    clients.mark("after")
    wait(2.0)
    assert stage.ask("anybody", **{"x-tester": "yes"}) == "1"
    tally = clients.finish()
    share: dict[str, int] = tally["share"]["by_version"]
    total, hits = sum(share.values()), share[str(number)]
    spread = 3.29 * math.sqrt(total * 0.1 * 0.9)
    report("share", {"requests": total, "candidate": hits, "interval": [0.1 * total - spread, 0.1 * total + spread],
                     "rollback_s": took})  # fmt: skip
    assert abs(hits - 0.1 * total) <= spread
    assert set(tally["after"]["by_version"]) == {"1"}, "the rolled-back version gets exactly nothing"
    for phase in tally.values():
        assert (phase["failed"], phase["wrong"]) == ({}, [])


def _routed(stage: Stage, release: str) -> int:
    """Returns how many requests the release has routed."""
    return sum(arm["requests"] for arm in stage.release(release)["live"]["arms"])


@pytest.mark.parametrize("fault", list(CRITERION))
def test_a_planted_fault_is_rolled_back(stage: Stage, fault: str) -> None:
    number = stage.publish(fault)
    options: dict[str, Any] = {"steps": "50%,100%"}
    if fault in ("slow", "nan", "accuracy"):
        options["shadow_share"] = "0%"  # what copies show would be quicker than what is meant to be seen
    clients = Clients(stage.gateway, outcomes=fault == "accuracy")
    try:
        release = stage.start(number, **options)
        status, why = stage.ends(release)
        assert status == "rolled_back", why
        assert any(name in why for name in CRITERION[fault]), why
        clients.mark("settling")
        wait(0.5)
        clients.mark("after")
        wait(1.5)
    finally:
        tally = clients.finish()
    assert set(tally["after"]["by_version"]) == {"1"}
    assert tally["after"]["failed"] == {}
    seen = sum(phase["by_version"].get(str(number), 0) for phase in tally.values())
    report(fault, {"requests_that_saw_it": seen, "why": why, "seconds": tally["start"]["seconds"]})


def test_a_candidate_that_answers_nothing_is_dropped_at_once(stage: Stage) -> None:
    number = stage.publish("broken")
    clients = Clients(stage.gateway)
    try:
        status, why = stage.ends(stage.start(number, steps="5%,100%", shadow_share="0%"))
    finally:
        tally = clients.finish()
    assert (status, "in a row" in why) == ("rolled_back", True), why
    failed = sum(sum(phase["failed"].values()) for phase in tally.values())
    report("broken", {"failed_requests": failed, "why": why})
    assert failed < 200


def test_equal_versions_are_promoted(stage: Stage) -> None:
    for _ in range(RELEASES):
        number = stage.publish()
        clients = Clients(stage.gateway, exact=True)
        try:
            began = time.monotonic()  # noqa: TID251
            release = stage.start(number, **({"steps": "shadow,50%,100%"} if RELEASES > 1 else QUICK))
            status, why = stage.ends(release, 600)
            assert status == "promoted", why
            report("equal", {"seconds": time.monotonic() - began, "why": why})  # noqa: TID251
        finally:
            tally = clients.finish()
        for phase in tally.values():
            assert (phase["failed"], phase["wrong"]) == ({}, [])
        assert stage.ask("anybody") == str(number)


def test_a_gateway_that_is_killed_comes_back_to_the_same_step_and_assignment(stage: Stage) -> None:
    number, stable = stage.publish(), int(stage.ask("anybody"))
    keys = [f"user-{n}" for n in range(60)]
    weights = [500, 10_000] if RELEASES == 1 else [0, 100, 500, 2_500, 5_000, 10_000]
    steps = ",".join("shadow" if weight == 0 else f"{weight / 100:g}%" for weight in weights)
    release = stage.start(number, steps=steps, judged=False)
    for step, weight in enumerate(weights):
        expected = {stable: 10_000 - weight, number: weight} if weight else {stable: 10_000}
        until(lambda expected=expected: stage.weights() == expected, 30, f"step {step} is in force")
        before = {key: stage.ask(key) for key in keys}
        stage.gateway.process.kill()
        stage.gateway.process.wait()
        if stage.gateway.process.stdout is not None:
            stage.gateway.process.stdout.close()
        stage.gateway = Gateway(stage.folder / "gateway", stage.root)
        assert stage.weights() == expected
        assert {key: stage.ask(key) for key in keys} == before
        progress = stage.release(release)["progress"]
        assert (progress["status"], progress["step"]) == ("running", step)
        if step + 1 < len(weights):
            stage.post(f"/v1/releases/{release}/promote", {"actor": "test", "reason": "next"})
    stage.post(f"/v1/releases/{release}/rollback", {"actor": "test", "reason": "enough"})
    until(lambda: stage.weights() == {stable: 10_000}, 5, "the rollback is in force")


def report(name: str, facts: dict[str, Any]) -> None:
    """Adds a line to the report, if one is wanted."""
    if REPORT:
        with Path(REPORT).open("a") as file:
            file.write(json.dumps({name: facts}) + "\n")


def wait(seconds: float) -> None:
    """Lets the clients work for a while."""
    with pytest.raises(AssertionError):
        until(lambda: False, seconds, "never")
