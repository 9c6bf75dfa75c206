"""What `make train-demo` says of its runs: facts from a pipeline's result, a line for each, the last words. Pure."""

from __future__ import annotations

import json
from typing import Any


def document(text: str) -> dict[str, Any]:
    """Returns the JSON object in a process's output, {} if there is none."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def facts(result: dict[str, Any]) -> dict[str, Any]:
    """Returns what the demo says of a pipeline's result."""
    steps = result.get("steps", {})
    release = steps.get("release", {})
    return {
        "state": result.get("state"), "outcome": release.get("outcome"), "why": release.get("detail"),
        "refused": result.get("refused", []), "release": release.get("release"),
        "version": steps.get("publish", {}).get("version"), "job": steps.get("train", {}).get("job"),
        "held_out_auc": steps.get("evaluate", {}).get("metrics", {}).get("held_out_auc"),
        "quantization_report": steps.get("quantize", {}).get("report"),
    }  # fmt: skip


def told(name: str, run: dict[str, Any]) -> str:
    if run.get("outcome") is None:
        why = "; ".join(run["refused"]) or f"exit code {run['exit_code']}"
        return f"{name}: did not get as far as a release: {why}"
    right = run["traffic"].get("right_share", {})
    seen = ", ".join(f"version {v} {n} ({right.get(v, 0):.1%} right)" for v, n in
                     run["traffic"].get("answers", {}).items())  # fmt: skip
    return f"{name}: version {run['version']} {run['outcome']} after {run['release_seconds']} s: {run['why']}; {seen}"


def end(found: dict[str, Any]) -> str:
    """Returns the last words."""
    lines = []
    for name, run in found["runs"].items():
        auc = run.get("held_out_auc")
        shown = "" if auc is None else f", held-out AUC {auc:.4f}"
        lines.append(f"  {name:7} version {run['version']}{shown}: {run['outcome'] or run['state'] or 'failed'}, "
                     f"{run['seconds']:.0f} s in all")  # fmt: skip
        if run.get("report"):
            lines.append(f"          {run['report']}")
    verdict = "as planned" if found["as_planned"] else "NOT as planned"
    lines.insert(0, f"train-demo: {verdict}, {found['seconds'] / 60:.1f} minutes")
    return "\n".join([*lines, f"  registry: {found['registry']}"])
