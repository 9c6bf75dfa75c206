"""One run of the generator from beginning to end: ask the server, plan, warm up, send, judge."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

from gateway.bench import plan, report
from gateway.bench.channels import Channel, channel_for
from gateway.bench.generator import Generator, ask_alone
from gateway.bench.machine import CpuWatch, cpu_jiffies, description, listener_of
from gateway.bench.payload import Wishes, load_rows, payloads
from gateway.engine.clock import LoopClock, pause
from gateway.engine.tasks import TaskGroup

_PROGRESS_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What to send. `rate` is requests per second; `slo_ms` judges latency, `deadline_ms` is told to the server;
    `patience_s` is how long after the last request answers are waited for; `pids` are more processes to watch."""

    address: str
    model: str
    version: str = ""
    protocol: str = "grpc"
    rate: float = 100.0
    seconds: float = 10.0
    warmup_s: float = 2.0
    arrivals: str = "poisson"
    rows: int = 1
    variants: int = 8
    seed: int = 1
    connections: int = 0
    slo_ms: float = 100.0
    deadline_ms: int | None = None
    patience_s: float = 10.0
    shapes: dict[str, tuple[int, ...]] | None = None
    integers_below: int = 2
    data: str = ""
    check: bool = True
    pids: tuple[tuple[str, int], ...] = ()


Progress = Callable[[str], None]


def run(options: RunOptions, progress: Progress | None = None) -> dict[str, Any]:
    """Performs one run in an event loop of its own and returns its result.

    Raises TargetError when the server does not answer a single request, PayloadError or ValueError for wishes that
    cannot be met.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(options, progress))


async def _run(options: RunOptions, progress: Progress | None) -> dict[str, Any]:
    offsets = plan.arrivals(options.arrivals, options.rate, options.warmup_s + options.seconds, options.seed)
    connections = options.connections or (4 if options.protocol == "grpc" else 64)
    channel = channel_for(options.protocol, options.address, connections, options.deadline_ms)
    try:
        await channel.open()
        model = await channel.model(options.model, options.version)
        wishes = Wishes(
            rows=options.rows, variants=options.variants, seed=options.seed, shapes=options.shapes,
            integers_below=options.integers_below, data=load_rows(Path(options.data)) if options.data else None,
        )  # fmt: skip
        sets = payloads(model.inputs, wishes)
        requests = [channel.prepare(options.model, options.version, tensors, model.outputs) for tensors in sets]
        expected = await ask_alone(channel, requests)
        first = int(np.searchsorted(offsets, int(options.warmup_s * 1e9)))
        first = min(first, len(offsets) - 1)
        measured = await _measure(
            options, channel, requests, expected if options.check else None, offsets, first, progress
        )
    finally:
        await channel.close()
    sizes = [sum(len(tensor.raw) for tensor in tensors) for tensors in sets]
    asked = asdict(options) | {
        "connections": connections, "variants": len(sets), "tensor_bytes": round(sum(sizes) / len(sizes)),
    }  # fmt: skip
    asked.pop("pids")
    return {"asked": asked, "machine": description()} | measured


async def _measure(
    options: RunOptions,
    channel: Channel,
    requests: list[Any],
    expected: Any,
    offsets: Any,
    first: int,
    progress: Progress | None,
) -> dict[str, Any]:
    clock = LoopClock(asyncio.get_running_loop())
    watch = CpuWatch(_watched(options))
    begun: dict[str, Any] = {}

    def window() -> None:
        watch.start()
        begun["wall"], begun["jiffies"] = clock.now(), cpu_jiffies()

    payload = plan.order(len(offsets), len(requests), options.seed)
    generator = Generator(channel, requests, expected, offsets, payload, first, window)
    tasks = TaskGroup()
    if progress is not None:
        tasks.spawn(_show(generator, clock, options.warmup_s + options.seconds, progress), "bench-progress")
    try:
        with _ending_early(generator.interrupt):
            trace = await generator.run(options.patience_s)
    finally:
        await tasks.close()
    if not begun:
        window()  # interrupted before the measured window began
    wall = (clock.now() - begun["wall"]) / 1e9
    total, stolen = (now - then for now, then in zip(cpu_jiffies(), begun["jiffies"], strict=True))
    steal = stolen / total if total else 0.0
    seconds, why = options.seconds, []
    if generator.interrupted_at is not None:
        seconds = max(0.0, (generator.interrupted_at - begun["wall"]) / 1e9)
        why = [f"interrupted {seconds:.1f} s into the {options.seconds:g} s to measure"]
    return report.figures(trace, first, seconds, options.slo_ms, watch.used(), wall, steal, why)


@contextlib.contextmanager
def _ending_early(interrupt: Callable[[], None]) -> Iterator[None]:
    """Lets Ctrl-C and SIGTERM end a run with a report instead of without one."""
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        loop.add_signal_handler(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


async def _show(generator: Generator, clock: LoopClock, seconds: float, progress: Progress) -> None:
    started = clock.now()
    while True:
        await pause(_PROGRESS_SECONDS)
        progress(report.bar((clock.now() - started) / 1e9 / seconds, *generator.progress))


def _watched(options: RunOptions) -> dict[str, int]:
    """Returns the generator, the server if it listens on this machine, and what the user named."""
    roots = dict(options.pids)
    host, _, port = options.address.removeprefix("http://").rstrip("/").rpartition(":")
    if host.strip("[]") in ("127.0.0.1", "localhost", "::1", "0.0.0.0"):
        with contextlib.suppress(OSError, ValueError):
            owner = listener_of(int(port))
            if owner is not None and owner not in roots.values():
                roots["server"] = owner
    return {"generator": os.getpid()} | roots


def terminal_progress() -> Progress | None:
    """Returns what draws a bar on standard error, None where that is no terminal."""
    if not sys.stderr.isatty():
        return None

    def draw(line: str) -> None:
        sys.stderr.write(f"\r\x1b[K{line}")
        sys.stderr.flush()

    return draw
