"""Bounded caches and the identity of heads."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.messages import RequestedOutput
from gateway.tensors import DataType, TensorSpec
from gateway.wire.interning import LARGEST_ENTRY, Generations, HeadInterner


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 60)), max_size=300))
def test_bounds_and_truth(steps: list[tuple[int, int]]) -> None:
    cache: Generations[str] = Generations(entries=10, size=200)
    for key, size in steps:
        found = cache.get(key)
        assert found in (None, f"value {key}")
        if found is None:
            cache.put(key, f"value {key}", size)
        assert cache.get(key) == f"value {key}"
        assert len(cache) <= 10


def test_bytes_are_bounded() -> None:
    cache: Generations[int] = Generations(entries=1000, size=100)
    for number in range(1, 100):
        cache.put(number, number, 20)
    assert len(cache) <= 4


def test_what_is_in_use_survives_a_flood() -> None:
    cache: Generations[str] = Generations(entries=8)
    cache.put("used", "value")
    for number in range(100):
        cache.put(number, "flood")
        assert cache.get("used") == "value"


def test_large_entries_are_not_kept() -> None:
    cache: Generations[int] = Generations()
    cache.put("large", 1, LARGEST_ENTRY + 1)
    assert cache.get("large") is None


def test_equal_heads_are_identical_and_unequal_ones_are_not() -> None:
    interner = HeadInterner()

    def head(value: object = 1, shape: tuple[int, ...] = (1, 2), classes: int = 0) -> object:
        spec = TensorSpec("x", DataType.FP32, shape)
        outputs = (RequestedOutput("y", classes),)
        return interner.intern("m", None, (spec,), outputs, {"p": value}, {"x": {"q": value}})  # type: ignore[dict-item]

    heads = [head(), head(1.0), head(True), head("1"), head(shape=(2, 1)), head(classes=1)]
    assert len({id(h) for h in heads}) == len(heads)
    assert head() is heads[0]
    assert head(True) is heads[2]
