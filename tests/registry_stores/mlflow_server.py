"""A real MLflow server (sqlite, artifacts through its proxy) and what a training job does with it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.registry_stores.servers import free_ports, program, running

# Runs in the servers' environment, where MLflow's own client is.
_LOG = """
import json, sys
import mlflow
from mlflow import MlflowClient
url, request = sys.argv[1], json.loads(sys.argv[2])
mlflow.set_tracking_uri(url)
client = MlflowClient()
found = client.get_experiment_by_name("tests")
experiment = found.experiment_id if found else client.create_experiment("tests")
run = client.create_run(experiment).info
for name, value in request["metrics"].items():
    client.log_metric(run.run_id, name, float(value))
client.set_tag(run.run_id, "team", "vision")
client.log_artifacts(run.run_id, request["folder"], "model")
try:
    client.create_registered_model(request["model"])
except mlflow.exceptions.MlflowException:
    pass
source = request["source"] or run.artifact_uri + "/model"
version = client.create_model_version(request["model"], source, run.run_id, tags={"stage": "candidate"})
client.set_registered_model_alias(request["model"], "champion", version.version)
print(json.dumps([version.version, run.run_id]))
"""
_ALIAS = """
import sys
from mlflow import MlflowClient
MlflowClient(sys.argv[1]).set_registered_model_alias(sys.argv[2], "champion", sys.argv[3])
"""


class MlflowServer:
    """A running server; `stop` and `start` keep its data and its address."""

    def __init__(self, folder: Path) -> None:
        (self._port,) = free_ports(1)
        self._folder = folder
        self.url = f"http://127.0.0.1:{self._port}"

    @contextmanager
    def serving(self) -> Iterator[None]:
        command = [
            program("mlflow"), "server", "--backend-store-uri", f"sqlite:///{self._folder}/mlflow.db",
            "--artifacts-destination", str(self._folder / "artifacts"), "--host", "127.0.0.1",
            "--port", str(self._port), "--workers", "1",
        ]  # fmt: skip
        quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "GIT_PYTHON_REFRESH": "quiet"}
        with running(command, self._folder / "mlflow.log", f"{self.url}/health", quiet):
            yield

    def log(self, model: str, folder: Path, *, source: str = "", **metrics: str) -> tuple[str, str]:
        """Does what a training job does: a run with metrics, its artifacts, a version, and the alias `champion` on it.

        Returns the version and the run's id. `source` (if given) is what the version says of where its files are.
        """
        request = {"model": model, "folder": str(folder), "metrics": metrics, "source": source}
        version, run_id = json.loads(self._python(_LOG, self.url, json.dumps(request)).splitlines()[-1])
        return version, run_id

    def point(self, model: str, version: str) -> None:
        """Moves the alias."""
        self._python(_ALIAS, self.url, model, version)

    def _python(self, code: str, *arguments: str) -> str:
        command = [program("python"), "-W", "ignore", "-c", code, *arguments]
        return subprocess.run(command, check=True, timeout=300, stdout=subprocess.PIPE, text=True).stdout
