"""Payloads of the load test and the version changes on a copy of the repository."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from threading import Event

import numpy as np

from gateway.bench.answers import same
from loadtests import versions
from loadtests.samples import MODEL_REPO, MODELS, PICTURES, ROWS, SENTENCES, WEIGHTS, samples


def test_every_model_has_seeded_requests() -> None:
    first, again = samples(), samples()
    assert set(first) == set(MODELS) == set(WEIGHTS)
    for model in MODELS:
        bodies = [sample.body() for sample in first[model]]
        assert bodies == [sample.body() for sample in again[model]]
        assert len(set(bodies)) == len(bodies)
    assert len(first[PICTURES][0].tensors[0].raw) == 224 * 224 * 3


def test_golden_answers_come_with_the_requests_that_have_them() -> None:
    found = samples()
    for model in (PICTURES, SENTENCES):
        for sample in found[model]:
            assert sample.expected is not None
            assert same(sample.expected, sample.expected)
    assert not same(found[SENTENCES][0].expected or {}, found[SENTENCES][1].expected or {})
    rows = found[ROWS]
    assert rows[0].expected is not None
    assert {sample.tensors[0].spec.shape[0] for sample in rows[1:]} == {1, 4, 16, 64}
    assert all(sample.expected is None for sample in rows[1:])
    assert np.frombuffer(rows[1].tensors[0].raw, "<i8").min() >= 0


def test_a_second_version_is_added_to_the_copy_alone(tmp_path: Path) -> None:
    before = (MODEL_REPO / ROWS / "serving.json").read_bytes()
    copy = versions.copy_repository(MODEL_REPO, tmp_path / "registry")
    manifest = json.loads((copy / ROWS / "3" / "manifest.json").read_text())
    assert (manifest["model"], manifest["version"]) == (ROWS, versions.SECOND)
    assert json.loads((copy / ROWS / "2" / "manifest.json").read_text())["version"] == versions.FIRST
    versions.point(copy, versions.FIRST, [versions.SECOND])
    first = json.loads((copy / ROWS / "serving.json").read_text())
    versions.point(copy, versions.SECOND, [])
    second = json.loads((copy / ROWS / "serving.json").read_text())
    assert (first["stable"], first["also"], second["stable"]) == (2, [3], 3)
    assert second["generation"] == first["generation"] + 1
    assert (MODEL_REPO / ROWS / "serving.json").read_bytes() == before
    assert not (MODEL_REPO / ROWS / "3").exists()


def test_waiting_ends_when_told_to() -> None:
    stop = Event()
    stop.set()
    assert versions.wait_for("127.0.0.1:1", "/", lambda _: True, stop) is False


def test_the_locust_side_stays_clear_of_our_generated_protobuf_code() -> None:
    """tritonclient brings its own `model_config.proto`; both in one process cannot be."""
    code = "import sys, loadtests.samples, loadtests.journal, loadtests.phases; "
    code += "sys.exit('gateway._generated.open_inference_pb2' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=MODEL_REPO.parent, check=False)
    assert done.returncode == 0
