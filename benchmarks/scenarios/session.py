"""What every scenario is given: the arms, how long to measure, and the ways to measure.

Closed loops (h2load, wrk) measure the most that a server carries; the open loop (`sluice bench` in a process of its
own) measures what callers wait. Arms alternate, first forwards, then backwards.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import intervals
from benchmarks.arms import DELAYS_US, ROOT, SLUICE, Arms
from benchmarks.loads import LoadFailed, Measured, Pace, h2load, together, wrk, wrk_script
from gateway.bench.encoding import HEADER_LENGTH, infer_path, rest_binary_body, rest_json_body
from gateway.bench.grpc_codec import grpc_infer
from gateway.bench.payload import Array, Tensor, Wishes, load_rows, payloads

ALL_ARMS = (*DELAYS_US, SLUICE)
_FIRST = ("nice", "-n", "-10") if os.geteuid() == 0 else ()
"""The generator comes first where that is allowed: a model that takes all cores must not delay what is to be sent."""
_INVALID = 4
_TRIALS = 3
"""Pairs in which every direct arm runs; then the slower ones leave, and others get their time."""
_ATTEMPTS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How long everything takes: pairs of runs, seconds of a run, seconds of an open-loop run."""

    pairs: int = 8
    seconds: int = 1
    open_seconds: float = 5.0

    def few(self) -> int:
        """Pairs where a run costs more or its noise is smaller."""
        return max(2, self.pairs // 2)


@dataclass(slots=True)
class Session:
    """One run of the benchmarks. `results` grows as scenarios finish."""

    arms: Arms
    folder: Path
    scale: Scale
    results: dict[str, Any]
    pace: Pace = field(default_factory=Pace)

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def tensors(self, model: str, rows: int = 1, data: Path | None = None, **shapes: tuple[int, ...]) -> list[Tensor]:
        """Returns one seeded request for a model."""
        given: dict[str, Array] | None = load_rows(data) if data is not None else None
        wishes = Wishes(rows=rows, variants=1, shapes=shapes, integers_below=1000, data=given)
        return payloads(self.arms.inputs(model), wishes)[0]

    def prepare(self, model: str, arms: Sequence[str], tensors: Sequence[Tensor]) -> None:
        """Loads the copies of the direct arms and makes sure that all arms give the same answer."""
        for arm in arms:
            if arm != SLUICE:
                self.arms.load_copy(arm, model)
        self.arms.check(arms, model, tensors)

    def closed(
        self, arm: str, model: str, protocol: str, tensors: Sequence[Tensor], connections: int, streams: int = 1,
        seconds: float | None = None,
    ) -> Measured:  # fmt: skip
        """Measures the most an arm carries. Raises LoadFailed."""
        address, name = self.arms.address(arm, protocol), self.arms.name(arm, model)
        span = self.scale.seconds if seconds is None else seconds
        if protocol == "grpc":
            payload = self.folder / f"{name}-{len(tensors[0].raw)}.bin"
            payload.write_bytes(grpc_infer(name, "", tensors))
            size = self.arms.answer_bytes(arm, model, tensors)
            return self.pace.run(
                (name, address, len(tensors[0].raw), connections),
                span,
                connections * streams,
                lambda requests: h2load(address, payload, requests, connections, streams, size),
            )
        if protocol == "rest_json":
            body, headers = rest_json_body(tensors), {"Content-Type": "application/json"}
        else:
            outputs = self.outputs(model)
            body, length = rest_binary_body(tensors, outputs)
            headers = {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(length)}
        script = wrk_script(self.folder, protocol, body, headers)
        return wrk(f"http://{address}{infer_path(name, '')}", script, max(1, round(span)), connections)

    def outputs(self, model: str) -> list[str]:
        """Returns the names of a model's outputs."""
        from benchmarks.arms import request

        found = json.loads(request(self.arms.ready["rest"], f"/v2/models/{model}", None)[1])
        return [entry["name"] for entry in found["outputs"]]

    def alternate(
        self, label: str, shoot: Callable[[str], Measured], pairs: int, arms: Sequence[str] = ALL_ARMS, slices: int = 1
    ) -> Alternated:
        """Runs the arms `pairs` times in alternating order after a warm-up that is not counted.

        Of several direct arms the one with the most requests/s in the first pairs goes on. A run of a pair is `slices`
        shots, those of the arms alternating.
        """
        done = Alternated(list(arms))
        for arm in arms:
            shoot(arm)
        for pair in range(pairs):
            if pair == _TRIALS:
                arms = [arm for arm in arms if arm in (SLUICE, done.better_direct())]
            shots: dict[str, list[tuple[Measured, float, float]]] = {arm: [] for arm in arms}
            for index in range(pair, pair + slices):
                for arm in arms if index % 2 == 0 else arms[::-1]:
                    used = self.arms.watch_cpu()
                    measured = shoot(arm)
                    shots[arm].append((measured, *used()))
            for arm in arms:
                runs, gateway, server = zip(*shots[arm], strict=True)
                done.add(arm, together(runs), sum(gateway), sum(server))
            rates = ", ".join(f"{arm} {done.rates[arm][-1]:,.0f}/s" for arm in arms)
            self.say(f"  {label} {pair + 1}/{pairs}: {rates}")
        return done

    def open_loop(
        self, arm: str, model: str, protocol: str, rate: float, seconds: float | None = None, **options: Any
    ) -> dict[str, Any]:
        """Runs `sluice bench` and returns its result; an invalid run is tried once more and then returned as it is.

        `options` are its long options with underscores. Raises LoadFailed when it cannot run.
        """
        command = [
            *_FIRST, sys.executable, "-m", "gateway.cli", "bench", "--json", "--model", self.arms.name(arm, model),
            "--protocol", protocol, "--url", self.arms.address(arm, protocol), "--rate", f"{rate:.1f}",
            "--seconds", str(self.scale.open_seconds if seconds is None else seconds), "--integers-below", "1000",
        ]  # fmt: skip
        for key, value in ({"warmup": 1, "patience": 3} | options).items():
            command += [f"--{key.replace('_', '-')}", str(value)]
        for attempt in range(_ATTEMPTS):
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
            if done.returncode not in (0, 1, _INVALID) or not done.stdout:
                raise LoadFailed(f"{' '.join(command)} failed:\n{done.stderr}")
            result: dict[str, Any] = json.loads(done.stdout)
            if result["valid"] or attempt + 1 == _ATTEMPTS:
                break
        shown = [word for word in command[len(_FIRST) + 3 :] if word != "--json"]
        result["command"] = "sluice " + " ".join(shown)
        return result


class Alternated:
    """What alternating runs gave: by arm, one entry a pair."""

    def __init__(self, arms: list[str]) -> None:
        self.arms = arms
        self.rates: dict[str, list[float]] = {arm: [] for arm in arms}
        self.latencies_us: dict[str, list[float]] = {arm: [] for arm in arms}
        self.cpu_us: list[float] = []
        self.server_cpu_us: dict[str, list[float]] = {arm: [] for arm in arms}
        self.commands: dict[str, str] = {}

    def add(self, arm: str, measured: Measured, gateway_cpu_s: float, server_cpu_s: float) -> None:
        """Takes a run in; the CPU seconds are the gateway's, and those of everything on the server's side."""
        self.rates[arm].append(measured.rate)
        self.latencies_us[arm].append(measured.mean_latency_us)
        self.commands[arm] = measured.command
        self.server_cpu_us[arm].append(server_cpu_s / measured.answers * 1e6)
        if arm == SLUICE:
            self.cpu_us.append(gateway_cpu_s / measured.answers * 1e6)

    def better_direct(self) -> str:
        """Returns the direct arm with the most requests/s in the pairs that all of them ran.

        One setting for the whole run: the better run of each pair would count the machine's good moments twice.
        """
        direct = [arm for arm in self.arms if arm != SLUICE]
        return max(direct, key=lambda arm: statistics.mean(self.rates[arm][:_TRIALS]))

    def ratio(self) -> dict[str, Any]:
        """Returns Sluice over the better direct arm, in pairs, with its interval."""
        return intervals.ratio(self.rates[SLUICE], self.rates[self.better_direct()]) | {"direct": self.better_direct()}

    def cpu_ratio(self) -> dict[str, Any]:
        """Returns the CPU time per request on the server's side, the better direct arm over Sluice: above 1 Sluice
        needs less. It moves less with the machine than requests/s do."""
        return intervals.ratio(self.server_cpu_us[self.better_direct()], self.server_cpu_us[SLUICE])

    def arm_rows(self, prefix: str) -> dict[str, Any]:
        """Returns the entries of `results["arms"]`."""
        return {
            f"{prefix}_{arm}": {
                "requests_per_second": [round(rate, 1) for rate in self.rates[arm]],
                "mean_latency_us": [round(value) for value in self.latencies_us[arm]],
                "server_cpu_us": [round(value, 1) for value in self.server_cpu_us[arm]],
                "command": self.commands[arm],
            }
            for arm in self.arms
        }

    def cpu(self) -> float:
        """Returns the gateway's CPU microseconds per request, the median of the pairs."""
        return round(statistics.median(self.cpu_us), 1)


def timed(function: Callable[[], None]) -> float:
    """Returns how many seconds `function` took."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started
