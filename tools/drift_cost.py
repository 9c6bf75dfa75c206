"""What comparing inputs with their calibration costs a request on average, at the default rate of sampling.

    python -m tools.drift_cost

CPU time of this process, so other work on the machine disturbs little; the best of several rounds.
"""

from __future__ import annotations

import time

import numpy as np

from gateway.config import TelemetryConfig
from gateway.engine.input_watch import InputWatch
from gateway.messages import InferRequest, RequestHead
from gateway.tensors import DataType, TensorSpec
from gateway.versions import ElementHistogram, InputStatistics

REQUESTS, ROUNDS = 100_000, 5
HISTOGRAM = ElementHistogram(tuple(float(edge) for edge in np.linspace(-1, 1, 9)), (0.1,) * 10)
CASES = {
    "one picture of 3x224x224": ((3, 224, 224), 1, 1),
    "8 pictures of 3x224x224": ((3, 224, 224), 8, 1),
    "one row of 32 numbers, each with a histogram of its own": ((32,), 1, 1),
    "one row of three inputs of 128 ids": ((128,), 1, 3),
}


def cost(shape: tuple[int, ...], rows: int, inputs: int) -> float:
    """Returns nanoseconds a request."""
    data = np.random.default_rng(0).normal(size=(rows, *shape)).astype(np.float32).tobytes()
    names = [f"x{number}" for number in range(inputs)]
    head = RequestHead("m", None, tuple(TensorSpec(name, DataType.FP32, (rows, *shape)) for name in names))
    request = InferRequest(head, "", [data] * inputs)
    columns = shape[0] if shape == (32,) else 0
    watch = InputWatch(
        [InputStatistics(name, HISTOGRAM, 64, -3, 3, None, (HISTOGRAM,) * columns) for name in names],
        TelemetryConfig().drift_sample_every,
    )
    best = float("inf")
    for _ in range(ROUNDS):
        started = time.process_time_ns()
        for _ in range(REQUESTS):
            watch.seen(request)
        best = min(best, (time.process_time_ns() - started) / REQUESTS)
    return best


def main() -> None:
    for title, case in CASES.items():
        print(f"{title}: {cost(*case):.0f} ns a request", flush=True)


if __name__ == "__main__":
    main()
