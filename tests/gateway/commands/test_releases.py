"""`sluice releases …` on a real folder: output, JSON, exit codes; without a gateway."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import BAD_USAGE, NO, OK, main
from gateway.commands.registry_access import CANNOT_ACCESS
from gateway.core.rollout import decide
from gateway.registry.bundle_document import parse_bundle, render_bundle
from gateway.registry.folder_store import FolderStore
from gateway.registry.pointing import pointer_of
from gateway.registry.releasing import advance
from gateway.registry.switching import serve_version
from gateway.versions import ModelVersion
from tests.support.evidence import GOOD, bundle_of
from tests.support.registry import publish


class Shell:
    """Runs commands on one registry and keeps what they print; nothing listens where they look for a gateway."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root = root
        self._capsys = capsys
        self.err = ""

    def __call__(self, *arguments: str) -> tuple[int, str]:
        code = main(["releases", *arguments, "--registry", str(self.root), "--set", "server.admin_port=0"])
        captured = self._capsys.readouterr()
        self.err = captured.err
        return code, captured.out

    def json(self, *arguments: str) -> Any:
        code, out = self(*arguments, "--json")
        assert code == OK, self.err
        return json.loads(out)


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    for number in (1, 2, 3):
        publish(tmp_path, "m", number)
    serve_version(FolderStore(tmp_path), ModelVersion("m", 1), actor="ann")
    return Shell(tmp_path, capsys)


def judge(shell: Shell) -> None:
    """Takes the decision that a gateway with good evidence would."""
    store = FolderStore(shell.root)
    pointer = pointer_of(store, "m")
    assert pointer is not None
    assert pointer.release is not None
    at = pointer.release.progress.step_started_at + 1_000_000_000
    assert advance(store, pointer.release, bundle_of(pointer.release, at=at, digests={}), actor="gw-1")


def test_the_life_of_a_release(shell: Shell, tmp_path: Path) -> None:
    started = shell.json("start", "m", "--candidate", "2", "--steps", "1%,100%", "--actor", "ann", "--watch-after", "0")
    assert (started["id"], started["status"], started["gateway_told"]) == ("m-r1", "running", False)
    code, out = shell("status", "m")
    assert code == OK
    assert "m-r1: candidate m/2 against stable m/1; running, step 1 of 2 (at 1 %)" in out
    assert "[1 %: now] -> [100 %]" in out
    assert shell.json("pause", "m-r1", "--reason", "lunch")["progress"]["status"] == "paused"
    assert shell.json("resume", "m-r1")["progress"]["status"] == "running"
    judge(shell)
    assert shell.json("status", "m-r1")["progress"]["step"] == 1
    judge(shell)
    assert shell.json("status", "m-r1")["progress"]["status"] == "promoted"
    kinds = [entry["action"].split()[1] for entry in shell.json("history", "m")["entries"]]
    assert kinds == ["promote", "advance", "resume", "pause", "start"]
    code, out = shell("report", "m-r1")
    assert code == OK
    for text in ("promoted", "lunch", "errors", "holds", "req-<7>", "candidate  2"):
        assert text in out, text
    assert len(shell.json("report", "m-r1")["bundles"]) == 5
    page = tmp_path / "report.html"
    assert shell("report", "m-r1", "--html", str(page))[0] == OK
    text = page.read_text()
    assert "<svg" in text
    assert "req-&lt;7&gt;" in text
    assert "http://" not in text.replace("http://www.w3.org", "")
    code, out = shell("replay", "m-r1")
    assert code == OK
    assert out.count("the same follows") == 2
    assert out.count("by hand") == 3


def test_replay_of_a_file_finds_what_was_changed(shell: Shell, tmp_path: Path) -> None:
    shell.json("start", "m", "--candidate", "2", "--steps", "1%,100%")
    judge(shell)
    (path,) = (tmp_path / "m/releases/m-r1").glob("001-*.json")
    code, out = shell("replay", str(path))
    assert code == OK
    assert "advance: the same follows" in out
    document = json.loads(path.read_bytes())
    document["evidence"]["errors"]["candidate_only"] += 40
    changed = tmp_path / "changed.json"
    changed.write_text(json.dumps(document))
    code, out = shell("replay", str(changed))
    assert code == NO
    assert "SOMETHING ELSE FOLLOWS" in out
    assert shell.json("replay", str(path))["results"][0]["same"] is True
    path.write_text(json.dumps(document))
    code, _ = shell("report", "m-r1")
    assert code == NO
    assert "was changed after it was written" in shell.err


def test_refusals_have_codes_and_say_what_to_do(shell: Shell, tmp_path: Path) -> None:
    assert shell("start", "m")[0] == BAD_USAGE
    assert "candidate: say which version is tried" in shell.err
    assert shell("start", "m", "--candidate", "2", "--steps", "5")[0] == BAD_USAGE
    assert shell("start", "m", "--candidate", "9")[0] == NO
    assert shell("start", "nope", "--candidate", "1")[0] == NO
    assert shell("promote", "m-r1")[0] == NO
    assert shell("status", "m")[0] == NO
    assert shell("status", "m-r7")[0] == NO
    assert shell("report", "x")[0] == NO
    assert shell("replay", "m-r7")[0] == NO
    assert main(["releases", "status", "--registry", str(tmp_path / "nowhere")]) == CANNOT_ACCESS
    assert shell("status")[1].strip() == "no release is in progress"
    assert shell("history")[1].strip() == "there was no release yet"
    bad = tmp_path / "bad.json"
    bad.write_text("{}")
    assert shell("replay", str(bad))[0] == BAD_USAGE


def test_a_rollback_is_in_the_overview_no_more_and_keeps_its_report(shell: Shell) -> None:
    shell.json("start", "m", "--candidate", "2")
    shell.json("start", "m", "--candidate", "3", "--if-running", "queue")
    assert "waits: m-r2 (version 3)" in shell("status")[1]
    assert shell.json("rollback", "m-r1", "--reason", "smoke")["progress"]["status"] == "rolled_back"
    assert "m-r2: candidate m/3" in shell("status")[1]
    assert "rolled back" in shell("report", "m-r1")[1]
    models = shell.json("status")["models"]
    assert models[0]["rejected"][0]["reason"] == "smoke"


def test_watching_ends_with_the_release(shell: Shell) -> None:
    shell.json("start", "m", "--candidate", "2")
    shell.json("rollback", "m-r1")
    code, out = shell("status", "m-r1", "--watch")
    assert code == OK
    assert "rolled back" in out


def test_a_bundle_that_was_read_again_decides_the_same(shell: Shell) -> None:
    shell.json("start", "m", "--candidate", "2")
    pointer = pointer_of(FolderStore(shell.root), "m")
    assert pointer is not None
    assert pointer.release is not None
    bundle = parse_bundle(render_bundle(bundle_of(pointer.release)))
    assert decide(bundle.release, GOOD, bundle.at) == bundle.decision
