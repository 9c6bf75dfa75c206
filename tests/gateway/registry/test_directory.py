from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from gateway.registry.directory import DirectorySource, RegistryError
from gateway.registry.document import DocumentError
from gateway.registry.release_document import render_release
from gateway.registry.serving import parse_serving
from gateway.versions import ModelVersion
from tests.support.processes import ROOT
from tests.support.registry import publish
from tests.support.releases import plan, running


def point(root: Path, model: str, **content: Any) -> None:
    (root / model / "serving.json").write_text(json.dumps({"schema_version": 1, "generation": 1} | content))


def test_without_a_pointer_the_highest_number_is_served(tmp_path: Path) -> None:
    for number in (1, 2, 10, 9):
        publish(tmp_path, "m", number)
    assert asyncio.run(DirectorySource(tmp_path).desired()) == {"m": (10,)}


def test_the_pointer_decides(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        publish(tmp_path, "m", number)
    point(
        tmp_path, "m", stable=2, also=[1, 2], release=render_release(running(plan("m", 2, 3))), history=[{"stable": 1}]
    )
    source = DirectorySource(tmp_path)
    assert source.scan() == {"m": (2, 3, 1)}
    pointer = source.serving("m")
    assert pointer is not None
    assert pointer.release == running(plan("m", 2, 3))


def test_a_vanished_version_is_still_announced(tmp_path: Path) -> None:
    publish(tmp_path, "m", 1)
    point(tmp_path, "m", stable=2)
    source = DirectorySource(tmp_path)
    assert source.scan() == {"m": (2,)}
    with pytest.raises(RegistryError, match="m/2 is not in the registry"):
        source.manifest(ModelVersion("m", 2))


def test_what_is_no_version_is_ignored_with_one_warning_each(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    publish(tmp_path, "m", 1)
    for name in ("01", "v2", ".tmp3", "0", "-1", "3"):
        (tmp_path / "m" / name).mkdir()
    (tmp_path / "not a model").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / ".staging").mkdir()
    (tmp_path / "journal.ndjson").touch()
    source = DirectorySource(tmp_path)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert source.scan() == {"m": (1,)}
    warnings = sorted(record.getMessage().removeprefix("registry: ").split(" is ")[0] for record in caplog.records)
    assert warnings == sorted(
        [
            *("m/01", "m/v2", "m/.tmp3", "m/0", "m/-1", "not a model"),
            *("m/3 has no manifest.json; ignored", "empty has no version; ignored"),
        ]
    )


def test_a_broken_pointer_hides_only_its_model(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    publish(tmp_path, "good", 1)
    publish(tmp_path, "bad", 1)
    (tmp_path / "bad" / "serving.json").write_text("{")
    assert DirectorySource(tmp_path).scan() == {"good": (1,)}
    assert "bad cannot be served" in caplog.text


def test_a_registry_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="cannot be read"):
        asyncio.run(DirectorySource(tmp_path / "none").desired())


@pytest.mark.parametrize("name", ["../m", "", ".hidden", "a/b", "a b", "ä", "x" * 65])
def test_names_that_would_leave_the_root(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="is not a model name"):
        DirectorySource(tmp_path).version_path(ModelVersion(name, 1))


def test_numbers_below_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not a version number"):
        DirectorySource(tmp_path).version_path(ModelVersion("m", 0))


def test_verify_returns_the_manifest(tmp_path: Path) -> None:
    publish(tmp_path, "m", 3)
    assert DirectorySource(tmp_path).verify(ModelVersion("m", 3)).max_batch_size == 4


@pytest.mark.parametrize("registry", ["tests/models", "benchmarks/models"])
def test_the_registries_of_this_repository_are_intact(registry: str) -> None:
    source = DirectorySource(ROOT / registry)
    for model, numbers in source.scan().items():
        for number in numbers:
            source.verify(ModelVersion(model, number))


@pytest.mark.parametrize(
    "content", [b"{}", b'{"schema_version": 1, "generation": 0, "stable": 1}', b'{"schema_version": 1, "stable": "1"}']
)
def test_pointers_that_cannot_be_used(content: bytes) -> None:
    with pytest.raises(DocumentError):
        parse_serving(content)
