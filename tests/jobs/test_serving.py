"""`sluice jobs …` as a user has it: real processes, REST, and a runner that is killed and comes back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs import files, processes, reading
from jobs.executors.local import LocalExecutor
from jobs.state_folder import StateFolder
from jobs.store import Store
from tests.jobs.world import ROOT
from tests.support.processes import alive, read_line, until

SECONDS = 60


def sluice(state: Path, *arguments: str, code: int = 0, text: str = "") -> str:
    """Runs `sluice jobs …` and returns what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "gateway.cli", "jobs", *arguments, "--state-folder", str(state)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=SECONDS,
    )  # fmt: skip
    assert done.returncode == code, (arguments, done.stdout, done.stderr)
    assert text in done.stderr
    return done.stdout


class Server:
    """A `sluice jobs serve` process."""

    def __init__(self, state: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gateway.cli", "jobs", "serve", "--port", "0", "--json", "--cpus", "2",
             "--state-folder", str(state), *arguments],
            cwd=ROOT, stdout=subprocess.PIPE,
        )  # fmt: skip
        self.rest = json.loads(read_line(self.process, SECONDS))["rest"]

    def kill(self) -> None:
        self.process.kill()
        self.stop()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(SECONDS)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def servers(state: Path) -> Iterator[list[Server]]:
    """Runners to be stopped at the end, and the jobs that they left."""
    started: list[Server] = []
    yield started
    for server in started:
        if server.process.poll() is None:
            server.stop()
    for claim in state.glob("jobs/*/attempts/*/claim.json"):
        found = files.read_json(claim)
        if found and processes.is_running(found["pid"], found["start"]):
            processes.end_all(lambda pid=found["pid"]: {*processes.children_of(pid), pid}, lambda: None, 100)  # type: ignore[misc]


def job_file(folder: Path, name: str, script: str, **settings: Any) -> str:
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"name": name, "command": ["sh", "-c", script], "grace_s": 1, **settings}))
    return str(path)


def show(state: Path, number: int) -> dict[str, Any]:
    with Store(state, read_only=True) as store:
        return reading.full(store, StateFolder(state), number)


def ended(state: Path, number: int) -> dict[str, Any]:
    def final() -> dict[str, Any] | None:
        found = show(state, number)
        return found if found["ended_at"] is not None else None

    found: dict[str, Any] = until(final, SECONDS, f"job {number} ends")
    return found


def test_a_killed_runner_comes_back(tmp_path: Path, state: Path, servers: list[Server]) -> None:
    goes_on = "while ! test -e {output_folder}/go; do sleep 0.05; done; echo went on"
    servers.append(Server(state))
    for name, script in (("adopted", goes_on), ("ends alone", "sleep 0.7; exit 3"), ("waits", "echo waited")):
        sluice(state, "submit", job_file(tmp_path, name.replace(" ", "-"), script))
    until(lambda: len(list(state.glob("jobs/*/attempts/1/claim.json"))) == 2, SECONDS, "two run")
    servers[0].kill()
    until((state / "jobs/2/attempts/1/exit.json").exists, SECONDS, "one ends while there is no runner")
    assert show(state, 2)["state"] == "running", "nobody has settled it"
    servers.append(Server(state))
    assert ended(state, 2)["detail"] == "ended with exit code 3"
    assert ended(state, 3)["state"] == "succeeded"
    assert (show(state, 1)["state"], show(state, 1)["attempts"]) == ("running", 1)
    (state / "jobs/1/outputs/go").touch()
    assert ended(state, 1)["state"] == "succeeded"
    assert show(state, 1)["attempts"] == 1
    assert sluice(state, "logs", "1") == "went on\n"


def test_what_did_not_survive_is_queued_again_and_what_did_can_be_cancelled(
    tmp_path: Path, state: Path, servers: list[Server]
) -> None:
    once = "test -e {checkpoint_folder}/x && exit 0; touch {checkpoint_folder}/x; sleep 300"
    servers.append(Server(state))
    sluice(state, "submit", job_file(tmp_path, "lost", once))
    sluice(state, "submit", job_file(tmp_path, "stubborn", "trap '' TERM; (trap '' TERM; sleep 300) & sleep 300; wait"))
    until((state / "jobs/1/checkpoints/x").exists, SECONDS, "the first runs")
    claims = [
        until(lambda n=n: files.read_json(state / f"jobs/{n}/attempts/1/claim.json"), SECONDS, "it runs")
        for n in (1, 2)
    ]  # type: ignore[misc]
    job = until(lambda: len(processes.children_of(claims[1]["pid"])) > 2 and processes.children_of(claims[1]["pid"]),
                SECONDS, "the second runs")  # fmt: skip
    servers[0].kill()
    os.kill(claims[0]["pid"], signal.SIGKILL)
    servers.append(Server(state))
    assert ended(state, 1)["state"] == "succeeded"
    assert [run["reason"] for run in show(state, 1)["runs"]] == ["lost", "success"]
    sluice(state, "cancel", "2")
    assert ended(state, 2)["reason"] == "cancelled"
    assert not any(alive(pid) for pid in job)


def test_a_stranger_with_the_same_process_id_is_not_adopted_nor_hurt(tmp_path: Path) -> None:
    import asyncio

    stranger = subprocess.Popen(["sleep", "300"])
    try:
        mine = processes.identity(stranger.pid)
        other_start, other_boot = {**mine, "start": int(mine["start"]) - 1}, {**mine, "boot": "another"}
        for number, claim in enumerate((other_start, other_boot)):
            folder = tmp_path / str(number)
            folder.mkdir()
            (folder / "claim.json").write_text(json.dumps(claim))
            handle = LocalExecutor().find(folder, "token-of-the-test")
            handle.stop("cancel", 0)
            assert asyncio.run(handle.ended()) is None
        assert alive(stranger.pid)
    finally:
        stranger.kill()
        stranger.wait()


def test_an_attempt_that_was_given_up_cannot_come_up_late(tmp_path: Path) -> None:
    LocalExecutor().find(tmp_path, "token").close()
    (tmp_path / "launch.json").write_text(json.dumps({"argv": ["touch", str(tmp_path / "ran")]}))
    code = "import sys; sys.path.insert(0, sys.argv[1]); from jobs.keeper import main; main(sys.argv[2])"
    done = subprocess.run([sys.executable, "-c", code, str(ROOT), str(tmp_path)], check=False, timeout=SECONDS)
    assert done.returncode == 1
    assert not (tmp_path / "ran").exists()


def test_rest_wants_the_token_and_a_loopback_name(tmp_path: Path, state: Path, servers: list[Server]) -> None:
    servers.append(Server(state))
    token = StateFolder(state).token()

    def ask(path: str, body: object = None, **headers: str) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{servers[0].rest}{path}", data, headers)
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    good = {"Authorization": f"Bearer {token}"}
    assert ask("/v1/health")[0] == 401
    assert ask("/v1/health", Authorization="Bearer é")[0] == 401
    assert ask("/v1/health", **good, Host="evil.example")[0] == 401
    assert ask("/v1/health", **good) == (200, {"queued": 0, "running": 0, "trouble": ""})
    status, answer = ask("/v1/jobs", {"job": {"name": "x", "seed": -1}}, **good)
    assert (status, len(answer["problems"])) == (422, 1)
    job = {"name": "x", "command": ["true"], "folder": str(tmp_path)}
    assert ask("/v1/jobs", {"job": job, "key": "k"}, **good)[0] == 201
    assert ask("/v1/jobs", {"job": job, "key": "k"}, **good)[0] == 200
    assert ask("/v1/jobs", {"job": job | {"seed": 1}, "key": "k"}, **good)[0] == 409
    assert ask("/v1/jobs/99", **good)[0] == 404
    assert ask("/v1/jobs/1/cancel", {"grace_s": "x"}, **good)[0] == 400
    assert ask("/v1/jobs?limit=x", **good)[0] == 400
    assert ask("/v1/nothing", **good)[0] == 404
    assert ask("/v1/jobs", [1], **good)[0] == 400
    assert ask("/v1/jobs", {"job": job, "owner": "a b"}, **good)[0] == 400
    assert ask("/v1/schema", **good)[1]["title"] == "Sluice job"
    ended(state, 1)
    assert ask("/v1/jobs/1/resume", {}, **good)[0] == 409
    assert (state.stat().st_mode & 0o777, (state / "token").stat().st_mode & 0o777) == (0o700, 0o600)


def test_the_command_line(tmp_path: Path, state: Path, servers: list[Server]) -> None:
    sluice(state, "list", code=1, text="there are no jobs")
    good = job_file(tmp_path, "good", 'echo hi; echo \'{"step": 1, "total": 2}\' >> $SLUICE_METRICS_FILE')
    assert sluice(state, "run", good, text="job 1 succeeded (success)") == "hi\n"
    sluice(state, "run", job_file(tmp_path, "bad", "exit 9"), code=1, text="ended with exit code 9")
    (tmp_path / "wrong.toml").write_text("name = 1\nretrys = 2\n")
    sluice(
        state, "check", str(tmp_path / "wrong.toml"), code=2, text="retrys: unknown setting; did you mean 'retries'?"
    )
    sluice(state, "submit", good, code=1, text="start `sluice jobs serve`")
    servers.append(Server(state))
    assert sluice(state, "submit", good, "--key", "k") == "job 3 queued\n"
    assert sluice(state, "logs", "-f", "3") == "hi\n"
    assert "was there already" in sluice(state, "submit", good, "--key", "k")
    ended(state, 3)
    assert json.loads(sluice(state, "show", "3", "--json"))["events"][0]["what"] == "submitted"
    assert sluice(state, "metrics", "3") == "step=1  total=2\n"
    assert json.loads(sluice(state, "list", "--json", "--state", "failed"))["jobs"][0]["id"] == 2
    assert sluice(state, "run", good, text="job 4 succeeded") == "hi\n", "by the runner that serves already"
    sluice(state, "serve", "--port", "0", code=3, text="another runner uses")
    sluice(state, "cancel", "77", code=1, text="there is no job 77")
    assert sluice(state, "gc", "--older-than-days", "0").startswith("4 jobs removed")
    assert list((state / "jobs").iterdir()) == []
    assert servers[0].stop() == 0


def test_interrupting_a_job_in_the_foreground_cancels_it(tmp_path: Path, state: Path) -> None:
    path = job_file(tmp_path, "long", "echo up; sleep 300 & sleep 300")
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway.cli", "jobs", "run", path, "--state-folder", str(state)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert read_line(process, SECONDS) == "up"
    claim = files.read_json(state / "jobs/1/attempts/1/claim.json")
    assert claim is not None
    job = processes.children_of(claim["pid"])
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=SECONDS)
    assert (process.returncode, b"job 1 cancelled" in errors) == (130, True)
    assert not any(alive(pid) for pid in [claim["pid"], *job])
