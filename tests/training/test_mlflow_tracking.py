"""Jobs are copied to a real MLflow server; one that is down harms no job, and is told later."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from deltalake import write_deltalake

from tests.jobs.world import ROOT
from tests.registry_stores.servers import free_ports, program, running
from tests.training.test_tables import people

PATIENCE_S = 120


@pytest.fixture(scope="module")
def port() -> int:
    return int(free_ports(1)[0])


def server(folder: Path, port: int) -> Any:
    url = f"http://127.0.0.1:{port}"
    command = [program("mlflow"), "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
               "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}",
               "--artifacts-destination", str(folder / "artifacts")]  # fmt: skip
    return running(command, folder / "mlflow.log", f"{url}/health")


def ask(port: int, what: str, document: dict[str, Any] | None = None) -> Any:
    body = None if document is None else json.dumps(document).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/api/2.0/{what}", body)
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.loads(response.read())


def sluice(state: Path, *arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "gateway.cli", "jobs", *arguments, "--state-folder", str(state), "--json"],
        capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_down_first_and_told_later(tmp_path: Path, port: int) -> None:
    state, table = tmp_path / "state", tmp_path / "people"
    write_deltalake(str(table), people(30, 40))
    file = tmp_path / "job.toml"
    file.write_text(
        f'name = "tracked"\nfunction = "tests.training.table_reader:main"\nfolder = "{ROOT}"\n'
        'parameters = { column = "age" }\nseed = 7\noutputs = ["found.json"]\n'
        f'[[inputs]]\nname = "people"\ntable = "{table}"\n[tracking]\nmlflow = "http://127.0.0.1:{port}"\n'
    )
    assert sluice(state, "run", str(file), "--quiet")["state"] == "succeeded"
    with server(tmp_path, port):
        assert sluice(state, "run", str(file), "--quiet")["state"] == "succeeded"
        experiment = ask(port, "mlflow/experiments/get-by-name?experiment_name=sluice")["experiment"]["experiment_id"]
        runs = ask(port, "mlflow/runs/search", {"experiment_ids": [experiment]})["runs"]
        tags = [{tag["key"]: tag["value"] for tag in run["data"]["tags"]} for run in runs]
        assert sorted(tag["sluice.job"] for tag in tags) == [f"{state}#1", f"{state}#2"]
        for run, tag in zip(runs, tags, strict=True):
            assert run["info"]["status"] == "FINISHED"
            assert {p["key"]: p["value"] for p in run["data"]["params"]} == {"column": "age", "seed": "7"}
            assert json.loads(tag["sluice.inputs"])[0]["version"] == 0
            assert len(tag["sluice.environment_sha256"]) == 64
            where = f"mlflow/metrics/get-history?run_id={run['info']['run_id']}&metric_key=loss"
            assert [m["value"] for m in ask(port, where)["metrics"]] == [1.0, 0.5, 1 / 3]
            files = ask(port, f"mlflow/artifacts/list?run_id={run['info']['run_id']}")["files"]
            assert [entry["path"] for entry in files] == ["found.json"]
