"""The search file, typed: which job, which parameters in which ranges, how many trials, what is best.

Decides the settings of a search, their defaults and bounds, and which of them contradict each other.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs import documents, job_loading
from jobs.documents import JobError
from jobs.job import Job, Scalar, _made, _nothing, _required, _setting

PLACEHOLDER = "{search.%s}"
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_PARAMETER = r"[A-Za-z_][A-Za-z0-9_]*"
_MOST_TRIALS = 100_000

# fmt: off


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter that is searched: a range (two integers: whole numbers), or choices."""

    name: str = _required("Parameter of the job's function, or {search.<name>} in its arguments.", pattern=_PARAMETER)
    low: float | None = _setting(None, "Smallest value.")
    high: float | None = _setting(None, "Largest value, included.")
    step: float | None = _setting(None, "Only values low, low + step, …")
    log: bool = _setting(False, "Search the logarithm.")
    choices: tuple[str | int | float | bool, ...] = _setting((), "Or: these values.")

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruning:
    """When a trial that does badly is ended early."""

    method: str = _setting("median", "median: worse than the median of the trials before at that step; halving, "
                           "hyperband: successive halving; none.", choices=("median", "halving", "hyperband", "none"))
    startup_trials: int = _setting(5, "So many trials run to their end first (median).", minimum=0, maximum=10_000)
    warmup_steps: int = _setting(0, "No trial is ended before this step.", minimum=0, maximum=1 << 40)
    most_steps: int = _setting(100, "The last step of a whole trial (hyperband).", minimum=1, maximum=1 << 40)


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """One search."""

    name: str = _required("Name of the study; one search a name and state folder.", pattern=_NAME)
    job: str = _required("The job file whose parameters are searched, relative to this file.")
    metric: str = _required("What the job reports (`jobs.metrics`) and what is compared.")
    direction: str = _setting("maximize", "What is better.", choices=("maximize", "minimize"))
    value: str = _setting("last", "Which report counts for the trial: the last, or the best.", choices=("last", "best"))
    trials: int = _setting(20, "How many trials, those that fail or are pruned included.", minimum=1,
                           maximum=_MOST_TRIALS)
    parallel: int = _setting(1, "How many trials are handed to the runner at once; its slots decide how many run.",
                             minimum=1, maximum=1000)
    sampler: str = _setting("tpe", "How values are chosen; gp needs torch.",
                            choices=("tpe", "random", "qmc", "grid", "gp"))
    seed: int = _setting(0, "Seed of the sampler.", minimum=0, maximum=(1 << 32) - 1)
    storage: str = _setting("sqlite", "Where the study is kept.", choices=("sqlite", "journal"))
    failures: int = _setting(5, "So many trials that fail one after another end the search.", minimum=1,
                             maximum=_MOST_TRIALS)
    retrain: bool = _setting(True, "Run the job once more with the best parameters when all trials are done.")
    retrain_parameters: Mapping[str, Scalar] = _made(_nothing, "Parameters of the job for that run alone, such as more "
                                                     "epochs.")
    pruning: Pruning = _made(Pruning, "Pruning.")  # noqa: RUF009
    space: tuple[Parameter, ...] = _setting((), "What is searched.")
# fmt: on


def load(path: Path) -> tuple[Search, Job]:
    """Returns the search in a file and its job. Raises JobError with every problem found in either."""
    problems: list[str] = []
    document = documents.read(path)
    search: Search | None = documents.table(Search, document, "", problems)
    named = document.get("job") if isinstance(document, Mapping) else None
    job: Job | None = None
    if isinstance(named, str):
        try:
            job = job_loading.load(path.absolute().parent / named)
        except JobError as error:
            problems += [f"job: {problem}" for problem in error.problems]
    if search is not None:
        problems += _cross_check(search, job)
    if problems or search is None or job is None:
        raise JobError(problems)
    return search, job


def _cross_check(search: Search, job: Job | None) -> Iterable[str]:
    if not search.space:
        yield "space: give at least one parameter"
    seen = set()
    for index, parameter in enumerate(search.space):
        where = f"space[{index}]"
        if parameter.name in seen:
            yield f"{where}.name: '{parameter.name}' is there twice"
        seen.add(parameter.name)
        yield from _check_parameter(where, parameter, search.sampler)
        if job is not None and job.command:
            shown = PLACEHOLDER % parameter.name
            if not any(shown in part for part in (*job.command, *job.arguments)):
                yield f"{where}.name: the job's command has no {shown}"
    if job is not None and job.command and search.retrain_parameters:
        yield "retrain_parameters: the job is a command and has no parameters"


def _check_parameter(where: str, parameter: Parameter, sampler: str) -> Iterable[str]:
    low, high = parameter.low, parameter.high
    if parameter.choices:
        if low is not None or high is not None or parameter.step is not None or parameter.log:
            yield f"{where}: give choices, or low and high"
        return
    if low is None or high is None:
        yield f"{where}: give low and high, or choices"
        return
    if low > high:
        yield f"{where}.high: must be at least {low}, not {high}"
    if parameter.log and low <= 0:
        yield f"{where}.low: must be above 0 with log, not {low}"
    if parameter.step is not None and (parameter.step <= 0 or parameter.log):
        yield f"{where}.step: must be above 0 and without log"
    if parameter.whole and parameter.step is not None and not isinstance(parameter.step, int):
        yield f"{where}.step: must be whole, as low and high are"
    if sampler == "grid" and parameter.step is None:
        yield f"{where}.step: a grid needs a step or choices"


def trial_job(search: Search, job: Job, number: int | None, values: Mapping[str, Scalar]) -> Job:
    """Returns the job of a trial (of the winner's last training with number None)."""
    name = f"{search.name[:50]}-{'winner' if number is None else number}"
    if job.command:

        def filled(parts: tuple[str, ...]) -> tuple[str, ...]:
            for parameter, value in values.items():
                parts = tuple(part.replace(PLACEHOLDER % parameter, _text(value)) for part in parts)
            return parts

        return dataclasses.replace(job, name=name, command=filled(job.command), arguments=filled(job.arguments))
    more = search.retrain_parameters if number is None else {}
    return dataclasses.replace(job, name=name, parameters={**job.parameters, **values, **more})


def _text(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def to_document(search: Search, job: Job) -> dict[str, Any]:
    """Returns what makes a search the same search: two starts with equal documents go on with one study."""
    return {"search": documents.plain(search), "job": job_loading.to_document(job)}
