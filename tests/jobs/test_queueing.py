"""Which job starts when: priority, fair share, gaps, reservations, giving way."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.queueing import Amount, Choice, Running, Waiting, choose

WHOLE = Amount(4, 2, 1000)


def waiting(job: int, owner: str = "a", priority: int = 0, cpus: int = 1, waited_s: float = 0) -> Waiting:
    return Waiting(job, owner, priority, Amount(cpus, 0, 0), job, waited_s)


def running(job: int, owner: str = "a", priority: int = 0, cpus: int = 1, *, preemptible: bool = False,
            giving_way: bool = False) -> Running:  # fmt: skip
    return Running(job, owner, priority, Amount(cpus, 0, 0), job, preemptible, giving_way)


def chosen(*given: Waiting, busy: tuple[Running, ...] = (), usage: dict[str, float] | None = None) -> Choice:
    return choose(given, busy, WHOLE, usage or {}, reserve_after_s=100)


def test_first_come_first_served_within_one_owner() -> None:
    assert chosen(*(waiting(n) for n in (3, 1, 2))).start == (1, 2, 3)


def test_priority_goes_first() -> None:
    assert chosen(waiting(1), waiting(2, priority=1)).start == (2, 1)


def test_owners_alternate_and_who_used_less_goes_first() -> None:
    many = [waiting(n, "greedy") for n in range(1, 9)]
    assert chosen(*many, waiting(9, "modest"), waiting(10, "modest")).start == (1, 9, 2, 10)
    assert chosen(*many, waiting(9, "modest"), usage={"modest": 1000.0}).start == (1, 2, 3, 4)


def test_a_small_job_fills_a_gap_until_the_large_one_has_waited_long() -> None:
    busy = (running(1, cpus=2),)
    assert chosen(waiting(2, cpus=4), waiting(3), busy=busy).start == (3,)
    assert chosen(waiting(2, cpus=4, waited_s=100), waiting(3), busy=busy).start == ()


def test_preemptible_jobs_of_lower_priority_give_way_the_youngest_first() -> None:
    busy = (running(1, preemptible=True), running(2, preemptible=True), running(3), running(4, preemptible=True))
    assert chosen(waiting(5, priority=1, cpus=2), busy=busy) == Choice((), (4, 2))
    assert chosen(waiting(5, priority=0, cpus=2), busy=busy).preempt == ()
    assert chosen(waiting(5, priority=1, cpus=4), busy=busy).preempt == (), "it would not fit even so"


def test_only_who_is_needed_gives_way() -> None:
    busy = (running(1, cpus=3, preemptible=True), running(2, cpus=1, priority=-1, preemptible=True))
    assert chosen(waiting(3, priority=1, cpus=3), busy=busy).preempt == (1,)


def test_room_that_is_being_made_goes_to_nobody_else() -> None:
    busy = (running(1, cpus=2, preemptible=True, giving_way=True), running(2))
    assert chosen(waiting(3, priority=1, cpus=3), waiting(4), busy=busy) == Choice((), ())


jobs = st.builds(
    lambda n, owner, priority, c, g, m: Waiting(n, owner, priority, Amount(c, g, m), n, 0.0),
    st.integers(0, 10**6), st.sampled_from("abc"), st.integers(-1, 1), st.integers(1, 5), st.integers(0, 3),
    st.integers(0, 1200),
)  # fmt: skip


@settings(deadline=None)
@given(st.lists(jobs, max_size=30, unique_by=lambda one: one.job))
def test_never_more_than_there_is_and_nothing_that_fits_is_left_lying(many: list[Waiting]) -> None:
    choice = chosen(*many)
    used = sum((one.amount for one in many if one.job in choice.start), Amount(0, 0, 0))
    assert used.fits(WHOLE)
    assert len(set(choice.start)) == len(choice.start)
    rest = [one for one in many if one.job not in choice.start]
    assert not any(one.amount.fits(WHOLE - used) for one in rest)
    assert chosen(*many[::-1]) == choice
