"""The command line of jobs: `sluice jobs <action>`. Decides names, options and what each is called.

Imports nothing of the runner, so that `sluice jobs --help` is quick; `jobs.commands` has the work.
Exit codes: 0 ok; 1 the answer is "no" (the job failed, no such job, no runner); 2 the command line or the job file is
wrong; 3 the runner cannot start; 130 interrupted.
"""

from __future__ import annotations

import argparse

EPILOG = (
    "exit codes: 0 ok, 1 the job failed, there is no such job or no runner, 2 bad usage or job file, 3 cannot start, "
    "130 interrupted"
)
_ID = {"metavar": "ID", "type": int, "help": "the job's number"}


def add_job_parsers(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds every action; each sets `action` to the name of its function in `jobs.commands`."""
    run = _action(actions, "run", "run a job file in the foreground; Ctrl-C cancels it")
    run.add_argument("file", metavar="FILE", help="the job file (TOML or JSON)")
    run.add_argument("--quiet", action="store_true", help="do not copy the job's output")
    _capacity(run)
    serve = _action(actions, "serve", "run the runner: queue, slots, REST on loopback")
    serve.add_argument("--port", type=int, default=8010, help="REST port on 127.0.0.1 (default 8010; 0: any)")
    _capacity(serve)
    serve.add_argument(
        "--ray", metavar="URL", help="run jobs on the Ray cluster with this dashboard; give its size with --cpus, …"
    )
    serve.add_argument(
        "--simulate-spot", metavar="SECONDS", type=float,
        help="for trying out: take a preemptible job away every SECONDS on average, half of them without notice",
    )  # fmt: skip
    serve.add_argument("--simulate-spot-seed", metavar="N", type=int, default=0, help="seed of that")
    submit = _action(actions, "submit", "hand a job file to the runner")
    submit.add_argument("file", metavar="FILE", help="the job file (TOML or JSON)")
    submit.add_argument("--key", help="submission key: the same key and file twice is one job")
    check = _action(actions, "check", "say everything that is wrong with a job file")
    check.add_argument("file", metavar="FILE", help="the job file (TOML or JSON)")
    _action(actions, "schema", "print the JSON Schema of the job file")
    listing = _action(actions, "list", "list jobs, newest first")
    listing.add_argument("--state", dest="states", action="append", default=[], metavar="STATE",
                         help="only these: queued, running, succeeded, failed, cancelled; may be repeated")  # fmt: skip
    listing.add_argument("--limit", type=int, default=50, help="how many (default 50)")
    _action(actions, "show", "everything about one job").add_argument("id", **_ID)  # type: ignore[arg-type]
    logs = _action(actions, "logs", "print a job's output")
    logs.add_argument("id", **_ID)  # type: ignore[arg-type]
    logs.add_argument("-f", "--follow", action="store_true", help="until the job (or the named attempt) has ended")
    logs.add_argument("--attempt", type=int, metavar="N", help="of this attempt; default: the last")
    _action(actions, "metrics", "print what a job has reported").add_argument("id", **_ID)  # type: ignore[arg-type]
    cancel = _action(actions, "cancel", "cancel a job; its processes get their grace")
    cancel.add_argument("id", **_ID)  # type: ignore[arg-type]
    cancel.add_argument("--now", action="store_true", help="without grace")
    resume = _action(actions, "resume", "queue a failed or cancelled job again; it finds its checkpoints")
    resume.add_argument("id", **_ID)  # type: ignore[arg-type]
    preempt = _action(actions, "preempt", "give a preemptible job notice; it is queued again")
    preempt.add_argument("id", **_ID)  # type: ignore[arg-type]
    search = _action(actions, "search", "search the best parameters of a job; the same command goes on after a kill")
    search.add_argument("file", metavar="FILE", help="the search file (TOML or JSON)")
    pipeline = _action(actions, "pipeline", "train, evaluate, quantize, publish, release; the same command goes on")
    pipeline.add_argument("file", metavar="FILE", help="the pipeline file (TOML or JSON)")
    pipeline.add_argument("--key", help="name of the run; default: the one that has not ended, else a new number")
    approve = _action(actions, "approve", "approve a pipeline's run that waits for it")
    approve.add_argument("name", metavar="NAME", help="the pipeline's name")
    approve.add_argument("--key", help="name of the run; default: the one that has not ended")
    approve.add_argument("--refuse", action="store_true", help="refuse it")
    approve.add_argument("--by", help="who decides; default: your user name")
    approve.add_argument("--reason", default="", help="why")
    privacy = _action(actions, "privacy", "show or set the privacy budget of a data set")
    privacy.add_argument("what", choices=("show", "set"))
    privacy.add_argument("dataset", metavar="DATASET")
    privacy.add_argument("--registry", default="model_repo", help="folder or s3://bucket/prefix (default model_repo)")
    privacy.add_argument("--epsilon", type=float, default=0.0, help="with set: the whole budget")
    privacy.add_argument("--delta", type=float, default=1e-4, help="with set: likewise (default 1e-4)")
    collect = _action(actions, "gc", "forget jobs that have ended, with their files")
    collect.add_argument("--older-than-days", type=float, default=30.0, metavar="DAYS", help="default 30")


def _action(
    actions: argparse._SubParsersAction[argparse.ArgumentParser], name: str, what: str
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=what, description=what[0].upper() + what[1:] + ".", epilog=EPILOG)
    parser.add_argument(
        "--state-folder", metavar="FOLDER", help="default: $SLUICE_JOBS_STATE, else ~/.local/state/sluice/jobs"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(action=name, state_folder=None)
    return parser


def _capacity(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cpus", type=int, help="CPU slots; default: this machine's")
    parser.add_argument("--gpus", type=int, help="GPU slots; default: this machine's")
    parser.add_argument("--memory-mib", type=int, help="memory slots; default: this machine's")
