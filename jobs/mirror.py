"""Copies jobs to MLflow: `python mirror.py STATE-FOLDER`, a process of its own beside the runner.

Decides what is sent: a run for every job that names a server, its parameters, lineage, metrics as they come, outputs
when it has succeeded, how it ended. Invariants: the runner and the jobs know nothing of this process, so a server that
is down, slow or gone delays copies and nothing else; what could not be sent is tried again; a run is made once (it is
looked for by its tag before it is made). Reads the state folder; writes `mlflow.json` beside each job.
"""

from __future__ import annotations

import json
import os
import select
import sys
from pathlib import Path
from typing import Any

_LOOK_S, _TROUBLE_S, _BATCH = 0.5, 5.0, 500
_TAG = "sluice.job"


def main(root: Path) -> None:
    """Copies until every job that has ended is copied and the runner is gone."""
    from jobs.state_folder import StateFolder
    from jobs.store import Store

    for name, value in (("TIMEOUT", "10"), ("MAX_RETRIES", "0")):
        os.environ.setdefault(f"MLFLOW_HTTP_REQUEST_{name}", value)
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    os.dup2(2, 1)  # whatever a library prints, the command's output is not the place
    state, said = StateFolder(root), ""
    while True:
        # Asked before looking: what ended before the runner did is then copied in this round.
        last, trouble = _ended(0.0), ""
        with Store(root, read_only=True) as store:
            for record in store.jobs():
                if not record.job.tracking.mlflow or _done(state.of_job(record.id)):
                    continue
                try:
                    _Copy(state, store, record.id).bring_up_to_date()
                except Exception as error:  # whatever a server answers, the next look tries again
                    trouble = f"job {record.id}: {type(error).__name__}: {str(error)[:300]}"
        if trouble and trouble != said:
            print(f"sluice: not copied to MLflow yet: {trouble}", file=sys.stderr, flush=True)
        said = trouble
        if last:
            return
        _ended(_TROUBLE_S if trouble else _LOOK_S)


def _ended(wait_s: float) -> bool:
    """Returns whether the runner is gone (it holds our standard input), after `wait_s` seconds at most."""
    return bool(select.select([sys.stdin], [], [], wait_s)[0])


def _done(folder: Path) -> bool:
    from jobs import files

    return bool((files.read_json(folder / "mlflow.json") or {}).get("done"))


class _Copy:
    """One job's run."""

    def __init__(self, state: Any, store: Any, number: int) -> None:
        from mlflow import MlflowClient

        from jobs import files

        self._state = state
        self._record = store.known(number)
        self._file = state.of_job(number) / "mlflow.json"
        self._known: dict[str, Any] = files.read_json(self._file) or {"run": None, "loose": 0, "step": -1}
        self._client = MlflowClient(self._record.job.tracking.mlflow)

    def bring_up_to_date(self) -> None:
        """Sends what is new, and at the end of the job how it ended."""
        from jobs import reading

        record = self._record
        rows = reading.metrics(self._state.metrics(record.id))
        if record.attempts == 0 and not record.state.final:
            return
        if self._known["run"] is None:
            self._known["run"] = self._run()
            self._keep()
        self._send(rows)
        if not record.state.final:
            return
        run = self._known["run"]
        if record.state == "succeeded" and record.job.tracking.artifacts:
            self._client.log_artifacts(run, str(self._state.outputs(record.id)))
        self._client.set_tag(run, "sluice.reason", record.reason or "")
        status = {"succeeded": "FINISHED", "cancelled": "KILLED"}.get(record.state, "FAILED")
        self._client.set_terminated(run, status=status)
        self._known["done"] = True
        self._keep()

    def _run(self) -> str:
        from mlflow.entities import Param, RunTag

        from jobs import files, lineage

        job, name = self._record.job, f"{self._state.root}#{self._record.id}"
        experiment = self._client.get_experiment_by_name(job.tracking.experiment)
        where = experiment.experiment_id if experiment else self._client.create_experiment(job.tracking.experiment)
        found = self._client.search_runs([where], f"tags.`{_TAG}` = '{name}'", max_results=1)
        run = found[0] if found else self._client.create_run(where, run_name=job.name, tags={_TAG: name})
        known = files.read_json(lineage.path(self._state, self._record.id)) or {}
        tags = {f"sluice.{key}": known.get(key) for key in ("code", "inputs", "environment_sha256", "owner")}
        parameters = {**job.parameters, "seed": job.seed}
        self._client.log_batch(
            run.info.run_id,
            params=[Param(key, str(value)[:6000]) for key, value in parameters.items()],
            tags=[RunTag(k, v if isinstance(v, str) else json.dumps(v)[:5000]) for k, v in tags.items() if v],
        )
        return str(run.info.run_id)

    def _send(self, rows: list[dict[str, Any]]) -> None:
        """Sends the numbers of rows that are new; MLflow takes one that comes twice as one."""
        from mlflow.entities import Metric

        loose = [row for row in rows if not isinstance(row.get("step"), int)]
        fresh = loose[self._known["loose"] :] + [row for row in rows if row.get("step", -1) > self._known["step"]]
        found = [
            Metric(name, float(value), int(row["at"] * 1000), int(row.get("step", 0)))
            for row in fresh
            for name, value in row.items()
            if name not in ("at", "step", "total") and isinstance(value, int | float) and not isinstance(value, bool)
        ]
        for begin in range(0, len(found), _BATCH):
            self._client.log_batch(self._known["run"], metrics=found[begin : begin + _BATCH])
        if fresh:
            self._known["loose"] = len(loose)
            self._known["step"] = max([self._known["step"], *(row["step"] for row in fresh if "step" in row)])
            self._keep()

    def _keep(self) -> None:
        from jobs import files

        files.replace(self._file, json.dumps(self._known).encode())


if __name__ == "__main__":
    # This file's own folder is first on the path of a script; it must not shadow anything.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    main(Path(sys.argv[1]))
