"""The routing benchmark runs, on the versions and the service that the gateway uses."""

from __future__ import annotations

from benchmarks import routing_cost


def test_every_case_costs_something() -> None:
    found = routing_cost.measure(rounds=1, calls=100)
    assert len(found) == 4
    assert all(value > 0 for value in found.values())
