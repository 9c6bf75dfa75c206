"""The generated models: the same bytes every time, a manifest that fits, and a cache that notices changes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from benchmarks.scenarios import graphs, registry


def test_graphs_are_seeded() -> None:
    assert graphs.corner_mean() == graphs.corner_mean()
    assert graphs.bert_shape(layers=1) == graphs.bert_shape(layers=1)
    assert len(graphs.bert_shape(layers=2)) > 6 * 768 * 768


def test_the_registry_has_whole_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "CACHE", tmp_path / "cache")
    folder = registry.build(tmp_path / "registry", ["corner_mean", "wide_deep", "small_net"])
    for model in ("corner_mean", "wide_deep", "small_net"):
        manifest = json.loads((folder / model / "1" / "manifest.json").read_text())
        assert manifest["model"] == model
        for entry in manifest["files"]:
            content = (folder / model / "1" / entry["path"]).read_bytes()
            assert (len(content), hashlib.sha256(content).hexdigest()) == (entry["size"], entry["sha256"])
    assert json.loads((folder / "wide_deep" / "1" / "manifest.json").read_text())["max_batch_size"] == 2048
    committed = registry.LINKED["wide_deep"] / "1" / "manifest.json"
    assert json.loads(committed.read_text())["max_batch_size"] != 2048


def test_a_model_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "CACHE", tmp_path)
    first = registry.generated("corner_mean")
    written = (first / "1" / "manifest.json").stat().st_mtime_ns
    assert registry.generated("corner_mean") == first
    assert (first / "1" / "manifest.json").stat().st_mtime_ns == written
