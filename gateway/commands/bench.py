"""`sluice bench`: open-loop load on any server that speaks the Open Inference Protocol, with an honest verdict.

Exit codes: 0 the run counts and every answer was right; 1 it counts and some answers were missing or not right; 2 bad
usage; 3 the server was not reached or does not serve the model; 4 the run is invalid.
"""

from __future__ import annotations

import argparse
import json
import math
import sys

from gateway.bench import plan
from gateway.bench.channels import TargetError
from gateway.bench.encoding import PROTOCOLS
from gateway.bench.payload import PayloadError
from gateway.bench.report import text
from gateway.bench.run import RunOptions, terminal_progress
from gateway.bench.run import run as run_bench

OK, NOT_RIGHT, BAD_USAGE, UNREACHED, INVALID = 0, 1, 2, 3, 4
EPILOG = (
    "exit codes: 0 valid and every answer right, 1 valid but requests were refused, failed or wrong, 2 bad usage, "
    "3 server not reached or model not served, 4 the run is invalid"
)
_DEFAULT_ADDRESS = {"grpc": "127.0.0.1:8001"}
_DEFAULT_REST = "127.0.0.1:8000"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    add = parser.add_argument
    add("--model", required=True, metavar="NAME", help="the model to ask")
    add("--model-version", default="", metavar="N", help="its version (default: the server's choice)")
    add("--rate", type=float, required=True, metavar="R", help="requests per second to send, whatever comes back")
    add("--protocol", choices=PROTOCOLS, default="grpc", help="default: grpc")
    add("--url", metavar="HOST:PORT", help=f"the server (default: {_DEFAULT_ADDRESS['grpc']}, REST {_DEFAULT_REST})")
    add("--seconds", type=float, default=10.0, metavar="S", help="measured time (default: 10)")
    add("--warmup", type=float, default=2.0, metavar="S", help="time before that, not counted (default: 2)")
    add("--arrivals", choices=plan.ARRIVALS, default="poisson", help="default: poisson; bursts: gaps with CV^2 = 4")
    add("--rows", type=int, default=1, metavar="N", help="rows per request (default: 1)")
    add("--slo-ms", type=float, default=100.0, metavar="MS", help="latency that counts as in time (default: 100)")
    add("--deadline-ms", type=int, metavar="MS", help="deadline told to the server (default: none)")
    add("--connections", type=int, default=0, metavar="N", help="default: 4 with gRPC, 64 with REST")
    add("--shape", action="append", default=[], metavar="INPUT:D[,D…]", help="sizes of open dimensions, without rows")
    add("--integers-below", type=int, default=2, metavar="N", help="range of integer inputs (default: 2)")
    add("--data", default="", metavar="FILE.npz", help="take the rows from arrays named like the inputs")
    add("--variants", type=int, default=8, metavar="N", help="different payloads (default: 8)")
    add("--seed", type=int, default=1, metavar="N", help="of payloads and arrivals (default: 1)")
    add("--patience", type=float, default=10.0, metavar="S", help="wait for the last answers this long (default: 10)")
    add("--pid", action="append", default=[], metavar="NAME=PID", help="also count this process's CPU time")
    add("--no-check", action="store_true", help="do not compare answers (for models that answer at random)")
    add("--json", action="store_true", help="print JSON")


def run(parsed: argparse.Namespace) -> int:
    """Performs the run and returns the exit code."""
    try:
        options = _options(parsed)
        progress = terminal_progress()
        result = run_bench(options, progress)
        if progress is not None:
            sys.stderr.write("\r\x1b[K")
    except TargetError as error:
        return _refuse(str(error), UNREACHED)
    except (PayloadError, ValueError) as error:
        return _refuse(str(error), BAD_USAGE)
    print(json.dumps(result, indent=2) if parsed.json else text(result))
    if not result["valid"]:
        return INVALID
    outcomes = result["outcomes"]
    return OK if sum(outcomes.values()) == outcomes["ok"] else NOT_RIGHT


def _options(parsed: argparse.Namespace) -> RunOptions:
    if parsed.connections < 0 or parsed.warmup < 0 or parsed.patience < 0 or parsed.slo_ms <= 0:
        raise ValueError("connections, warmup and patience must not be negative, slo-ms must be above 0")
    if not 0 < parsed.seconds < math.inf or not 0 < parsed.rate < math.inf:
        raise ValueError("rate and seconds must be above 0")
    if parsed.integers_below < 1:
        raise ValueError("integers-below must be at least 1")
    return RunOptions(
        address=parsed.url or _DEFAULT_ADDRESS.get(parsed.protocol, _DEFAULT_REST),
        model=parsed.model, version=parsed.model_version, protocol=parsed.protocol, rate=parsed.rate,
        seconds=parsed.seconds, warmup_s=parsed.warmup, arrivals=parsed.arrivals, rows=parsed.rows,
        variants=parsed.variants, seed=parsed.seed, connections=parsed.connections, slo_ms=parsed.slo_ms,
        deadline_ms=parsed.deadline_ms, patience_s=parsed.patience, shapes=_shapes(parsed.shape),
        integers_below=parsed.integers_below, data=parsed.data, check=not parsed.no_check, pids=_pids(parsed.pid),
    )  # fmt: skip


def _shapes(given: list[str]) -> dict[str, tuple[int, ...]]:
    shapes = {}
    for entry in given:
        name, colon, sizes = entry.rpartition(":")
        numbers = sizes.split(",")
        if not colon or not all(number.isdigit() and int(number) > 0 for number in numbers):
            raise ValueError(f"--shape {entry!r} is not INPUT:SIZE[,SIZE…]")
        shapes[name] = tuple(int(number) for number in numbers)
    return shapes


def _pids(given: list[str]) -> tuple[tuple[str, int], ...]:
    pairs = []
    for entry in given:
        name, equals, number = entry.partition("=")
        if not equals or not number.isdigit():
            raise ValueError(f"--pid {entry!r} is not NAME=PID")
        pairs.append((name, int(number)))
    return tuple(pairs)


def _refuse(message: str, code: int) -> int:
    print(f"sluice bench: {message}", file=sys.stderr)
    return code
