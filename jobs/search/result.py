"""What a study found, as a document."""

from __future__ import annotations

import warnings
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from jobs.search.search import Search

_WORDS = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed",
          TrialState.RUNNING: "running", TrialState.WAITING: "waiting"}  # fmt: skip


def result_of(search: Search, study: optuna.Study) -> dict[str, Any]:
    """Returns everything about a study, for people's reports and for programs."""
    trials = [_trial(trial) for trial in study.get_trials(deepcopy=False) if trial.state is not TrialState.WAITING]
    complete = [trial for trial in trials if trial["state"] == "complete"]
    best = study.best_trial.number if complete else None
    return {
        "name": search.name,
        "metric": search.metric,
        "direction": search.direction,
        "sampler": search.sampler,
        "pruner": search.pruning.method,
        "seed": search.seed,
        "parameters": [parameter.name for parameter in search.space],
        "counts": {
            word: sum(t["state"] == word for t in trials) for word in ("complete", "pruned", "failed", "running")
        },
        "best": next((trial for trial in trials if trial["number"] == best), None),
        "importance": _importance(study),
        "winner": None,
        "trials": trials,
    }


def _trial(trial: FrozenTrial) -> dict[str, Any]:
    last = max(trial.intermediate_values, default=None)
    value = trial.value
    if trial.state is TrialState.PRUNED and last is not None:
        value = trial.intermediate_values[last]
    return {
        "number": trial.number,
        "state": _WORDS[trial.state],
        "value": value,
        "parameters": dict(trial.params),
        "reports": dict(trial.intermediate_values),
        "job": trial.user_attrs.get("job"),
        "detail": trial.user_attrs.get("detail", ""),
    }


def _importance(study: optuna.Study) -> dict[str, float]:
    """Returns each parameter's share; nothing if there is too little to tell."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = optuna.importance.get_param_importances(
                study, evaluator=optuna.importance.PedAnovaImportanceEvaluator()
            )
    except (ValueError, RuntimeError):
        return {}
    return {name: float(value) for name, value in found.items()}
