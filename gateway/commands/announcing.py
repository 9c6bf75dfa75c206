"""What `sluice serve` prints when it is up: where it listens, what it serves, and what to try."""

from __future__ import annotations

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
_DEMOS = {
    "efficientnet_lite0": ("classify", ()),
    "minilm": ("embed", ("A cat sits on the mat.", "A kitten rests on a rug.", "Shares fell sharply today.")),
    "wide_deep": ("score", ()),
}


def announcement(facts: dict[str, Any], *, demo: bool) -> str:
    """Returns the text for `facts` (see `gateway.app`); with `demo` it ends with one request for each demo model."""
    lines = ["", "Sluice is up."]
    lines += [f"  {label:<21} {prefix}{facts[key]}" for key, label, prefix in _PLACES if facts.get(key)]
    models = facts.get("models", {})
    served = ", ".join(f"{name} ({_versions(numbers)})" for name, numbers in models.items())
    lines.append(f"  {'models':<21} {served or 'none'}")
    lines += [f"  {'not served':<21} {version}: {reason}" for version, reason in facts.get("failed", {}).items()]
    if demo:
        lines += ["", "Try, in another terminal:", *(f"  {line}" for line in _requests(facts, models))]
    lines += ["", "Ctrl-C stops it."]
    return "\n".join(lines)


def _versions(numbers: list[Any]) -> str:
    return ("version " if len(numbers) == 1 else "versions ") + ", ".join(map(str, numbers)) if numbers else "not ready"


def _requests(facts: dict[str, Any], models: dict[str, Any]) -> list[str]:
    command = program()
    lines = []
    for name, (task, arguments) in _DEMOS.items():
        if name in models:
            lines.append(shlex.join([command, "demo", task, *arguments, *demo_arguments(task, facts)]))
    rest = facts.get("rest")
    if rest:
        lines += [f"curl -s http://{rest}/v2/models/{name}" for name in models]
    return lines


def demo_arguments(task: str, facts: dict[str, Any]) -> list[str]:
    """Returns what a demo command needs to find this gateway and its input."""
    arguments = []
    if task == "classify":
        arguments.append(_picture())
    if facts.get("rest") and not str(facts["rest"]).endswith(":8000"):
        arguments += ["--url", str(facts["rest"])]
    return arguments


def _picture() -> str:
    from importlib.resources import files

    return str(files("gateway.demo").joinpath("data", "chelsea.png"))


def program() -> str:
    """Returns how to call this program from a shell: its name if the shell would find it, else its path."""
    return "sluice" if shutil.which("sluice") == sys.argv[0] else sys.argv[0]
