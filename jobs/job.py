"""The job file, typed: what is run, with what, for how long, and what it promises.

Decides which settings a job has, their defaults, units and bounds. How a document becomes a `Job` is `job_loading`'s
business; `job.schema.json` is generated from this file by `job_schema`.

Invariants: immutable; a `Job` that `job_loading` returned satisfies every bound below; units stand in the names.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

Scalar = str | int | float | bool
RETRYABLE = ("error", "out_of_memory", "time_limit", "outputs_missing")
_WEEK_S = 7 * 24 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What is known about a setting besides its type: meaning, inclusive bounds, pattern, allowed words."""

    doc: str
    minimum: int | None = None
    maximum: int | None = None
    pattern: str | None = None
    choices: tuple[str, ...] = ()


def _setting(default: Any, doc: str, **rule: Any) -> Any:
    return field(default=default, metadata={"rule": Rule(doc=doc, **rule)})


def _made(default: Callable[[], Any], doc: str) -> Any:
    return field(default_factory=default, metadata={"rule": Rule(doc=doc)})


def _nothing() -> Mapping[str, Any]:
    return MappingProxyType({})


def _required(doc: str, **rule: Any) -> Any:
    return field(metadata={"rule": Rule(doc=doc, **rule)})


def rule_of(setting: dataclasses.Field[Any]) -> Rule:
    """Returns the rule of a field of one of the classes below."""
    rule: Rule = setting.metadata["rule"]
    return rule


def default_of(setting: dataclasses.Field[Any]) -> Any:
    """Returns the default of a field, or dataclasses.MISSING if it is required."""
    if setting.default_factory is not dataclasses.MISSING:
        return setting.default_factory()
    return setting.default


# The tables below are laid out by hand: one or two lines a setting can be read, five cannot.
# fmt: off

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What one attempt occupies while it runs."""

    cpus: int = _setting(1, "CPU slots; also the number of threads of OpenMP, BLAS and torch unless the job's "
                         "environment says otherwise.", minimum=1, maximum=4096)
    gpus: int = _setting(0, "GPU slots; CUDA_VISIBLE_DEVICES names the ones given.", minimum=0, maximum=64)
    memory_mib: int = _setting(0, "Memory of all processes of the job together; above it the attempt is ended as "
                               "out_of_memory. 0: neither counted nor limited.", minimum=0, maximum=1 << 24)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpointing:
    """Where and how often the job saves its state. The job does it (see `jobs.checkpoint`); the runner tells it."""

    folder: str = _setting("", "Folder of the checkpoints; empty: one of the job's own below the runner's state.")
    interval_s: int = _setting(60, "Seconds of work between checkpoints.", minimum=1, maximum=_WEEK_S)
    keep: int = _setting(3, "How many checkpoints are kept.", minimum=1, maximum=1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one attempt besides memory and time."""

    log_mib: int = _setting(64, "Log kept: the first eighth and the newest rest; what is between is dropped.",
                            minimum=1, maximum=1 << 20)
    file_mib: int = _setting(0, "Largest file the job may write (RLIMIT_FSIZE). 0: not limited.",
                             minimum=0, maximum=1 << 30)
    open_files: int = _setting(0, "Open files of one process (RLIMIT_NOFILE). 0: as the runner's.",
                               minimum=0, maximum=1 << 20)
    processes: int = _setting(0, "Processes and threads of the job together; above it the attempt is ended. "
                              "0: not limited.", minimum=0, maximum=1 << 20)


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """One pinned input: a file with its sha256, or a Delta table with its version.

    What is left open (no sha256, version "latest") is resolved and recorded at submit; every attempt checks it.
    """

    name: str = _required("Name; the job finds the path in SLUICE_INPUT_<NAME> and by {inputs.<name>}.", pattern=_NAME)
    path: str = _setting("", "A file.")
    sha256: str = _setting("", "Its digest, 64 hexadecimal digits; empty: recorded at submit.",
                           pattern=r"([0-9a-f]{64})?")
    table: str = _setting("", "Or: a Delta table, a folder or s3://bucket/path (extra `jobs`; its keys come from the "
                        "runner's environment: AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, …).")
    version: int | Literal["latest"] | None = _setting(
        None, "The table's version, a number or \"latest\"; the number is recorded at submit.", minimum=0)
    schema: str = _setting("", "A pandera schema, module:name, that the table must satisfy before the program starts; "
                         "rows that do not are named.",
                           pattern=r"([A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracking:
    """Where parameters, metrics and outputs are copied to, besides the runner's own folder."""

    mlflow: str = _setting("", "Address of an MLflow tracking server (the extra `mlflow`); empty: nowhere.",
                           pattern=r"(https?://.+)?")
    experiment: str = _setting("sluice", "The experiment there.", pattern=r".{1,200}")
    artifacts: bool = _setting(True, "Copy the outputs too, when the job has succeeded.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Privacy:
    """What the job may spend of a data set's privacy budget; it is entered in the ledger before the program starts."""

    dataset: str = _setting("", "Name of the data set in the ledger; empty: no privacy.", pattern=rf"({_NAME})?")
    epsilon: float = _setting(0.0, "Epsilon the program may spend.", minimum=0, maximum=1000)
    delta: float = _setting(1e-5, "Delta, likewise.", minimum=0, maximum=1)
    registry: str = _setting("model_repo", "The registry that keeps the ledger: a folder or s3://bucket/prefix.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job. Relative paths are relative to `folder`, and `folder` to the job file."""

    name: str = _required("Name for people; need not be unique.", pattern=_NAME)
    command: tuple[str, ...] = _setting((), "What is run: program and first arguments. Not a shell line; "
                                        "[\"sh\", \"-c\", \"…\"] is one.")
    function: str = _setting("", "Or: a Python function, module:function, called with `parameters` as keywords.",
                             pattern=r"([A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*)?")
    python: str = _setting("", "The Python that runs `function` and starts ranks; empty: the runner's own.")
    ranks: int = _setting(0, "Data-parallel processes that torchrun starts (torch must be in `python`); they share the "
                          "job's cpus. 0: one ordinary process.", minimum=0, maximum=1024)
    arguments: tuple[str, ...] = _setting((), "Further arguments of `command`. {output_folder}, {checkpoint_folder}, "
                                          "{seed} and {inputs.<name>} are replaced.")
    parameters: Mapping[str, Scalar] = _made(_nothing, "Keyword arguments of `function`; recorded with the job.")
    folder: str = _setting(".", "Working folder.")
    environment: Mapping[str, str] = _made(_nothing, "Environment variables, on top of the few that are handed on.")
    inherit_environment: tuple[str, ...] = _setting(
        (), "Names of variables handed on from the runner's environment (secrets belong there, not into the file).")
    owner: str = _setting("", "Whose share it counts towards; empty: who submits.", pattern=r"[A-Za-z0-9._@-]{0,64}")
    priority: int = _setting(0, "Higher goes first.", minimum=-1000, maximum=1000)
    seed: int = _setting(0, "Seed, in SLUICE_SEED and PYTHONHASHSEED.", minimum=0, maximum=(1 << 32) - 1)
    preemptible: bool = _setting(False, "May be stopped with notice and started again later.")
    yield_to: str = _setting("", "gateway: the job gets only processor time that nobody else wants, and is paused "
                             "while the gateway has requests.", choices=("", "gateway"))
    retries: int = _setting(0, "How often it is started again after a failure named in retry_on.",
                            minimum=0, maximum=1000)
    retry_on: tuple[str, ...] = _setting(("error",), "Which failures are retried.", choices=RETRYABLE)
    retry_delay_s: int = _setting(1, "Pause before the first retry (doubles with each, up to 5 minutes), and before "
                                "going on after an interruption.",
                                  minimum=0, maximum=300)
    interruptions: int = _setting(100, "How often it is started again after being preempted or lost.",
                                  minimum=0, maximum=1_000_000)
    time_limit_s: int = _setting(0, "Longest time of one attempt. 0: not limited.", minimum=0, maximum=52 * _WEEK_S)
    grace_s: int = _setting(10, "Time between SIGTERM and SIGKILL.", minimum=0, maximum=3600)
    outputs: tuple[str, ...] = _setting((), "Files promised: paths or patterns below the output folder. Success "
                                        "without them is a failure.")
    resources: Resources = _made(Resources, "What one attempt occupies.")  # noqa: RUF009
    checkpoint: Checkpointing = _made(Checkpointing, "Checkpoints.")  # noqa: RUF009
    limits: Limits = _made(Limits, "Further bounds.")  # noqa: RUF009
    tracking: Tracking = _made(Tracking, "Tracking.")  # noqa: RUF009
    privacy: Privacy = _made(Privacy, "Privacy budget.")  # noqa: RUF009
    inputs: tuple[Input, ...] = _setting((), "Pinned inputs.")
# fmt: on
