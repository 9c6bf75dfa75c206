"""Compiles the modules that every request passes through, with mypyc (docs/adr/0018); `make setup` runs it.

    python tools/compile.py             compiles what is not compiled as it is; without a C compiler it says so
    python tools/compile.py --possible  only says, by its exit code, whether there are a C compiler and Python's headers

The result lies in .cache/compiled, in a folder named for the sources (gateway/compiled.py), and is made whole or not at
all. Exit codes: 0, also without a C compiler: then the sources run; 1 if the compiler or mypyc failed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ["SLUICE_COMPILED"] = "0"

from gateway.compiled import FOLDER, digest  # noqa: E402

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
_KEPT = 2
_TIMEOUT_S = 900


def main(arguments: list[str]) -> int:
    missing = _missing()
    if arguments == ["--possible"]:
        return 1 if missing else 0
    if arguments:
        print(__doc__, file=sys.stderr)
        return 2
    target = FOLDER / digest()
    if target.is_dir():
        os.utime(target)
        return 0
    if missing:
        print(f"setup: {missing}: the gateway runs its sources, a quarter slower (docs/adr/0018)", flush=True)
        return 0
    print("setup: compiling the modules that every request passes through (a minute or two) …", flush=True)
    started = time.perf_counter()
    if not _build(target):
        return 1
    print(f"setup: compiled in {time.perf_counter() - started:.0f} s", flush=True)
    _forget_old()
    return 0


def sources() -> list[str]:
    """Returns the paths of the modules that are compiled."""
    folders = MODULES.items()
    return [str(Path("gateway", folder, f"{name}.py")) for folder, names in folders for name in names.split()]


def _missing() -> str | None:
    """Returns what is not there that compiling needs, or None."""
    compiler = os.environ.get("CC") or "cc"
    if shutil.which(compiler.split()[0]) is None:
        return "there is no C compiler (Debian: apt install gcc libc6-dev)"
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        return "Python's headers are missing (Debian: apt install python3-dev)"
    return None


def _build(target: Path) -> bool:
    """Compiles into `target`; on failure prints the end of the log and returns False."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="making-", dir=FOLDER) as name:
        folder = Path(name)
        log = folder / "log"
        with log.open("wb") as file:
            command = [sys.executable, str(ROOT / "tools" / "compile_worker.py"), str(folder), *sources()]
            result = subprocess.run(command, cwd=ROOT, stdout=file, stderr=file, timeout=_TIMEOUT_S, check=False)
        if result.returncode != 0:
            tail = log.read_text(errors="replace").splitlines()[-30:]
            print("setup: compiling failed:", *tail, sep="\n  ", file=sys.stderr, flush=True)
            return False
        try:
            os.rename(folder / "lib", target)
        except OSError:
            if not target.is_dir():  # somebody else was faster
                raise
    return True


def _forget_old() -> None:
    """Removes all but the youngest results; who runs one keeps its files open."""
    results = [path for path in FOLDER.iterdir() if path.is_dir() and not path.name.startswith("making-")]
    for path in sorted(results, key=lambda path: path.stat().st_mtime)[:-_KEPT]:
        shutil.rmtree(path, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
