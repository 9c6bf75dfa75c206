"""Load generators: h2load for gRPC and wrk for REST, run as child processes and parsed.

Both are closed loops: each connection (or stream) sends its next request when the last one was answered. That measures
the most a server can carry, not what a caller waits under a given load.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

GRPC_PATH = "/inference.GRPCInferenceService/ModelInfer"
_TRY_SECONDS = 0.3


class LoadFailed(RuntimeError):
    """A load generator is missing, failed, or saw wrong answers: the run says nothing."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One run: answers per second, how many answers, and the command that anybody can repeat."""

    rate: float
    answers: int
    seconds: float
    mean_latency_us: float
    command: str


def together(runs: Sequence[Measured]) -> Measured:
    """Returns several runs as one: all their answers in all their time."""
    answers, seconds = sum(run.answers for run in runs), sum(run.seconds for run in runs)
    latency = sum(run.mean_latency_us * run.answers for run in runs) / answers
    return Measured(answers / seconds, answers, seconds, latency, runs[-1].command)


def h2load(
    address: str, payload: Path, requests: int, connections: int, streams: int, answer_bytes: int,
    path: str = GRPC_PATH, within: int = 120,
) -> Measured:  # fmt: skip
    """Sends one gRPC message (framed, in `payload`) so many times; a right answer's frame has `answer_bytes`.

    A number of requests, not a time: at the end of a time h2load hangs up on everything that is under way, and Triton
    2.51 can die of calls that are cancelled (docs/adr/0012).

    Raises LoadFailed where more than one answer in a thousand was something else, or after `within` seconds.
    """
    command = [
        "h2load", "-n", str(max(requests, connections)), "-c", str(connections), "-m", str(streams), "-t", "1",
        "-H", "content-type: application/grpc", "-H", "te: trailers",
        "-d", str(payload), f"http://{address}{path}",
    ]  # fmt: skip
    text = _run(command, within)
    done = _number(r"requests: \d+ total, \d+ started, \d+ done, (\d+) succeeded", text)
    failed = _number(r"(\d+) failed", text)
    rate = _number(r"finished in \S+, ([\d.]+) req/s", text)
    # gRPC failures are HTTP 200 with a grpc-status trailer, which h2load does not read: a failing server answers
    # trailers only, that is without data. So the bytes that came must be those of right answers, all but a few.
    data = _number(r"traffic: .*? \(\d+\) total, .*? \(\d+\) headers.*?, .*? \((\d+)\) data", text)
    if failed or not done or not rate or data < 0.999 * done * answer_bytes:
        raise LoadFailed(f"h2load saw failures:\n{text}")
    mean = _microseconds(re.search(r"time for request:\s+\S+\s+\S+\s+(\S+)", text))
    return Measured(rate, int(done), done / rate, mean, " ".join(command))


class Pace:
    """How many requests make a run of about the wanted time, found by trying; the tries are the warm-up."""

    def __init__(self) -> None:
        self._rates: dict[object, float] = {}

    def run(self, key: object, seconds: float, width: int, shoot: Callable[[int], Measured]) -> Measured:
        """Calls `shoot(requests)` for about `seconds`. `key` names what is loaded, `width` is how many requests are
        under way at once. Raises LoadFailed."""
        if key not in self._rates:
            requests = 4 * width
            measured = shoot(requests)
            while measured.seconds < _TRY_SECONDS:
                requests *= 8
                measured = shoot(requests)
            self._rates[key] = measured.rate
        measured = shoot(max(2 * width, round(self._rates[key] * seconds)))
        self._rates[key] = measured.rate
        return measured


def wrk(url: str, script: Path, seconds: int, connections: int) -> Measured:
    """Posts what the Lua `script` says over and over. Raises LoadFailed on any answer that is not 2xx."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script), url]
    text = _run(command, seconds)
    if "Non-2xx" in text or "Socket errors" in text:
        raise LoadFailed(f"wrk saw failures:\n{text}")
    done = _number(r"(\d+) requests in", text)
    rate = _number(r"Requests/sec:\s+([\d.]+)", text)
    mean = _microseconds(re.search(r"Latency\s+(\S+)", text))
    return Measured(rate, int(done), done / rate if rate else seconds, mean, " ".join(command))


def wrk_script(folder: Path, name: str, body: bytes, headers: dict[str, str]) -> Path:
    """Writes a Lua script that posts `body` with `headers`."""
    escaped = "".join(f"\\{byte:03d}" for byte in body)
    lines = ['wrk.method = "POST"', f'wrk.body = "{escaped}"']
    lines += [f'wrk.headers["{key}"] = "{value}"' for key, value in headers.items()]
    path = folder / f"{name}.lua"
    path.write_text("\n".join(lines) + "\n")
    return path


def _run(command: list[str], seconds: int) -> str:
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30, check=False)
    except FileNotFoundError:
        raise LoadFailed(f"{command[0]} is not installed; on Debian: apt-get install nghttp2-client wrk") from None
    except subprocess.TimeoutExpired:
        raise LoadFailed(f"{command[0]} did not stop by itself") from None
    if result.returncode != 0:
        raise LoadFailed(f"{' '.join(command)} failed:\n{result.stdout}{result.stderr}")
    return result.stdout


def _number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    return float(found.group(1)) if found else 0.0


def _microseconds(found: re.Match[str] | None) -> float:
    if found is None:
        return 0.0
    match = re.fullmatch(r"([\d.]+)(us|ms|s)", found.group(1))
    if match is None:
        return 0.0
    return float(match.group(1)) * {"us": 1.0, "ms": 1e3, "s": 1e6}[match.group(2)]
