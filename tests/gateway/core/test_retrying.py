import pytest

from gateway.core.retrying import RetryBudget


def test_a_budget_starts_full_and_runs_out() -> None:
    budget = RetryBudget(percent=20, burst=3)
    assert [budget.withdraw(1) for _ in range(4)] == [True, True, True, False]


def test_first_attempts_earn_repeats_at_the_given_ratio() -> None:
    budget = RetryBudget(percent=20, burst=10)
    assert budget.withdraw(10)
    budget.deposit(4)
    assert not budget.withdraw(1)
    budget.deposit(1)
    assert budget.withdraw(1)


def test_withdrawing_is_all_or_nothing_and_savings_are_capped() -> None:
    budget = RetryBudget(percent=100, burst=5)
    budget.deposit(1_000)
    assert not budget.withdraw(6)
    assert budget.available == 5
    assert budget.withdraw(5)


def test_repeats_that_succeed_are_given_back_up_to_the_cap() -> None:
    budget = RetryBudget(percent=0, burst=4)
    assert budget.withdraw(4)
    budget.refund(3)
    assert budget.available == 3
    budget.refund(100)
    assert budget.available == 4


def test_negative_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        RetryBudget(percent=-1)
