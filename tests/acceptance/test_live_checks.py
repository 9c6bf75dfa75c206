"""What a real gateway says of inputs that are not like those of the calibration."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from quantize.data_checks import InputStatistics
from quantize.graph import TensorSpec
from quantize.input_sketch import live_statistics
from tests.support.processes import Gateway, fetch, until
from tests.support.versions import MODEL, publish

WINDOW = 512
LABELS = '{model="shift",version="1",input="X"}'


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, Path, Path]]:
    """A gateway that looks at every request; version 1 was calibrated with a normal distribution."""
    scratch = tmp_path_factory.mktemp("live")
    found = InputStatistics()
    found.add(np.random.default_rng(0).normal(size=(512, 4)).astype(np.float32))
    spec = TensorSpec("X", np.dtype(np.float32), (None, 4))
    publish(scratch / "registry", scratch, 1, input_statistics=live_statistics({"X": found}, [spec], {}))
    gateway = Gateway(scratch, scratch / "registry", {"telemetry.drift_sample_every": 1})
    yield gateway, scratch / "registry", scratch
    assert gateway.stop() == 0


def feed(gateway: Gateway, rng: np.random.Generator, shift: float, requests: int) -> None:
    for _ in range(requests):
        rows = (rng.normal(size=(2, 4)) + shift).round(3).tolist()
        body = {"inputs": [{"name": "X", "datatype": "FP32", "shape": [2, 4], "data": rows}]}
        fetch(f"{gateway.rest}/v2/models/{MODEL}/infer", json.dumps(body).encode())


def test_shifted_inputs_raise_the_drift_metric(live: tuple[Gateway, Path, Path]) -> None:
    gateway, registry, scratch = live
    rng = np.random.default_rng(1)
    feed(gateway, rng, 0, 40)
    assert f"sluice_input_drift_psi{LABELS}" not in gateway.metrics(), "too few rows to say"
    feed(gateway, rng, 0, WINDOW - 40)
    before = gateway.metrics()
    assert before[f"sluice_input_sampled_rows_total{LABELS}"] == WINDOW
    chance = before[f"sluice_input_drift_psi_by_chance{LABELS}"]
    assert before[f"sluice_input_drift_psi{LABELS}"] - chance < 0.1
    assert before[f"sluice_input_out_of_range_total{LABELS}"] < 0.01 * 4 * WINDOW
    feed(gateway, rng, 2, WINDOW)
    after = gateway.metrics()
    assert after[f"sluice_input_drift_psi{LABELS}"] - chance > 1
    assert after[f"sluice_input_out_of_range_total{LABELS}"] > 0.02 * 4 * WINDOW
    page = fetch(f"{gateway.admin}/").decode()
    assert "Inputs against their calibration" in page
    assert '<td class="n bad">' in page
    (shown,) = json.loads(fetch(f"{gateway.admin}/v1/models"))["models"][0]["versions"][0]["inputs"]
    assert shown["name"] == "X"
    assert shown["psi"] > 1
    # A version without statistics takes over: nothing is said of it, and nothing more of the one that left.
    publish(registry, scratch, 2)
    until(lambda: not any("sluice_input_" in name for name in gateway.metrics()), 20, "the old version's series go")
