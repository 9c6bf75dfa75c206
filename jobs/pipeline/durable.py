"""The order of a pipeline's steps as a DBOS workflow: what each step returned is recorded in SQLite before the next.

Decides what is run again: after a kill the workflow goes on behind the last step on record; after a failure (all tries
used up) the next start forks it at the step that failed, with the records of those before it, so a publish that failed
is tried again without training. Refusals are results, not failures: they end the workflow.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dbos import DBOS, SetWorkflowID

from jobs.pipeline import releasing, steps
from jobs.pipeline.steps import Run, Stopped

_NAME, _VERSION = "sluice-pipeline", "1"
_MOST_ROUNDS = 10_000


class Failed(Exception):
    """A step failed as often as it may."""


def perform(run: Run) -> dict[str, Any]:
    """Returns the run's result: `state` is released, published or refused. Raises Failed, Stopped."""
    DBOS(
        config={
            "name": _NAME, "system_database_url": f"sqlite:///{run.folder / 'steps.sqlite'}", "log_level": "CRITICAL",
            "application_version": _VERSION, "run_admin_server": False,
        }
    )  # fmt: skip
    logging.getLogger("dbos").setLevel(logging.CRITICAL)
    workflow = _workflow(run)
    DBOS.launch()  # takes up what an earlier process left
    try:
        handle = _begun(workflow)
        return dict(handle.get_result())
    except Stopped:
        raise
    except Exception as error:
        if run.stop.is_set():
            raise Stopped from error
        raise Failed(str(error)) from error
    finally:
        with contextlib.suppress(Exception):
            DBOS.destroy()


def _begun(workflow: Callable[[], Any]) -> Any:
    """Returns the handle of the newest round: the first, one that goes on, or one forked from a failed one."""
    round_ = 1
    while DBOS.get_workflow_status(f"round-{round_ + 1}") is not None and round_ < _MOST_ROUNDS:
        round_ += 1
    status = DBOS.get_workflow_status(f"round-{round_}")
    if status is None:
        with SetWorkflowID("round-1"):
            return DBOS.start_workflow(workflow)
    if status.status != "ERROR":
        return DBOS.retrieve_workflow(f"round-{round_}")
    failed = [step["function_id"] for step in DBOS.list_workflow_steps(f"round-{round_}") if step["error"] is not None]
    with SetWorkflowID(f"round-{round_ + 1}"):
        return DBOS.fork_workflow(f"round-{round_}", min(failed, default=1))


def _workflow(run: Run) -> Callable[[], Any]:
    given = run.pipeline

    def step(name: str, work: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
        def performed(*arguments: Any) -> dict[str, Any]:
            if run.stop.is_set():
                raise Stopped
            run.say(name)
            run.reached(f"{name}: begins")
            result = work(run, *arguments)
            run.reached(f"{name}: done")
            return result

        return DBOS.step(  # type: ignore[no-any-return]
            name=name, retries_allowed=given.attempts > 1, max_attempts=given.attempts, interval_seconds=given.pause_s,
            should_retry=lambda error: not isinstance(error, Stopped),
        )(performed)  # fmt: skip

    train, evaluate, approve = (step(n, getattr(steps, n)) for n in ("train", "evaluate", "approve"))
    quantize, publish = (step(n, getattr(steps, n)) for n in ("quantize", "publish"))
    release = step("release", releasing.release)

    def workflow() -> dict[str, Any]:
        done: dict[str, Any] = {"train": train()}
        outputs = Path(done["train"]["outputs"])
        done["evaluate"] = evaluate(outputs)
        if done["evaluate"]["refused"]:
            return _refused("evaluate", done)
        if given.approval:
            done["approve"] = approve()
            if not done["approve"]["approved"]:
                done["approve"]["refused"] = [f"refused by {done['approve']['by']}: {done['approve']['reason']}"]
                return _refused("approve", done)
        folder = None
        if given.quantize.graph:
            done["quantize"] = quantize(outputs)
            if done["quantize"]["refused"]:
                return _refused("quantize", done)
            folder = Path(done["quantize"]["folder"])
        done["publish"] = publish(outputs, folder, done["evaluate"]["metrics"])
        done["release"] = release(done["publish"]["version"])
        if done["release"].get("refused"):
            return _refused("release", done)
        return {"state": "published" if done["release"]["outcome"] == "published" else "released", "steps": done}

    return DBOS.workflow(name="pipeline")(workflow)  # type: ignore[no-any-return]


def _refused(step: str, done: dict[str, Any]) -> dict[str, Any]:
    return {"state": "refused", "by": step, "refused": done[step]["refused"], "steps": done}
