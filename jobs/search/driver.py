"""Drives a search: asks the study, hands trials to the runner, reports, prunes, tells, and trains the winner.

Decides nothing that the study does not say. Invariants, whenever this process is killed: a trial is in the study before
its job is submitted, and its job has the trial's key, so no trial runs twice; a trial that is under way in the study is
taken up again, so none is lost; what a trial reported is told to the study once per step.
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from jobs import job_loading, reading
from jobs.client import Client, RunnerRefused
from jobs.documents import JobError
from jobs.job import Job
from jobs.search import study as studies
from jobs.search.search import Search, trial_job
from jobs.state_folder import StateFolder
from jobs.states import JobState
from jobs.store import JobRecord, Store

LOOK_S = 0.2
_JOB, _DETAIL = "job", "detail"


@dataclass(frozen=True, slots=True)
class Ended:
    """A trial that has ended, for whoever watches."""

    trial: FrozenTrial
    done: int
    wanted: int
    best: FrozenTrial | None


class Driver:
    """Owns the trials under way. `run` blocks."""

    def __init__(
        self, search: Search, job: Job, folder: Path, client: Client, state: StateFolder, heard: Callable[[Ended], None]
    ) -> None:
        self._search = search
        self._job = job
        self._client = client
        self._state = state
        self._heard = heard
        self.study = studies.open_study(search, folder)
        self._trials: dict[int, int] = {}  # number of the trial: number of its job

    def run(self, stop: threading.Event) -> bool:
        """Returns True when all trials are done, False if `stop` was set first."""
        for left in studies.running(self.study):
            self._hand_over(studies.complete(self._search, self.study, left._trial_id))
        wanted = studies.trials_wanted(self._search)
        with Store(self._state.root, read_only=True) as store:
            while not stop.is_set():
                while (
                    len(self._trials) < self._search.parallel
                    and studies.begun(self.study) < wanted
                    and not self._hopeless()
                ):
                    self._hand_over(studies.ask(self._search, self.study))
                if not self._trials:
                    return True
                for number, job in list(self._trials.items()):
                    self._look(store, number, job)
                stop.wait(LOOK_S)
        return False

    def retrain(self, stop: threading.Event) -> JobRecord | None:
        """Runs the winner's training and returns its job when it has ended; None if `stop` was set first."""
        best = self.study.best_trial
        job = trial_job(self._search, self._job, None, best.params)
        digest = hashlib.sha256(json.dumps(job_loading.to_document(job), sort_keys=True).encode()).hexdigest()[:12]
        number = self._submit(job, f"search:{self._search.name}:winner-{best.number}-{digest}")
        with Store(self._state.root, read_only=True) as store:
            while not (record := store.known(number)).state.final:
                if stop.wait(LOOK_S):
                    return None
        return record

    # ------------------------------------------------------------------ one trial

    def _hand_over(self, trial: Trial) -> None:
        job = trial_job(self._search, self._job, trial.number, trial.params)
        number = self._submit(job, f"search:{self._search.name}:{trial.number}")
        self._trials[trial.number] = number
        trial.set_user_attr(_JOB, number)

    def _submit(self, job: Job, key: str) -> int:
        """Returns the job's number; the same key again is the same job."""
        answer = self._client.call("POST", "/v1/jobs", {"job": job_loading.to_document(job), "key": key})
        return int(answer["id"])

    def _look(self, store: Store, number: int, job: int) -> None:
        # Asked before reading: what was reported until the end is then read in this round.
        record = store.known(job)
        frozen = self.study.get_trials(deepcopy=False)[number]
        trial = Trial(self.study, frozen._trial_id)
        values = _reported(reading.metrics(self._state.metrics(job)), self._search.metric)
        if not record.state.final:
            self._prune(trial, frozen, values, job)
            return
        for step, value in values:
            if step is not None and step not in frozen.intermediate_values:
                trial.report(value, step)
        state, result, detail = self._outcome(record, values, pruned=studies.PRUNED in frozen.user_attrs)
        if detail:
            trial.set_user_attr(_DETAIL, detail)
        told = self.study.tell(trial, result, state, skip_if_finished=True)
        del self._trials[number]
        self._heard(Ended(told, self._done(), studies.trials_wanted(self._search), best_of(self.study)))

    def _prune(self, trial: Trial, frozen: FrozenTrial, values: list[tuple[int | None, float]], job: int) -> None:
        """Reports what is new; ends the trial if the pruner says so."""
        if studies.PRUNED in frozen.user_attrs:
            self._cancel(job)
            return
        for step, value in values:
            if step is None or step in frozen.intermediate_values:
                continue
            trial.report(value, step)
            if step >= self._search.pruning.warmup_steps and trial.should_prune():
                trial.set_user_attr(studies.PRUNED, step)
                self._cancel(job)
                return

    def _cancel(self, job: int) -> None:
        try:
            self._client.call("POST", f"/v1/jobs/{job}/cancel", {})
        except RunnerRefused as error:
            raise JobError([f"job {job} cannot be cancelled: {error}"]) from error

    def _outcome(
        self, record: JobRecord, values: list[tuple[int | None, float]], *, pruned: bool
    ) -> tuple[TrialState, float | None, str]:
        if record.state is JobState.SUCCEEDED:
            if not values:
                return TrialState.FAIL, None, f"it reported no finite {self._search.metric}"
            return TrialState.COMPLETE, self._value(values), ""
        if record.state is JobState.CANCELLED and pruned and values:
            return TrialState.PRUNED, None, ""
        return TrialState.FAIL, None, f"{record.state}: {record.reason} {record.detail}".strip()

    def _value(self, values: list[tuple[int | None, float]]) -> float:
        if self._search.value == "last":
            return values[-1][1]
        return (max if self._search.direction == "maximize" else min)(value for _, value in values)

    # ------------------------------------------------------------------ the whole

    def _done(self) -> int:
        return sum(trial.state.is_finished() for trial in self.study.get_trials(deepcopy=False))

    def _hopeless(self) -> bool:
        """Returns whether the last trials to end all failed."""
        ended = [trial for trial in self.study.get_trials(deepcopy=False) if trial.state.is_finished()]
        last = sorted(ended, key=lambda trial: (trial.datetime_complete, trial.number))[-self._search.failures :]
        return len(last) == self._search.failures and all(trial.state is TrialState.FAIL for trial in last)


def best_of(study: optuna.Study) -> FrozenTrial | None:
    """Returns the best trial that ran to its end."""
    try:
        return study.best_trial
    except ValueError:
        return None


def _reported(rows: list[dict[str, Any]], metric: str) -> list[tuple[int | None, float]]:
    """Returns step and value of every row that has a finite value of the metric."""
    return [(_step(row), float(row[metric])) for row in rows if _finite(row.get(metric))]


def _step(row: Mapping[str, Any]) -> int | None:
    step = row.get("step")
    return step if isinstance(step, int) and step >= 0 else None


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
