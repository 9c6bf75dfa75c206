"""A journal that cannot be written does not make what was done a failure."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from gateway.cli import main
from gateway.registry import journal
from gateway.registry.collecting import Ages, collect
from gateway.registry.folder_store import FolderStore
from gateway.registry.pointing import pointer_of
from gateway.registry.publishing import PublishOptions, publish_version, recover
from gateway.registry.switching import retire_version, serve_version, stop_serving
from gateway.versions import ModelVersion
from tests.support.registry import prepared


class World:
    """A registry whose journal is a folder, so that nothing can be added to it."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "registry"
        self.root.mkdir()
        self.store = FolderStore(self.root)
        self.source = prepared(folder / "prepared")
        self.journal = self.root / "journal.ndjson"
        self.journal.mkdir()

    def publish(self, *, serve: bool = True) -> int:
        options = PublishOptions(serve=serve)
        return publish_version(self.store, self.source, "m", actor="a", options=options).version.number

    def mend(self) -> list[tuple[str, int | None]]:
        self.journal.rmdir()
        recover(self.store, "m", settle_s=0)
        return [(entry["action"], entry.get("version")) for entry in journal.entries(self.store)]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_what_was_done_is_done_told_and_entered_later(world: World) -> None:
    with journal.warnings_heard() as warnings:
        assert (world.publish(), world.publish()) == (1, 2)
        assert pointer_of(world.store, "m").stable == 2  # type: ignore[union-attr]
        serve_version(world.store, ModelVersion("m", 1), actor="b", reason="back")
        retire_version(world.store, ModelVersion("m", 2), actor="c", reason="bad")
        stop_serving(world.store, "m", actor="d", reason="enough")
    assert [text.partition(":")[0] for text in warnings if "cannot be read" not in text] == [
        "publish m/1", "serve m/1", "publish m/2", "serve m/2", "serve m/1", "retire m/2", "stop m",
    ]  # fmt: skip
    assert all("done, but not in the journal" in text or "cannot be read" in text for text in warnings)
    told = world.mend()
    assert sorted(told, key=str) == sorted(
        [("publish", 1), ("serve", 1), ("publish", 2), ("serve", 2), ("serve", 1), ("retire", 2), ("stop", None)],
        key=str,
    )
    entry = next(entry for entry in journal.entries(world.store) if entry["action"] == "retire")
    assert (entry["actor"], entry["reason"], entry["recovered"]) == ("c", "bad", True)
    assert recover(world.store, "m", settle_s=0) == 0, "once"


def test_nobody_who_listens_is_no_reason_to_be_silent(world: World, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        world.publish()
    assert "publish m/1: done, but not in the journal" in caplog.text


def test_what_gc_removed_is_removed(world: World) -> None:
    world.publish()
    world.publish()
    retire_version(world.store, ModelVersion("m", 1), actor="c")
    with journal.warnings_heard() as warnings:
        found = collect(world.store, actor="g", ages=Ages(retired_s=0))
    assert found.versions == (ModelVersion("m", 1),)
    assert found.recovered == 0
    assert "remove m/1: done, but not in the journal" in warnings[-1]


def test_the_commands_say_so_and_succeed(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--registry", str(world.root), "--json"]
    assert main(["models", "publish", str(world.source), "--name", "m", "--serve", *arguments]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["generation"] == 1
    assert [line.partition(": done")[0] for line in err.splitlines()] == [
        "sluice: warning: the journal cannot be read: journal.ndjson cannot be read (Is a directory)",
        "sluice: warning: publish m/1",
        "sluice: warning: serve m/1",
    ]


def test_with_json_a_refusal_is_json_too(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, code in (
        (["serve", "m", "9"], 1), (["show", "nothing"], 1), (["retire", "m"], 1), (["verify", "nothing"], 1),
        (["publish", str(world.root), "--name", "m"], 1),
    ):  # fmt: skip
        assert main(["models", *arguments, "--registry", str(world.root), "--json"]) == code
        out, err = capsys.readouterr()
        assert json.loads(out)["error"] in err
    assert main(["models", "show", "--registry", "gs://x", "--json"]) == 3
    assert json.loads(capsys.readouterr().out) == {"error": "gs://x is neither a folder nor s3://bucket/prefix"}
