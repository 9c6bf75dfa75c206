"""Changes versions while the load runs: loads one beside the one in use, then makes it the one in use.

Works on a copy of the model repository; the new version is the old one again, so that every answer stays comparable.
Invariant: a change is a whole new pointer put in place by rename, as the registry asks of every publisher.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
from pathlib import Path
from threading import Event
from typing import Any

MODEL = "wide_deep"
FIRST, SECOND = 2, 3
RELEASE = ("--candidate", str(SECOND), "--max-step-time", "1h", "--watch-after", "1s", "--no-judge")
"""How SECOND is released: to a fixed share, until somebody says otherwise."""
_ANSWERED = re.compile(rf'sluice_requests_total\{{model="{MODEL}",version="(\d+)",.*outcome="ok"\}} (\d+)')
_WAIT_SECONDS = 60.0
_POLL_SECONDS = 0.2


def copy_repository(source: Path, target: Path) -> Path:
    """Copies the models (hard links where possible) and adds version SECOND of MODEL, a copy of FIRST, not served yet.

    FIRST is served alone: what is compared is one and the same model before and after the change.
    """
    shutil.copytree(source, target, copy_function=_link)
    point(target, FIRST, [])
    second = target / MODEL / str(SECOND)
    shutil.copytree(target / MODEL / str(FIRST), second, copy_function=_link)
    manifest = second / "manifest.json"
    changed = json.loads(manifest.read_text()) | {"version": SECOND}
    manifest.unlink()  # the link, not what it is linked to
    manifest.write_text(json.dumps(changed))
    return target


def point(repository: Path, stable: int, also: list[int]) -> None:
    """Says which versions of MODEL are to be served."""
    path = repository / MODEL / "serving.json"
    pointer = json.loads(path.read_text())
    pointer |= {"generation": pointer["generation"] + 1, "stable": stable, "also": also}
    fresh = path.with_name(".serving.json.new")
    fresh.write_text(json.dumps(pointer))
    os.replace(fresh, path)


def wait_for(address: str, path: str, says: Any, stop: Event) -> bool:
    """Waits until `address` answers `path` with 200 and `says(document)` holds; False when it does not."""
    for _ in range(int(_WAIT_SECONDS / _POLL_SECONDS)):
        try:
            status, document = get(address, path)
            if status == 200 and says(document):
                return True
        except OSError:
            pass
        if stop.wait(_POLL_SECONDS):
            return False
    return False


def answered(admin: str) -> dict[int, int]:
    """Returns how many requests of MODEL each version has answered rightly, from the gateway's metrics."""
    connection = http.client.HTTPConnection(admin, timeout=10)
    try:
        connection.request("GET", "/metrics")
        return count(connection.getresponse().read().decode())
    finally:
        connection.close()


def count(metrics: str) -> dict[int, int]:
    """Returns right answers of MODEL by version from a metrics page."""
    found: dict[int, int] = {}
    for match in map(_ANSWERED.match, metrics.splitlines()):
        if match:
            found[int(match[1])] = found.get(int(match[1]), 0) + int(match[2])
    return found


def get(address: str, path: str) -> tuple[int, dict[str, Any]]:
    """Returns status and JSON document (empty where there is none) of a GET."""
    connection = http.client.HTTPConnection(address, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        content = answer.read()
    finally:
        connection.close()
    try:
        document = json.loads(content) if content else {}
    except ValueError:
        document = {}
    return answer.status, document if isinstance(document, dict) else {}


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
