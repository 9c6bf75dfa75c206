"""Two gateways, each with its own Triton, of one registry: a release means the same in both, and ends in both."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.test_releases import CRITERION, Clients, Stage
from tests.support.processes import Gateway, until

KEYS = [f"user-{number}" for number in range(60)]


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stage, Stage]]:
    """The same stage seen through either gateway."""
    folder: Path = tmp_path_factory.mktemp("two")
    one = Stage(folder)
    two = copy.copy(one)
    try:
        two.gateway = Gateway(folder / "other", one.root)
        yield one, two
        assert two.gateway.stop() == 0
    finally:
        assert one.gateway.stop() == 0


def test_a_release_assigns_alike_in_both_and_a_rollback_in_one_holds_in_the_other_within_a_second(
    stages: tuple[Stage, Stage],
) -> None:
    one, two = stages
    number = one.publish()
    release = one.start(number, steps="50%", judged=False, shadow_share="0%")
    shares = {1: 5_000, number: 5_000}
    until(lambda: one.weights() == two.weights() == shares, 30, "the candidate has its share in both")
    assigned = [one.ask(key) for key in KEYS]
    assert set(assigned) == {"1", str(number)}
    assert [two.ask(key) for key in KEYS] == assigned
    one.post(f"/v1/releases/{release}/rollback", {"actor": "test", "reason": "by hand"})
    until(lambda: two.weights() == {1: 10_000}, 1.0, "the rollback is in force in the other gateway")
    assert {two.ask(key) for key in KEYS} == {one.ask(key) for key in KEYS} == {"1"}


def test_what_one_gateway_sees_ends_the_release_in_both(stages: tuple[Stage, Stage]) -> None:
    one, two = stages
    number = one.publish("nan")
    release = one.start(number, steps="50%,100%", shadow_share="0%")
    until(lambda: two.weights().get(number) == 5_000, 30, "the candidate has its share in both")
    clients = Clients(two.gateway)
    try:
        status, why = one.ends(release)
        until(lambda: one.weights() == two.weights() == {1: 10_000}, 1.0, "the rollback is in force in both")
    finally:
        tally = clients.finish()
    assert status == "rolled_back", why
    assert any(name in why for name in CRITERION["nan"]), why
    assert all(phase["failed"] == {} for phase in tally.values())
