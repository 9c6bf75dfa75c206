"""`sluice models publish|serve|retire|show|history|verify|gc` on a real folder: output, JSON and exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import BAD_USAGE, NO, OK, main
from gateway.commands.registry_access import CANNOT_ACCESS
from tests.support import onnx_bytes
from tests.support.registry import ARTIFACT, prepared


class Shell:
    """Runs commands on one registry and keeps what they print."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root = root
        self._capsys = capsys
        self.err = ""

    def __call__(self, *arguments: str) -> tuple[int, str]:
        code = main(["models", *arguments, "--registry", str(self.root)])
        captured = self._capsys.readouterr()
        self.err = captured.err
        return code, captured.out

    def json(self, *arguments: str) -> Any:
        code, out = self(*arguments, "--json")
        assert code == OK, self.err
        return json.loads(out)


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    (tmp_path / "registry").mkdir()
    return Shell(tmp_path / "registry", capsys)


@pytest.fixture
def model(tmp_path: Path) -> str:
    path = tmp_path / "net.onnx"
    path.write_bytes(onnx_bytes.model({"x": (1, ["n", 3])}, {"y": (1, ["n", 2])}))
    return str(path)


def test_the_life_of_a_model(shell: Shell, model: str) -> None:
    published = shell.json("publish", model, "--name", "m", "--serve", "--actor", "ann", "--reason", "first")
    assert (published["version"]["number"], published["generation"]) == (1, 1)
    code, out = shell("publish", model, "--name", "m", "--max-batch-size", "8")
    assert code == OK
    assert "m/2 published" in out
    assert "sluice models serve m 2" in out
    assert shell.json("serve", "m", "2", "--also", "1")["also"] == [1]
    shown = shell.json("show", "m")
    assert [(v["version"], v["state"]) for v in shown["versions"]] == [(2, "stable"), (1, "also")]
    assert shell.json("show", "m", "2")["max_batch_size"] == 8
    assert shell.json("retire", "m", "1")["stable"] == 2
    assert shell.json("gc", "--retired-hours", "0", "--dry-run") == {
        "removed": False, "versions": ["m/1"], "leftovers": [], "journal_entries_recovered": 0,
    }  # fmt: skip
    assert "removed m/1 (retired)" in shell("gc", "--retired-hours", "0")[1]
    assert shell("gc")[1] == "nothing to remove\n"
    assert shell.json("retire", "m")["stable"] is None
    actions = [entry["action"] for entry in shell.json("history", "m")["entries"]]
    assert actions == ["stop", "remove", "retire", "unlist", "serve", "publish", "serve", "publish"]
    table = shell("history")[1].splitlines()
    assert table[0].split() == ["WHEN", "WHO", "WHAT", "MODEL", "VERSION", "GENERATION", "WHY"]
    assert table[-1].split()[1:] == ["ann", "publish", "m", "1", "-", "first"]
    assert "MODEL" in shell("show")[1]


def test_what_is_younger_than_its_grace_is_kept(shell: Shell, model: str) -> None:
    for _ in range(2):
        shell("publish", model, "--name", "m", "--serve")
    shell("retire", "m", "1")
    assert shell.json("gc")["versions"] == []
    assert [v["state"] for v in shell.json("show", "m")["versions"]] == ["stable", "retired"]


def test_verify_names_the_file_in_every_case(shell: Shell, tmp_path: Path) -> None:
    source = prepared(tmp_path / "prepared")
    shell("publish", str(source), "--name", "m", "--serve")
    assert shell("verify") == (OK, "m: all files are as published\n")
    folder = shell.root / "m/1"
    for name in (ARTIFACT, "manifest.json", "manifest.sha256"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        code, out = shell("verify", "m")
        assert code == NO
        assert name in out
        (folder / name).write_bytes(content)
    (folder / ARTIFACT).unlink()
    assert shell("verify", "m", "1") == (NO, f"m/1: {ARTIFACT} is missing\n")
    (folder / ARTIFACT).symlink_to("/etc/passwd")
    assert "leads out" in shell("verify", "m")[1]


def test_a_manifest_that_was_replaced_with_its_digest_is_found(shell: Shell, tmp_path: Path, model: str) -> None:
    """Whoever can write the folder can write both; the journal remembers."""
    shell("publish", model, "--name", "m", "--serve")
    folder = shell.root / "m/1"
    (folder / "manifest.json").write_text((folder / "manifest.json").read_text().replace('"tests"', '"other"'))
    (folder / "manifest.sha256").unlink()
    code, out = shell("verify", "m")
    assert code == NO
    assert "says the journal" in out


def test_a_pointer_to_nothing_is_found(shell: Shell, model: str) -> None:
    shell("publish", model, "--name", "m", "--serve")
    (shell.root / "m/serving.json").write_text('{"schema_version": 1, "generation": 9, "stable": 7}')
    assert shell("verify")[1] == "m/7: is not in the registry, and serving.json says to serve it\n"
    (shell.root / "m/serving.json").write_text("{")
    assert "serving.json not valid JSON" in shell("verify")[1]
    assert "problem" in shell.json("show", "m")


def test_a_dry_run_writes_nothing(shell: Shell, model: str) -> None:
    code, out = shell("publish", model, "--name", "m", "--dry-run")
    assert code == OK
    assert json.loads(out)["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [3]}]
    assert list(shell.root.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["publish", "{model}", "--name", "../m"], NO, "is not a model name"),
        (["publish", "/nothing", "--name", "m"], NO, "neither a folder nor an .onnx file"),
        (["serve", "m", "1"], NO, "m/1 is not in the registry"),
        (["retire", "m", "1"], NO, "m/1 is not in the registry"),
        (["retire", "m"], NO, "m is not in the registry"),
        (["show", "m"], NO, "m is not in the registry"),
        (["verify", "m"], NO, "m is not in the registry"),
    ],
)
def test_what_cannot_be_done_says_why(shell: Shell, model: str, arguments: list[str], code: int, message: str) -> None:
    found, _ = shell(*[argument.format(model=model) for argument in arguments])
    assert found == code
    assert message in shell.err
    assert list(shell.root.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["serve", "m", "01"],
        ["serve", "m", "0"],
        ["serve", "m", "v2"],
        ["publish", "x"],
        ["gc", "--retired-hours", "-1"],
    ],
)
def test_bad_usage(shell: Shell, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        shell(*arguments)
    assert caught.value.code == BAD_USAGE


@pytest.mark.parametrize("location", ["/nothing/here", "ftp://host/x"])
def test_a_registry_that_is_not_there(location: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "show", "--registry", location]) == CANNOT_ACCESS
    assert location in capsys.readouterr().err
