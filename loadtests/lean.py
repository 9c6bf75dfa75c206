"""Lean gRPC users: asyncio on uvloop in a process of its own beside locust, on the project's own HTTP/2 client.

Each user sends one request after the other with a pause between. A process of its own because gevent patches Python's
threads and sockets, and because the generated protobuf code cannot share a process with tritonclient's. It reads how
many users there shall be from standard input, one number a line (its end stops it), and writes a JSON list a line:
model, latency in ms, and null or what was wrong.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import threading
import time
from typing import Any

import uvloop

from gateway.bench.channels import GrpcChannel, Outcome, TargetError
from gateway.bench.generator import ask_alone
from gateway.engine.clock import pause
from gateway.tensors import Buffer
from loadtests.samples import WEIGHTS, Sample, samples

ANSWER_SECONDS = 60.0
_CONNECTIONS = 2
_LAST_SECONDS = 10.0


class LeanUsers:
    """All lean users. `want` and `stop` may be called from another thread."""

    def __init__(self, host: str, port: int, samples: dict[str, list[Sample]], weights: dict[str, int]) -> None:
        self._host, self._port = host, port
        self._samples = samples
        self._weights = weights
        self._wanted = 0
        self._stopping = False
        self._answered: dict[int, asyncio.Future[tuple[Outcome, Buffer, int | None, str]]] = {}
        self._token = 0
        self._done: list[tuple[str, float, str | None]] = []

    def want(self, users: int) -> None:
        """Says how many users there shall be."""
        self._wanted = users

    def stop(self) -> None:
        """Lets `run` return soon."""
        self._stopping = True

    def run(self) -> str:
        """Runs the users until `stop`; returns "" or why that was not possible."""
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._main())
        except TargetError as error:
            return str(error)
        return ""

    async def _main(self) -> None:
        channel = GrpcChannel(self._host, self._port, _CONNECTIONS, None)
        await channel.open()
        requests: dict[str, list[tuple[bytes, Any]]] = {}
        for model, of in self._samples.items():
            prepared = [channel.prepare(model, "", sample.tensors, sample.outputs) for sample in of]
            requests[model] = list(zip(prepared, await ask_alone(channel, prepared), strict=True))
        channel.on_answer = self._arrived
        users: list[asyncio.Task[None]] = []
        async with asyncio.TaskGroup() as group:
            while not self._stopping:
                while len(users) < self._wanted:
                    users.append(group.create_task(self._user(channel, requests, len(users))))
                while len(users) > self._wanted:
                    users.pop().cancel()
                await pause(0.05)
                self._report()
            for user in users:
                user.cancel()
        self._report()
        await channel.close()

    def _report(self) -> None:
        done, self._done = self._done, []
        if done:
            print(json.dumps(done), flush=True)

    async def _user(self, channel: GrpcChannel, requests: dict[str, list[tuple[bytes, Any]]], number: int) -> None:
        chooser = random.Random(number)
        models, weights = list(requests), [self._weights[model] for model in requests]
        loop = asyncio.get_running_loop()
        # Cancelling alone is not enough: in Python 3.11 `wait_for` loses a cancellation that comes with the answer.
        while number < self._wanted and not self._stopping:
            await pause(chooser.uniform(0.01, 0.05))
            model = chooser.choices(models, weights)[0]
            request, expected = chooser.choice(requests[model])
            self._token += 1
            token, answered = self._token, loop.create_future()
            self._answered[token] = answered
            started = time.perf_counter()
            channel.send(request, token)
            try:
                outcome, body, length, message = await asyncio.wait_for(answered, ANSWER_SECONDS)
                error = None if outcome is Outcome.OK else message
                if error is None and not expected.matches(body, length):
                    error = "wrong answer"
            except TimeoutError:
                error = "no answer"
            finally:
                self._answered.pop(token, None)
            self._done.append((model, round((time.perf_counter() - started) * 1000, 3), error))

    def _arrived(self, token: int, outcome: Outcome, body: Buffer, length: int | None, message: str) -> None:
        answered = self._answered.get(token)
        if answered is not None and not answered.done():
            answered.set_result((outcome, body, length, message))


def main() -> int:
    """Runs lean users against the gRPC address given; returns 1 where that is not possible."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is locust's, which then gives no more orders
    host, _, port = sys.argv[1].rpartition(":")
    users = LeanUsers(host, int(port), samples(), WEIGHTS)

    def listen() -> None:
        for line in sys.stdin:
            users.want(int(line))
        users.stop()
        # Whoever gave the orders is gone or wants to go; a server that is gone too must not hold this process.
        last = threading.Timer(_LAST_SECONDS, lambda: os._exit(1))
        last.daemon = True
        last.start()

    threading.Thread(target=listen, name="lean-orders", daemon=True).start()
    problem = users.run()
    if problem:
        print(problem, file=sys.stderr)
    return 1 if problem else 0


if __name__ == "__main__":
    raise SystemExit(main())
