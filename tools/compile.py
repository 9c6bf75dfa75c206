"""Compiles the modules that every request passes through, with mypyc (docs/adr/0018); `make compile` runs it.

    python tools/compile.py             compiles what is not compiled as it is; without a C compiler it says so
    python tools/compile.py --possible  only says, by its exit code, whether there are a C compiler and Python's headers

The result lies in .cache/compiled, in a folder named for the sources (gateway/compiled.py), and is made whole or not at
all. Exit codes: 0, also if there is no C compiler or it fails, which is said: then the sources run; 2 bad usage.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ["SLUICE_COMPILED"] = "0"

from gateway.compiled import FOLDER, VARIABLE, digest  # noqa: E402

MODULES = {
    "core": (
        "admission agenda backend_load batching bytes_elements cost_profile door forming lanes log_histogram "
        "loop_delay merging pace plans retrying routing service_time signature staging"
    ),
    "wire": (
        "grpc_frames interning json_document json_requests json_responses json_templates json_tensors layouts "
        "proto_backend proto_parameters proto_requests proto_responses wire_format"
    ),
    "transport": (
        "http1 http1_chunked http1_connection http1_exchange http1_head http1_output http2 http2_call http2_client "
        "http2_connection http2_input http2_pool http2_server http2_session http2_stream limits"
    ),
    "engine": (
        "batch clock earliest_timer flights outstanding refusals repeats replicas reports scheduler served service "
        "switched_observer turns"
    ),
    "frontends": "context grpc grpc_handlers rest",
    "telemetry": "access_log histogram metrics observers series",
    "backends": "free_list shared_inputs triton triton_channel",
    "": "messages ports tensors versions",
}
"""What is compiled, by folder. Everything that other modules inherit from stays as it is."""
_WORKER = ROOT / "tools" / "compile_worker.py"
_KEPT = 2
_TIMEOUT_S = 900
_MAKING = "making-"
_STAMP = "stamp"


def main(arguments: list[str]) -> int:
    missing = _missing()
    if arguments == ["--possible"]:
        return 1 if missing else 0
    if arguments:
        print(__doc__, file=sys.stderr)
        return 2
    target = FOLDER / digest()
    if _read(target / _STAMP) == _stamp():
        os.utime(target)
        return 0
    if missing:
        say(f"{missing}: the gateway runs its sources, a quarter slower (docs/adr/0018)")
        return 0
    say("making machine code of the modules that every request passes through (a minute or two) …")
    started = time.perf_counter()
    failure = _build(target)
    if failure is None:
        say(f"done in {time.perf_counter() - started:.0f} s")
    else:
        say(f"{failure}\n\ncompile: FAILED, see above. The gateway runs its sources, a quarter slower")
    _forget_old()
    return 0


def say(message: str) -> None:
    print("compile: " + message, flush=True)


def sources() -> list[str]:
    """Returns the paths of the modules that are compiled."""
    folders = MODULES.items()
    return [str(Path("gateway", folder, f"{name}.py")) for folder, names in folders for name in names.split()]


def _missing() -> str | None:
    """Returns what is not there that compiling needs, or None."""
    compiler = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"  # as setuptools chooses
    if shutil.which(compiler.split()[0]) is None:
        return f"there is no C compiler {compiler} (Debian: apt install gcc libc6-dev)"
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        return "Python's headers are missing (Debian: apt install python3-dev)"
    return None


def _stamp() -> str:
    """Returns a name for what a build depends on beside the sources."""
    tools = b"".join(path.read_bytes() for path in (Path(__file__), _WORKER))
    return hashlib.sha256(tools + importlib.metadata.version("mypy").encode()).hexdigest()


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _build(target: Path) -> str | None:
    """Compiles into `target`; returns why that failed, or None."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=_MAKING, dir=FOLDER) as name:
        folder = Path(name)
        failure = _run([str(_WORKER), name, *sources()], folder / "log", "0")
        if failure is not None:
            return failure
        if digest() != target.name:
            return "the sources changed meanwhile"
        (folder / "lib" / _STAMP).write_text(_stamp())
        if target.is_dir():  # of another list of modules, or another mypyc; or somebody else was faster
            os.rename(target, folder / "old")
        os.rename(folder / "lib", target)
        failure = _run(["-c", "import gateway.app"], folder / "log", "1")
        if failure is not None:
            shutil.rmtree(target)
        return failure


def _run(arguments: list[str], log: Path, compiled: str) -> str | None:
    """Runs Python in a process group of its own; returns the end of what it said if it failed."""
    environment = os.environ | {VARIABLE: compiled}
    with log.open("wb") as file:
        child = subprocess.Popen(
            [sys.executable, *arguments], cwd=ROOT, stdout=file, stderr=file, env=environment, process_group=0
        )
        try:
            status = child.wait(_TIMEOUT_S)
        except BaseException as error:
            os.killpg(child.pid, signal.SIGKILL)  # the compiler is a child of it
            child.wait()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            return f"not done after {_TIMEOUT_S} s"
    return "\n  ".join(log.read_text(errors="replace").splitlines()[-30:]) or f"status {status}" if status else None


def _forget_old() -> None:
    """Removes all but the youngest results, and what killed builds left; who runs one keeps its files open."""
    folders = sorted((path for path in FOLDER.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    left = time.time() - 2 * _TIMEOUT_S
    making = [path for path in folders if path.name.startswith(_MAKING)]
    done = [path for path in folders if path not in making]
    for path in [*done[:-_KEPT], *(path for path in making if path.stat().st_mtime < left)]:
        shutil.rmtree(path, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
