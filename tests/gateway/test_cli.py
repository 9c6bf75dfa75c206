"""The command line as a user has it: exit codes, messages, JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import gateway
from gateway.commands.admin_client import split_address
from gateway.commands.announcing import announcement, program
from gateway.commands.table import table


def sluice(*arguments: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Runs the command line in a process of its own."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SLUICE__")}
    return subprocess.run(
        [sys.executable, "-m", "gateway.cli", *arguments],
        cwd=cwd,
        env=inherited | environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_version_and_help(tmp_path: Path) -> None:
    assert sluice("version", cwd=tmp_path).stdout == f"sluice {gateway.__version__}\n"
    done = sluice("--help", cwd=tmp_path)
    assert done.returncode == 0
    for command in ("serve", "doctor", "demo", "models", "version"):
        assert command in done.stdout


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys, contextlib\nfrom gateway.cli import main\n"
        "with contextlib.suppress(SystemExit): main(['serve', '--help'])\n"
        "heavy = {'numpy', 'aiohttp', 'uvloop', 'asyncio', 'google.protobuf'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["serve", "--nonsense"], ["models"], ["demo"]])
def test_bad_usage_is_2(tmp_path: Path, arguments: list[str]) -> None:
    done = sluice(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert "usage:" in done.stderr
    assert "Traceback" not in done.stderr


def test_demo_help_knows_its_tasks(tmp_path: Path) -> None:
    done = sluice("demo", "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for task in ("classify", "embed", "score"):
        assert task in done.stdout


def test_check_prints_the_effective_configuration(tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text("[server]\nrest_port = 9000\n")
    done = sluice("serve", "--check", "--set", "server.grpc_port=0", cwd=tmp_path, SLUICE__SERVER__HOST="::1")
    assert done.returncode == 0, done.stderr
    assert "gateway.toml" in done.stdout
    assert "rest_port = 9000  # changed; the default is 8000" in done.stdout
    assert 'host = "::1"  # changed' in done.stdout
    shown = json.loads(sluice("serve", "--check", "--json", cwd=tmp_path).stdout)
    assert shown["ok"] is True
    assert shown["changed"] == ["server.rest_port"]
    assert shown["config"]["server"]["rest_port"] == 9000


@pytest.mark.parametrize(
    "command", [["serve"], ["serve", "--check"], ["doctor"], ["models", "list"], ["models", "fetch"]]
)
def test_a_wrong_configuration_is_2_with_every_problem(tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "bad.toml").write_text("[server]\nrest_prt = 1\n")
    done = sluice(*command, "--config", "bad.toml", "--set", "server.grpc_port=-1", cwd=tmp_path)
    assert done.returncode == 2
    assert "2 problems" in done.stderr
    assert "did you mean 'rest_port'?" in done.stderr
    assert "server.grpc_port must be at least 0" in done.stderr
    assert "Traceback" not in done.stderr


def test_problems_as_json(tmp_path: Path) -> None:
    for command in (["serve", "--check"], ["serve"], ["doctor"]):
        done = sluice(*command, "--json", "--set", "a.b=1", cwd=tmp_path)
        assert done.returncode == 2
        answer = json.loads(done.stdout)
        assert answer["ok"] is False
        assert len(answer["problems"]) == 1


def test_unreadable_files_are_2_all_at_once(tmp_path: Path) -> None:
    named = ["security.admin_token_file=absent", "server.tls_cert=no.crt", "server.tls_key=no.key"]
    done = sluice("serve", "--check", *(part for name in named for part in ("--set", name)), cwd=tmp_path)
    assert done.returncode == 2
    for setting in ("security.admin_token_file", "server.tls_cert", "server.tls_key"):
        assert f"{setting}: cannot read" in done.stderr


def test_an_access_log_that_cannot_be_opened_is_3(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = sluice("serve", *any_ports(), "--set", "telemetry.access_log=file/access.log", cwd=tmp_path)
    assert done.returncode == 3
    assert "cannot start: file" in done.stderr
    assert "Traceback" not in done.stderr


def test_models_list_without_a_gateway_is_1(tmp_path: Path) -> None:
    done = sluice("models", "list", "--admin", "127.0.0.1:1", cwd=tmp_path)
    assert done.returncode == 1
    assert "is `sluice serve` running?" in done.stderr
    assert sluice("models", "list", "--admin", "nonsense", cwd=tmp_path).returncode == 2
    assert sluice("models", "list", "--set", "server.admin_port=0", cwd=tmp_path).returncode == 2


def test_models_fetch_of_a_registry_that_is_not_there(tmp_path: Path) -> None:
    done = sluice("models", "fetch", cwd=tmp_path)
    assert done.returncode == 2
    assert "registry.root" in done.stderr


def test_serve_without_triton_is_3_in_one_line(tmp_path: Path) -> None:
    done = sluice(
        "serve", "--set", "triton.environment=absent", *any_ports(), cwd=tmp_path, SLUICE__TELEMETRY__LOG_LEVEL="error"
    )
    assert done.returncode == 3
    assert "cannot start: no Triton environment at" in done.stderr
    assert "make setup" in done.stderr
    assert "Traceback" not in done.stderr


def any_ports() -> list[str]:
    names = ("server.rest_port", "server.grpc_port", "server.admin_port", "triton.http_port", "triton.grpc_port")
    return [part for name in (*names, "triton.metrics_port") for part in ("--set", f"{name}=0")]


def test_doctor_as_json_and_exit_codes(tmp_path: Path) -> None:
    done = sluice("doctor", "--json", *any_ports(), "--set", "triton.environment=absent", cwd=tmp_path)
    assert done.returncode == 1
    answer = json.loads(done.stdout)
    assert answer["ok"] is False
    failures = {finding["subject"]: finding for finding in answer["findings"] if finding["status"] == "failed"}
    assert set(failures) == {"Triton environment", "registry"}
    assert all(finding["advice"] for finding in failures.values())
    text = sluice("doctor", *any_ports(), "--set", "triton.environment=absent", cwd=tmp_path)
    assert text.returncode == 1
    assert "2 checks failed." in text.stdout
    assert "-> " in text.stdout


def test_announcement() -> None:
    facts = {
        "rest": "127.0.0.1:1234", "grpc": "127.0.0.1:8001", "admin": "127.0.0.1:8002", "access_log": None,
        "models": {"minilm": ["1"], "m": []}, "failed": {"x/1": "no such file"},
    }  # fmt: skip
    plain = announcement(facts, demo=False)
    assert "http://127.0.0.1:1234" in plain
    assert "minilm (version 1), m (not ready)" in plain
    assert "x/1: no such file" in plain
    assert "access log" not in plain
    assert "demo embed" not in plain
    text = announcement(facts, demo=True)
    assert " demo embed 'A cat sits on the mat.'" in text
    assert "--url 127.0.0.1:1234" in text
    assert "http://127.0.0.1:1234/v2/models/minilm/infer" in text
    assert "demo embed" not in announcement(facts | {"models": {"m": ["1"]}}, demo=True)


@pytest.mark.parametrize(("found", "expected"), [("/x/bin/sluice", "sluice"), ("/y/sluice", None), (None, None)])
def test_how_to_call_this_program(monkeypatch: pytest.MonkeyPatch, found: str | None, expected: str | None) -> None:
    monkeypatch.setattr(sys, "argv", ["/x/bin/sluice"])
    monkeypatch.setattr("shutil.which", lambda name: found)
    assert program() == (expected or "/x/bin/sluice")


def test_tables_cannot_move_the_cursor() -> None:
    assert table(("a", "b"), [("x\x1b[2J", "y\n")]) == "A      B\nx [2J  y"


@pytest.mark.parametrize(("text", "expected"), [("a:1", ("a", 1)), ("[::1]:2", ("::1", 2))])
def test_addresses(text: str, expected: tuple[str, int]) -> None:
    assert split_address(text) == expected


@pytest.mark.parametrize("text", ["a", ":1", "a:", "a:b", "a:0", "a:70000"])
def test_bad_addresses(text: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        split_address(text)
