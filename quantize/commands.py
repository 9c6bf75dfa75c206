"""What the actions of `sluice quantize` do. Results go to standard output, everything else to standard error.

Invariant: the exit code, the JSON's `verdict` and the text say the same.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from types import FrameType
from typing import Any

from quantize import actions
from quantize.errors import INTERRUPTED, PUBLISHED, BadInput, QuantizeError
from quantize.policy import Policy, read_policy
from quantize.progress import Progress

Publisher = Callable[[Path, str, Any], dict[str, Any]]


def run(parsed: argparse.Namespace, location: str | None = None) -> int:
    """Returns the exit code; `location` is the registry for `publish`."""
    progress = Progress(quiet=parsed.quiet or parsed.json)
    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        result, text = _ACTIONS[parsed.action](parsed, location, progress)
    except QuantizeError as error:
        progress.clear()
        _write_report(parsed, getattr(error, "report", None))
        if parsed.json:
            known = getattr(error, "report", None) or {}
            print(json.dumps({**known, "verdict": known.get("verdict", error.verdict), "problems": error.problems,
                              "exit_code": error.exit_code}))  # fmt: skip
        else:
            if (report := getattr(error, "report", None)) is not None:
                print(actions.text_of(report))
            for problem in error.problems:
                print(f"sluice quantize: {error.verdict}: {problem}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        progress.clear()
        print("sluice quantize: interrupted; nothing was published", file=sys.stderr)
        return INTERRUPTED
    finally:
        progress.clear()
        signal.signal(signal.SIGTERM, before)
    _write_report(parsed, result.get("report"))
    if parsed.json:
        print(json.dumps({**result.get("report", {}), **{k: v for k, v in result.items() if k != "report"},
                          "exit_code": PUBLISHED}))  # fmt: skip
    else:
        print(text)
    return PUBLISHED


def policy_of(parsed: argparse.Namespace) -> Policy:
    """Returns the policy: the defaults, then the file, then the command line.

    Raises:
        BadInput: with every problem.
    """
    values = read_policy(Path(parsed.policy)) if parsed.policy else {}
    for item in fields(Policy):
        given = getattr(parsed, item.name, None)
        if given is None:
            continue
        if item.name == "outputs":
            given = tuple(name for name in given.split(",") if name)
        values[item.name] = tuple(given) if isinstance(given, list) else given
    try:
        return Policy(**values)
    except TypeError as error:
        raise BadInput(f"policy: {error}") from error


def _publish(parsed: argparse.Namespace, location: str | None, progress: Progress) -> tuple[dict[str, Any], str]:
    from quantize.publish import publish

    assert location is not None
    return publish(parsed, location, policy_of(parsed), progress)


def _interrupt(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt


def _write_report(parsed: argparse.Namespace, report: dict[str, Any] | None) -> None:
    if report is None or not getattr(parsed, "report", None):
        return
    from quantize.report_html import html_of

    folder = Path(parsed.report)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        (folder / "report.txt").write_text(actions.text_of(report) + "\n", encoding="utf-8")
        (folder / "report.html").write_text(html_of(report), encoding="utf-8")
    except OSError as error:
        print(f"sluice quantize: the report could not be written to {folder}: {error.strerror}", file=sys.stderr)


_ACTIONS: dict[str, Callable[[argparse.Namespace, str | None, Progress], tuple[dict[str, Any], str]]] = {
    "publish": _publish,
    "inspect": lambda parsed, _, progress: actions.inspect(parsed),
    "calibrate": lambda parsed, _, progress: actions.calibrate_only(parsed, policy_of(parsed), progress),
    "convert": lambda parsed, _, progress: actions.convert(parsed, policy_of(parsed), progress),
    "evaluate": lambda parsed, _, progress: actions.evaluate(parsed, policy_of(parsed), progress),
    "verify": lambda parsed, _, progress: actions.verify(parsed),
}
