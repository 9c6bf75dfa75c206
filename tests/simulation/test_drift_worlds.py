"""Drift in seeded worlds: calibrated as `sluice quantize` does it, watched as the gateway does it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gateway.core.drift import CHUNK_ROWS, CHUNKS, InputWindow, index_by_chance, stability_index
from gateway.engine.input_watch import MOST_INPUTS, InputWatch
from gateway.messages import InferRequest, RequestHead
from gateway.tensors import DATATYPES, TensorSpec
from gateway.versions import ElementHistogram, InputDrift, InputStatistics
from quantize.data_checks import InputStatistics as Calibrated
from quantize.input_sketch import live_statistics

Draw = Callable[[np.random.Generator, int], NDArray[Any]]


class Spec:
    """What `live_statistics` asks of a tensor."""

    def __init__(self, array: NDArray[Any]) -> None:
        self.name, self.dtype, self.dims = "x", array.dtype, (None, *array.shape[1:])


def calibrated(rows: NDArray[Any], vocabulary: int | None = None) -> InputStatistics:
    found = Calibrated()
    found.add(rows)
    sizes = {} if vocabulary is None else {"x": vocabulary}
    one = live_statistics({"x": found}, [Spec(rows)], sizes)["x"]  # type: ignore[list-item]
    histogram, *columns = (
        ElementHistogram(tuple(h["edges"]), tuple(h["shares"])) for h in (one["histogram"], *one.get("columns", ()))
    )
    return InputStatistics("x", histogram, one["rows"], one["min"], one["max"], one.get("vocabulary"), tuple(columns))


def request(rows: NDArray[Any]) -> InferRequest:
    kind = {"float32": "FP32", "float64": "FP64", "int64": "INT64", "uint8": "UINT8"}[rows.dtype.name]
    spec = TensorSpec("x", DATATYPES[kind], rows.shape)
    return InferRequest(RequestHead("m", None, (spec,)), "", [rows.tobytes()])


def watched(statistics: InputStatistics, draw: Draw, seed: int, requests: int = 600, rows: int = 2) -> InputDrift:
    rng = np.random.default_rng(seed)
    watch = InputWatch([statistics], every=1)
    for _ in range(requests):
        watch.seen(request(draw(rng, rows)))
    return watch.drift()[0]


def pictures(rng: np.random.Generator, rows: int) -> NDArray[np.float32]:
    """Each with a brightness and a contrast of its own, as pictures have: elements of a row are not independent."""
    light, contrast = rng.normal(0, 0.5, (rows, 1, 1, 1)), rng.uniform(0.5, 1.5, (rows, 1, 1, 1))
    return (light + contrast * rng.normal(size=(rows, 3, 16, 16))).astype(np.float32)


def texts(rng: np.random.Generator, rows: int) -> NDArray[np.int64]:
    """Frequent ids are small (Zipf), padding is 0."""
    ids = np.minimum(rng.zipf(1.3, (rows, 32)), 999)
    return np.where(np.arange(32) < rng.integers(8, 32, (rows, 1)), ids, 0)


def table(rng: np.random.Generator, rows: int) -> NDArray[np.float64]:
    return np.concatenate(
        [rng.normal(40, 10, (rows, 1)), rng.lognormal(0, 2, (rows, 2)) * (rng.random((rows, 2)) < 0.1)], 1
    )


def grey(rng: np.random.Generator, rows: int) -> NDArray[np.uint8]:
    """Half of every picture is black."""
    found = rng.integers(1, 256, (rows, 28, 28))
    found[:, :14] = 0
    return found.astype(np.uint8)


KINDS: tuple[tuple[Draw, int | None], ...] = ((pictures, None), (texts, 1000), (table, None), (grey, None))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("draw", "vocabulary"), KINDS)
def test_the_same_distribution_is_about_what_chance_gives(draw: Draw, vocabulary: int | None, seed: int) -> None:
    statistics = calibrated(draw(np.random.default_rng(1000 + seed), 256), vocabulary)
    drift = watched(statistics, draw, seed)
    assert drift.psi is not None
    assert drift.psi - drift.by_chance < 0.1
    assert drift.not_finite == 0
    assert drift.out_of_range / drift.elements < 0.01


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("draw", "vocabulary", "change"),
    [
        (pictures, None, lambda x: x + 1),
        (pictures, None, lambda x: x / 2.5),
        (pictures, None, lambda x: x * 255),
        (pictures, None, lambda x: np.clip(x, -0.3, 0.3)),
        (texts, 1000, lambda x: np.where(x > 0, (x + 300) % 1000, 0)),
        (table, None, lambda x: x * 0.8),
        (grey, None, lambda x: 255 - x),
        (grey, None, lambda x: (x // 16).astype(np.uint8)),
    ],
)
def test_changed_inputs_are_far_above(
    draw: Draw, vocabulary: int | None, change: Callable[[Any], Any], seed: int
) -> None:
    statistics = calibrated(draw(np.random.default_rng(1000 + seed), 256), vocabulary)
    drift = watched(statistics, lambda rng, rows: change(draw(rng, rows)), seed)
    assert drift.psi is not None
    assert drift.psi - drift.by_chance > 0.25


@pytest.mark.parametrize("place", range(3))
def test_one_column_that_changed_is_found_among_others(place: int) -> None:
    """The columns' scales differ by orders of magnitude: in a common histogram the small ones could not be seen."""

    def rows(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
        return rng.normal(size=(count, 3)) * (1, 1000, 0.01) + (5, 0, 0.1)

    statistics = calibrated(rows(np.random.default_rng(0), 512))
    assert len(statistics.columns) == 3
    change = np.array((1.5, 1500, 0.015)) * (np.arange(3) == place)
    drift = watched(statistics, lambda rng, count: rows(rng, count) + change, 1)
    assert drift.psi is not None
    assert drift.psi - drift.by_chance > 0.25
    assert drift.column == place
    still = watched(statistics, rows, 1)
    assert still.psi is not None
    assert still.psi - still.by_chance < 0.1


def test_the_window_forgets() -> None:
    statistics = calibrated(pictures(np.random.default_rng(1), 256))
    rng, watch = np.random.default_rng(2), InputWatch([statistics], every=1)
    seen: list[float] = []
    for part in (0.0, 2.0, 0.0):
        for _ in range(CHUNK_ROWS * CHUNKS):
            watch.seen(request(pictures(rng, 1) + np.float32(part)))
        drift = watch.drift()[0]
        assert drift.psi is not None
        assert drift.window_rows <= CHUNK_ROWS * CHUNKS
        seen.append(drift.psi)
    assert seen[1] > 1 > 0.1 > max(seen[0], seen[2])
    assert drift.rows == 3 * CHUNK_ROWS * CHUNKS


def test_one_request_in_so_many_is_looked_at() -> None:
    statistics = calibrated(pictures(np.random.default_rng(1), 64))
    watch, one = InputWatch([statistics], every=16), request(pictures(np.random.default_rng(2), 3))
    for _ in range(160):
        watch.seen(one)
    drift = watch.drift()[0]
    assert drift.rows == 10
    assert drift.psi is None, "too few to say"


def test_what_is_not_finite_or_out_of_range_is_counted_and_in_no_bin() -> None:
    statistics = calibrated(np.linspace(-1, 1, 640, dtype=np.float32).reshape(64, 10))
    window = InputWindow(statistics)
    window.add(np.array([0.0, np.nan, np.inf, -np.inf, 7.0, -1.0], np.float32))
    drift = window.drift()
    assert (drift.elements, drift.not_finite, drift.out_of_range) == (6, 3, 1)
    ids = InputWindow(calibrated(np.arange(640).reshape(64, 10), vocabulary=640))
    ids.add(np.array([0, 639, 640, -1]))
    assert ids.drift().out_of_range == 2


def test_a_window_of_nothing_but_nan_says_nothing_of_drift() -> None:
    window = InputWindow(calibrated(np.arange(640.0).reshape(64, 10)))
    for _ in range(CHUNK_ROWS * 2):
        window.add(np.full(10, np.nan))
    drift = window.drift()
    assert drift.psi is None
    assert drift.not_finite == drift.elements == CHUNK_ROWS * 20


def test_constant_inputs_that_change_are_seen() -> None:
    statistics = calibrated(np.ones((64, 8), np.int64))
    for value, far in ((1, False), (0, True), (2, True)):
        drift = watched(statistics, lambda rng, rows, v=value: np.full((rows, 8), v), 0)  # type: ignore[misc]
        assert drift.psi is not None
        assert (drift.psi > 0.25) == far


def test_odd_requests_harm_nobody() -> None:
    statistics = calibrated(pictures(np.random.default_rng(1), 64))
    watch = InputWatch([statistics], every=1)
    spec = TensorSpec("x", DATATYPES["FP32"], (0, 4))
    watch.seen(InferRequest(RequestHead("m", None, (spec,)), "", [b""]))
    watch.seen(
        InferRequest(RequestHead("m", None, (TensorSpec("other", DATATYPES["BYTES"], (1,)),)), "", [b"\1\0\0\0a"])
    )
    watch.seen(InferRequest(RequestHead("m", None, (TensorSpec("x", DATATYPES["FP32"], (1, 2)),)), "", [b"\0" * 7]))
    assert watch.drift() == (), "bytes that are no elements end the watching, not the request"
    many = InputWatch(
        [InputStatistics(str(n), ElementHistogram((0.0,), (0.5, 0.5)), 8, 0, 1) for n in range(99)], every=1
    )
    assert len(many.drift()) == MOST_INPUTS


def test_the_index_is_the_textbook_one_and_zero_for_equals() -> None:
    assert stability_index((0.5, 0.5), 10, (0.5, 0.5), 99) == 0
    exact = (0.6 - 0.5) * np.log(0.6 / 0.5) + (0.4 - 0.5) * np.log(0.4 / 0.5)
    assert stability_index((0.5, 0.5), 10**9, (0.6, 0.4), 10**9) == pytest.approx(exact, rel=1e-6)
    assert stability_index((1.0, 0.0), 64, (0.0, 1.0), 512) < 12, "an empty bin is not infinitely far"
    assert index_by_chance(10, 100, 900) == pytest.approx(0.1)


def test_two_samples_of_one_distribution_differ_by_what_chance_says() -> None:
    rng, found = np.random.default_rng(0), []
    for _ in range(300):
        old, new = (rng.multinomial(200, [0.1] * 10) / 200 for _ in range(2))
        found.append(stability_index(old.tolist(), 200, new.tolist(), 200))
    assert np.mean(found) == pytest.approx(index_by_chance(10, 200, 200), rel=0.15)
