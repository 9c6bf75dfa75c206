"""The shape of the load over time."""

from __future__ import annotations

import itertools

import pytest

from loadtests.phases import SHAPES, Phase, phase_at, phases


def test_the_phases_fill_the_run_without_gaps() -> None:
    plan = phases("all", 120)
    assert [phase.name for phase in plan] == list(SHAPES)
    assert plan[0].start == 0
    assert plan[-1].end == pytest.approx(120)
    for before, after in itertools.pairwise(plan):
        assert before.end == after.start


def test_one_shape_alone_is_the_whole_run() -> None:
    assert phases("soak", 30) == [Phase("soak", 0.0, 30)]
    with pytest.raises(ValueError, match="shape is"):
        phases("wave", 30)


def test_the_ramp_rises_to_all_users() -> None:
    ramp = Phase("ramp", 10, 20)
    users = [ramp.users(10 + step / 10, 20) for step in range(100)]
    assert users == sorted(users)
    assert (users[0], users[-1]) == (2, 20)


def test_the_spike_has_three_times_the_users_in_its_middle() -> None:
    spike = Phase("spike", 0, 20)
    assert [spike.users(at, 10) for at in (0, 4.9, 5, 14.9, 15)] == [10, 10, 30, 30, 10]
    assert Phase("swap", 0, 20).users(10, 10) == 10


def test_there_is_no_phase_after_the_end() -> None:
    plan = phases("all", 100)
    assert phase_at(plan, 0) is plan[0]
    assert phase_at(plan, 100.5) is None
