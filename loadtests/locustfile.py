"""The locust users and the shape of the load. Run by `make loadtest` (headless) or `make loadtest-ui`.

Three kinds of users: REST with binary tensors over plain HTTP, gRPC with NVIDIA's tritonclient, and lean gRPC users on
asyncio (`lean`). Every answer is compared. grpcio is told about gevent before it makes a channel: otherwise one waiting
call stops every other user of the process (locustio/locust#1016).

Environment: LOADTEST_REST and LOADTEST_GRPC (host:port), LOADTEST_SHAPE, LOADTEST_SECONDS, LOADTEST_USERS,
LOADTEST_JOURNAL (where to write what happened), LOADTEST_STARTED (a file that says when the load began).
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

import gevent
import gevent.subprocess
import grpc.experimental.gevent
from locust import FastHttpUser, LoadTestShape, User, between, events, task
from locust.runners import WorkerRunner

grpc.experimental.gevent.init_gevent()

import tritonclient.grpc as triton  # noqa: E402 (after gevent is announced)

from gateway.bench.answers import decode_rest, same  # noqa: E402
from gateway.bench.encoding import HEADER_LENGTH, infer_path  # noqa: E402
from loadtests.journal import Journal  # noqa: E402
from loadtests.phases import phase_at, phases  # noqa: E402
from loadtests.samples import WEIGHTS, Sample, ask_expected, samples  # noqa: E402

REST = os.environ.get("LOADTEST_REST", "127.0.0.1:8000")
GRPC = os.environ.get("LOADTEST_GRPC", "127.0.0.1:8001")
SECONDS = float(os.environ.get("LOADTEST_SECONDS", "120"))
USERS = int(os.environ.get("LOADTEST_USERS", "18"))
JOURNAL = os.environ.get("LOADTEST_JOURNAL", "")
STARTED = os.environ.get("LOADTEST_STARTED", "")
PLAN = phases(os.environ.get("LOADTEST_SHAPE", "all"), SECONDS)
SAMPLES = samples()
_THINK_SECONDS = (0.01, 0.05)
_LAG_SECONDS = 0.05


class Run:
    """What the users of this process share."""

    def __init__(self) -> None:
        self.journal = Journal()
        self.began = 0.0
        self.lean: Any = None
        self.lean_users = 0
        self.reader: Any = None
        self.watcher: Any = None

    def at(self) -> float:
        """Returns seconds since the load began."""
        return time.perf_counter() - self.began


RUN = Run()


def choose(chooser: random.Random) -> Sample:
    """Returns one request, models by their weight."""
    model = chooser.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
    return chooser.choice(SAMPLES[model])


class RestUser(FastHttpUser):
    """REST with binary tensors."""

    host = f"http://{REST}"
    wait_time = between(*_THINK_SECONDS)
    network_timeout = connection_timeout = 60.0
    weight = 1

    def on_start(self) -> None:
        self.chooser = random.Random(id(self))

    @task
    def infer(self) -> None:
        sample = choose(self.chooser)
        body, length = sample.body()
        headers = {HEADER_LENGTH: str(length), "Content-Type": "application/octet-stream"}
        path, name = infer_path(sample.model, ""), f"REST {sample.model}"
        with self.client.post(path, data=body, headers=headers, name=name, catch_response=True) as response:
            if response.status_code != 200:
                response.failure(f"HTTP status {response.status_code}: {(response.content or b'')[:200]!r}")
                return
            announced = response.headers.get(HEADER_LENGTH)
            found = decode_rest(response.content, None if announced is None else int(announced))
            if sample.expected is None or not same(sample.expected, found):
                response.failure("wrong answer")


class TritonClientUser(User):
    """gRPC with tritonclient, one channel a user, as an application would have."""

    wait_time = between(*_THINK_SECONDS)
    weight = 1

    def on_start(self) -> None:
        self.chooser = random.Random(id(self))
        self.client = triton.InferenceServerClient(GRPC, channel_args=[("grpc.use_local_subchannel_pool", 1)])

    def on_stop(self) -> None:
        self.client.close()

    @task
    def infer(self) -> None:
        sample = choose(self.chooser)
        inputs = []
        for tensor in sample.tensors:
            entry = triton.InferInput(tensor.spec.name, list(tensor.spec.shape), tensor.spec.datatype.value)
            entry._raw_content = tensor.raw
            inputs.append(entry)
        started, error = time.perf_counter(), None
        try:
            answer = self.client.infer(sample.model, inputs, client_timeout=60.0)
            found = {name: answer.as_numpy(name) for name in sample.outputs}
            if sample.expected is None or not same(sample.expected, found):
                error = AssertionError("wrong answer")
        except Exception as problem:  # whatever it is, it is this request's result
            error = problem
        events.request.fire(
            request_type="gRPC", name=f"gRPC {sample.model}", response_length=0, exception=error, context={},
            response_time=(time.perf_counter() - started) * 1000,
        )  # fmt: skip


class LeanUser(User):
    """Stands for one lean user, which lives in the process beside."""

    weight = 1

    def on_start(self) -> None:
        want_lean(1)

    def on_stop(self) -> None:
        want_lean(-1)

    @task
    def live(self) -> None:
        gevent.sleep(0.5)


def want_lean(more: int) -> None:
    """Tells the process of the lean users how many there shall be."""
    RUN.lean_users += more
    if RUN.lean is not None and not RUN.lean.stdin.closed:
        RUN.lean.stdin.write(f"{RUN.lean_users}\n".encode())
        RUN.lean.stdin.flush()


class Shape(LoadTestShape):
    """The phases, as locust wants to be told."""

    use_common_options = False

    def tick(self) -> tuple[int, float] | None:
        """Returns how many users there shall be and how quickly, None at the end."""
        at = self.get_run_time()
        phase = phase_at(PLAN, at)
        if phase is None:
            return None
        return phase.users(at, USERS), 100.0


@events.test_start.add_listener
def begin(environment: Any, **_: Any) -> None:
    """Asks for the answers to compare with and starts what runs beside the users."""
    if isinstance(environment.runner, WorkerRunner):
        raise SystemExit("the load tests run in one process")
    for of in SAMPLES.values():
        for sample in of:
            if sample.expected is None:
                ask_expected(REST, sample)
    pipe = gevent.subprocess.PIPE
    command = [sys.executable, "-m", "loadtests.lean", GRPC]
    RUN.journal, RUN.began, RUN.lean_users = Journal(), time.perf_counter(), 0
    RUN.lean = gevent.subprocess.Popen(command, stdin=pipe, stdout=pipe)
    RUN.reader = gevent.spawn(report_lean, RUN.lean)
    RUN.watcher = gevent.spawn(watch, environment)
    if STARTED:
        Path(STARTED).write_text(str(time.time()))


@events.request.add_listener
def note(name: str, response_time: float, exception: BaseException | None, **_: Any) -> None:
    RUN.journal.note(RUN.at(), name, response_time, None if exception is None else str(exception))


def report_lean(process: Any) -> None:
    """Tells locust what the lean users did; ends with their process."""
    for line in process.stdout:
        for model, milliseconds, error in json.loads(line):
            events.request.fire(
                request_type="lean gRPC", name=f"lean gRPC {model}", response_time=milliseconds, response_length=0,
                exception=None if error is None else AssertionError(error), context={},
            )  # fmt: skip


def watch(environment: Any) -> None:
    """Measures how late locust's own event loop is, and notes the number of users."""
    while True:
        before = time.perf_counter()
        gevent.sleep(_LAG_SECONDS)
        RUN.journal.lags_ms.append((time.perf_counter() - before - _LAG_SECONDS) * 1000)
        RUN.journal.users(RUN.at(), environment.runner.user_count)


@events.test_stop.add_listener
def end(environment: Any, **_: Any) -> None:
    """Stops what runs beside the users and writes the journal."""
    if RUN.lean is not None:
        RUN.lean.stdin.close()
        RUN.reader.join()
        if RUN.lean.wait() != 0:
            RUN.journal.note(RUN.at(), "lean gRPC", 0.0, f"the lean users ended with status {RUN.lean.returncode}")
        RUN.lean = None
    RUN.watcher.kill()
    if JOURNAL:
        document = RUN.journal.document([(phase.name, phase.start, phase.end) for phase in PLAN])
        Path(JOURNAL).write_text(json.dumps(document))
