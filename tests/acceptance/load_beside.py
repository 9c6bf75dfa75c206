"""What Triton alone does to its callers while it loads a model beside them: the floor under `test_swaps.py`'s p99.

Run: python -m tests.acceptance.load_beside [LOADS]. No gateway, no registry: the same clients ask Triton itself for a
python model, over gRPC (over HTTP those whose connection shares a thread with the load wait until it is done), while a
second python model is loaded and the one before unloaded, with a second's pause. Prints the phases' p50 and p99.
"""

from __future__ import annotations

import json
import sys
import tempfile
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.acceptance.bare_triton import BareTriton
from tests.acceptance.test_swaps import SwapClient, wait
from tests.support.versions import MODEL, code

_CONFIG = """name: "{name}"
backend: "python"
max_batch_size: 8
input [{{ name: "X" data_type: TYPE_FP32 dims: [4] }}]
output [{{ name: "Y" data_type: TYPE_FP32 dims: [4] }}]
instance_group [{{ kind: KIND_CPU count: 1 }}]
"""


def measure(folder: Path, loads: int) -> dict[str, Any]:
    """Returns what the clients saw."""
    triton = BareTriton(folder)
    for name in (MODEL, *(f"other{number}" for number in range(loads))):
        place = folder / "models" / name
        (place / "1").mkdir(parents=True)
        (place / "1" / "model.py").write_text(code(1))
        (place / "config.pbtxt").write_text(_CONFIG.format(name=name))

    def ask(name: str, what: str) -> None:
        url = f"http://{triton.http}/v2/repository/models/{name}/{what}"
        urllib.request.urlopen(urllib.request.Request(url, b"{}", method="POST"), timeout=60).read()

    triton.start()
    try:
        ask(MODEL, "load")
        clients = SwapClient(SimpleNamespace(rest=triton.http, grpc=triton.grpc), protocols=("grpc",))
        clients.phase("before")
        wait(3)
        for number in range(loads):
            clients.phase("swaps")
            ask(f"other{number}", "load")
            if number:
                ask(f"other{number - 1}", "unload")
            clients.phase("between")
            wait(1)
        return clients.finish()
    finally:
        triton.stop()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        found = measure(Path(place) / "triton", int(sys.argv[1]) if len(sys.argv) > 1 else 16)
    print(json.dumps({name: found[name] for name in ("sent", "right", "phases")}, indent=1))
