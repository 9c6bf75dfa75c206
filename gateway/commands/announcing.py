"""What `sluice serve` prints when it is up: where it listens, what it serves, and what to try."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from typing import Any

_PLACES = (
    ("rest", "REST", "http://"),
    ("grpc", "gRPC", ""),
    ("admin", "metrics, status page", "http://"),
    ("triton_http", "Triton (REST)", "http://"),
    ("triton_grpc", "Triton (gRPC)", ""),
    ("triton_log", "Triton's log", ""),
    ("access_log", "access log", ""),
)
_DEMO_MODELS = ("efficientnet_lite0", "minilm", "wide_deep")


def announcement(facts: dict[str, Any], *, demo: bool) -> str:
    """Returns the text for `facts` (see `gateway.app`); with `demo` it ends with one request for each demo model."""
    lines = ["", "Sluice is up."]
    lines += [f"  {label:<21} {prefix}{facts[key]}" for key, label, prefix in _PLACES if facts.get(key)]
    models = facts.get("models", {})
    served = ", ".join(f"{name} ({_versions(numbers)})" for name, numbers in models.items())
    lines.append(f"  {'models':<21} {served or 'none'}")
    lines += [f"  {'not served':<21} {version}: {reason}" for version, reason in facts.get("failed", {}).items()]
    if demo and any(name in models for name in _DEMO_MODELS):
        lines += ["", "Try, in another terminal:", "", *_requests(facts)]
    lines += ["", "Ctrl-C stops it."]
    return "\n".join(lines)


def _versions(numbers: list[Any]) -> str:
    return ("version " if len(numbers) == 1 else "versions ") + ", ".join(map(str, numbers)) if numbers else "not ready"


def _requests(facts: dict[str, Any]) -> list[str]:
    # Imported late: only the demo needs it.
    from gateway.demo.requests import paste_lines

    lines = paste_lines(str(facts["rest"]), str(facts["grpc"])).splitlines()
    command = program()
    return [command + line.removeprefix("sluice") if line.startswith("sluice ") else line for line in lines]


def program() -> str:
    """Returns how to call this program from a shell: its name if the shell would find it, else its path."""
    found = shutil.which("sluice")
    called = os.path.abspath(sys.argv[0])
    if found is not None and os.path.realpath(found) == os.path.realpath(called):
        return "sluice"
    return shlex.quote(min(called, os.path.relpath(called), key=len))
