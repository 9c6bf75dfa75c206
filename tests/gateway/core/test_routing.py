import random

import pytest

from gateway.core.routing import BUCKETS, bucket, check_route, choose
from gateway.routes import Route


def keys_by_bucket() -> dict[int, str]:
    """One key for every bucket, so that shares can be checked exactly."""
    found: dict[int, str] = {}
    n = 0
    while len(found) < BUCKETS:
        key = f"k{n}"
        found.setdefault(bucket("salt", key), key)
        n += 1
    return found


@pytest.fixture(scope="module")
def keys() -> list[str]:
    return list(keys_by_bucket().values())


@pytest.mark.parametrize("weight", [0, 1, 100, 2_500, 5_000, 9_999, 10_000])
def test_shares_are_exact_over_all_buckets(keys: list[str], weight: int) -> None:
    route = Route("m", ((1, BUCKETS - weight), (2, weight)), "salt")
    assert sum(choose(route, key) == 2 for key in keys) == weight


def test_raising_the_weight_of_the_first_target_only_adds_keys(keys: list[str]) -> None:
    before: set[str] = set()
    for weight in range(0, BUCKETS + 1, 500):
        route = Route("m", ((2, weight), (1, BUCKETS - weight)), "salt")
        now = {key for key in keys if choose(route, key) == 2}
        assert before <= now
        before = now


def test_a_decision_is_the_same_in_every_process() -> None:
    # Pinned values: a changed hash would move every caller to another version during a release.
    assert [bucket("a", key) for key in ("", "user-1", "ü", "\ud800")] == [5537, 3905, 3277, 5394]


def test_salts_are_independent() -> None:
    generator = random.Random(1)
    sample = [str(generator.random()) for _ in range(2_000)]
    both = sum(bucket("a", key) < 5_000 and bucket("b", key) < 5_000 for key in sample)
    assert 400 < both < 600


@pytest.mark.parametrize(
    "targets", [(), ((1, 9_999),), ((1, 5_000), (1, 5_000)), ((1, -1), (2, 10_001)), ((1, 20_000),)]
)
def test_bad_routes_are_refused(targets: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(ValueError, match="m"):
        check_route(Route("m", targets))


def test_good_route_passes() -> None:
    check_route(Route("m", ((1, 0), (2, 10_000))))
