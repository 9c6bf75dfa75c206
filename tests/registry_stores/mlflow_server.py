"""A real MLflow server (sqlite, artifacts through its proxy) and what a training job does with it."""

from __future__ import annotations

import json
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.registry_stores.servers import free_ports, program, running
from tests.support.processes import read_line

# One process in the servers' environment, where MLflow's own client is (which takes seconds to import): a JSON line in,
# a JSON line out.
_CLIENT = """
import json, sys
import mlflow
from mlflow import MlflowClient
answers, sys.stdout = sys.stdout, sys.stderr
mlflow.set_tracking_uri(sys.argv[1])
client = MlflowClient()


def experiment():
    found = client.get_experiment_by_name("tests")
    return found.experiment_id if found else client.create_experiment("tests")


def registered(model, source, run, **more):
    try:
        client.create_registered_model(model)
    except mlflow.exceptions.MlflowException:
        pass
    version = client.create_model_version(model, source, run.run_id, **more)
    client.set_registered_model_alias(model, "champion", version.version)
    return version.version


def log(model, folder, metrics, source):
    run = client.create_run(experiment()).info
    for name, value in metrics.items():
        client.log_metric(run.run_id, name, float(value))
    client.set_tag(run.run_id, "team", "vision")
    client.log_artifacts(run.run_id, folder, "model")
    version = registered(model, source or run.artifact_uri + "/model", run, tags={"stage": "candidate"})
    return [version, run.run_id]


def log_model(model, folder):
    run = client.create_run(experiment()).info
    client.log_metric(run.run_id, "auc", 0.75)
    logged = client.create_logged_model(
        experiment(), source_run_id=run.run_id, tags={"team": "vision"}, params={"lr": "0.1"}
    )
    client.log_model_artifacts(logged.model_id, folder)
    client.finalize_logged_model(logged.model_id, "READY")
    return [registered(model, f"models:/{logged.model_id}", run, model_id=logged.model_id), logged.model_id]


def point(model, version):
    client.set_registered_model_alias(model, "champion", version)


for line in sys.stdin:
    name, arguments = json.loads(line)
    print(json.dumps(globals()[name](**arguments)), file=answers, flush=True)
"""


class MlflowServer:
    """A running server, until `stop`."""

    def __init__(self, folder: Path) -> None:
        (self._port,) = free_ports(1)
        self._folder = folder
        self.url = f"http://127.0.0.1:{self._port}"
        self._client: subprocess.Popen[bytes] | None = None
        self._running = ExitStack()

    def start(self) -> None:
        command = [
            program("mlflow"), "server", "--backend-store-uri", f"sqlite:///{self._folder}/mlflow.db",
            "--artifacts-destination", str(self._folder / "artifacts"), "--host", "127.0.0.1",
            "--port", str(self._port), "--workers", "1",
        ]  # fmt: skip
        quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "GIT_PYTHON_REFRESH": "quiet"}
        self._running.enter_context(running(command, self._folder / "mlflow.log", f"{self.url}/health", quiet))

    def log(self, model: str, folder: Path, *, source: str = "", **metrics: str) -> tuple[str, str]:
        """Does what a training job does: a run with metrics, its artifacts, a version, and the alias `champion` on it.

        Returns the version and the run's id. `source` (if given) is what the version says of where its files are.
        """
        version, run_id = self._ask("log", model=model, folder=str(folder), metrics=metrics, source=source)
        return version, run_id

    def log_model(self, model: str, folder: Path) -> tuple[str, str]:
        """The same in the way of MLflow 3: the model is logged as something of its own, and registered by that name.

        Returns the version and the logged model's id.
        """
        version, model_id = self._ask("log_model", model=model, folder=str(folder))
        return version, model_id

    def point(self, model: str, version: str) -> None:
        """Moves the alias."""
        self._ask("point", model=model, version=version)

    def stop(self) -> None:
        """Ends the server and the client."""
        self._running.close()

    def _ask(self, name: str, **arguments: Any) -> Any:
        if self._client is None:
            command = [program("python"), "-W", "ignore", "-c", _CLIENT, self.url]
            self._client = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            self._running.callback(_end, self._client)
        assert self._client.stdin is not None
        self._client.stdin.write(json.dumps([name, arguments]).encode() + b"\n")
        self._client.stdin.flush()
        return json.loads(read_line(self._client, 120))


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        pipe.close()
