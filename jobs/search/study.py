"""The Optuna study of a search: its storage, samplers and pruners.

Decides which sampler makes the next trial: a new one for every trial, seeded by the search's seed and the trial's
number, so that a search that was killed goes on with other values than it began with, and the same search makes the
same first trials. A trial that was under way when the search was killed is completed, never made again.
"""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, Trial, TrialState

from jobs.search.search import Parameter, Search

PRUNED = "pruned_at"
_MOST_GRID = 100_000


def open_study(search: Search, folder: Path) -> optuna.Study:
    """Returns the study kept in `folder`, made if there is none."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage: Any
    if search.storage == "sqlite":
        storage = optuna.storages.RDBStorage(f"sqlite:///{folder / 'study.sqlite'}")
    else:
        backend = optuna.storages.journal.JournalFileBackend(str(folder / "study.journal"))
        storage = optuna.storages.JournalStorage(backend)
    study = optuna.create_study(
        storage=storage, study_name=search.name, direction=search.direction, pruner=_pruner(search), load_if_exists=True
    )
    if search.sampler == "grid":
        _enqueue_grid(search, study)
    return study


def trials_wanted(search: Search) -> int:
    """Returns how many trials there will be: a grid ends when it is used up."""
    if search.sampler != "grid":
        return search.trials
    return min(search.trials, math.prod(len(_values(parameter)) for parameter in search.space))


def ask(search: Search, study: optuna.Study) -> Trial:
    """Returns a new trial with all its parameters chosen."""
    study.sampler = _sampler(search, len(study.get_trials(deepcopy=False)))
    return complete(search, study, study.ask()._trial_id)


def complete(search: Search, study: optuna.Study, trial_id: int) -> Trial:
    """Returns a trial that was begun, with the parameters that it lacks chosen now."""
    trial = Trial(study, trial_id)
    for parameter in search.space:
        distribution = distribution_of(parameter)
        if isinstance(distribution, FloatDistribution):
            trial.suggest_float(
                parameter.name, distribution.low, distribution.high, step=distribution.step, log=distribution.log
            )
        elif isinstance(distribution, IntDistribution):
            trial.suggest_int(
                parameter.name, distribution.low, distribution.high, step=distribution.step, log=distribution.log
            )
        else:
            trial.suggest_categorical(parameter.name, parameter.choices)
    return trial


def running(study: optuna.Study) -> list[FrozenTrial]:
    """Returns the trials that are under way."""
    found: list[FrozenTrial] = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return found


def begun(study: optuna.Study) -> int:
    """Returns how many trials were ever begun."""
    return sum(trial.state is not TrialState.WAITING for trial in study.get_trials(deepcopy=False))


def distribution_of(parameter: Parameter) -> BaseDistribution:
    """Returns the parameter's range as Optuna says it."""
    if parameter.choices:
        return CategoricalDistribution(parameter.choices)
    assert parameter.low is not None
    assert parameter.high is not None
    if parameter.whole:
        return IntDistribution(
            int(parameter.low), int(parameter.high), log=parameter.log, step=int(parameter.step or 1)
        )
    return FloatDistribution(float(parameter.low), float(parameter.high), log=parameter.log, step=parameter.step)


def _sampler(search: Search, number: int) -> Any:
    seed = int(np.random.SeedSequence([search.seed, number]).generate_state(1)[0])
    if search.sampler == "random" or search.sampler == "grid":
        return optuna.samplers.RandomSampler(seed=seed)
    if search.sampler == "qmc":
        # The sequence is one: its place is kept in the storage, its seed must not change.
        return optuna.samplers.QMCSampler(seed=search.seed, warn_independent_sampling=False)
    if search.sampler == "gp":
        return optuna.samplers.GPSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed, constant_liar=search.parallel > 1)


def _pruner(search: Search) -> Any:
    given = search.pruning
    if given.method == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=given.startup_trials, n_warmup_steps=given.warmup_steps)
    if given.method == "halving":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=max(given.warmup_steps, 1))
    if given.method == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=max(given.warmup_steps, 1), max_resource=given.most_steps)
    return optuna.pruners.NopPruner()


def _values(parameter: Parameter) -> list[Any]:
    if parameter.choices:
        return list(parameter.choices)
    assert parameter.low is not None
    assert parameter.high is not None
    assert parameter.step is not None
    count = min(int((parameter.high - parameter.low) / parameter.step + 1e-9) + 1, _MOST_GRID)
    return [parameter.low + index * parameter.step for index in range(count)]


def _enqueue_grid(search: Search, study: optuna.Study) -> None:
    """Puts the grid's points in line, in a seeded order; a kill in the middle leaves no point twice and none out."""
    wanted = trials_wanted(search)
    axes = [_values(parameter) for parameter in search.space]
    if math.prod(len(axis) for axis in axes) > _MOST_GRID:
        raise ValueError(f"the grid has more than {_MOST_GRID} points")
    points = list(itertools.product(*axes))
    order = np.random.default_rng(search.seed).permutation(len(points))[:wanted]
    there = len(study.get_trials(deepcopy=False))
    for index in order[there:]:
        study.enqueue_trial({p.name: value for p, value in zip(search.space, points[index], strict=True)})
