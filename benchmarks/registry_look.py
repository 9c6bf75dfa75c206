"""What a gateway's look at an unchanged registry costs: `python -m benchmarks.registry_look [--models N]`.

With `--registry s3://bucket/prefix` (an empty place that may be written to; AWS_… variables) the models are made there.
Prints CPU and wall time of a look, the middle of `--looks`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import tempfile
import threading
import time
from pathlib import Path

from gateway.registry.opening import open_store
from gateway.registry.watcher import RegistryWatcher

_MANIFEST = b"{}" * 1000
_HISTORY = [{"generation": 1, "stable": 1, "at": "2026-01-01", "actor": "a" * 30, "reason": "r" * 60}] * 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=500)
    parser.add_argument("--looks", type=int, default=21)
    parser.add_argument("--registry", default="")
    parsed = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "registry").mkdir()
        location = parsed.registry or str(Path(folder) / "registry")
        store = open_store(location)
        pointer = json.dumps({"schema_version": 1, "generation": 1, "stable": 1, "history": _HISTORY}).encode()
        watcher = RegistryWatcher(lambda: store, location, Path(folder) / "cache")
        for number in range(parsed.models):
            name = f"model{number:04d}"
            store.create(f"{name}/1/manifest.json", _MANIFEST)
            store.create(f"{name}/serving.json", pointer)
            # As if it was served: its manifest is watched too.
            watcher._state._pins[name] = {1: hashlib.sha256(_MANIFEST).hexdigest()}
        assert len(watcher.look()) == parsed.models
        assert watcher.alarms() == []
        threading.Event().wait(2.5)  # what was written a moment ago is read again
        watcher.look()
        cpu, wall = [], []
        for _ in range(parsed.looks):
            began, busy = time.perf_counter(), time.process_time()
            watcher.look()
            cpu.append(time.process_time() - busy)
            wall.append(time.perf_counter() - began)
        middle = f"{statistics.median(cpu) * 1e3:.1f} ms of CPU, {statistics.median(wall) * 1e3:.1f} ms"
        print(f"a look at {parsed.models} unchanged models: {middle}")


if __name__ == "__main__":
    main()
