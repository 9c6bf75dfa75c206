"""`sluice releases status [ID|MODEL]`: how releases stand, from the registry and what a running gateway sees."""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from typing import Any

from gateway.cli import NO, OK
from gateway.commands.registry_access import with_registry
from gateway.commands.release_gateway import Place, place_or_exit, seen_by_gateway
from gateway.registry.bundle_document import render_bundle
from gateway.registry.pointing import pointer_of
from gateway.registry.release_document import render_release
from gateway.registry.release_history import release_of, states
from gateway.registry.store import Store
from gateway.registry.verifying import models_in
from gateway.releases import Release, ReleaseStatus
from gateway.reports import words
from gateway.reports.text import status_text

_OVER = (ReleaseStatus.ROLLED_BACK, ReleaseStatus.ENDED)
_HOME, _CLEAR_REST, _CLEAR_LINE = "\x1b[H", "\x1b[J", "\x1b[K"


def run(parsed: argparse.Namespace) -> int:
    """Returns the exit code: 1 when there is no such release."""
    place = place_or_exit(parsed)
    if isinstance(place, int):
        return place
    return with_registry(parsed, lambda store: _status(store, parsed, place))


def _status(store: Store, parsed: argparse.Namespace, place: Place) -> int:
    if parsed.id is None:
        return _overview(store, parsed)
    release_id = _release_id(store, parsed.id)
    if release_id is None:
        print(f"sluice: {parsed.id} has no release in progress (sluice releases history {parsed.id})", file=sys.stderr)
        return NO
    if parsed.watch:
        return _watch(store, release_id, parsed, place)
    release = release_of(store, release_id)
    live = seen_by_gateway(place, release_id)
    if parsed.json:
        document = json.loads(render_bundle(live)) if live is not None else None
        print(json.dumps(render_release(release) | {"live": document}, indent=1))
    else:
        print(status_text(release, live, time.time_ns()))
    return OK


def _release_id(store: Store, given: str) -> str | None:
    """Returns the release that `given` names; a model stands for its release in progress."""
    if given in models_in(store):
        pointer = pointer_of(store, given)
        return pointer.release.plan.id if pointer is not None and pointer.release is not None else None
    return given


def _overview(store: Store, parsed: argparse.Namespace) -> int:
    found = states(store)
    if parsed.json:
        print(json.dumps({"models": found}, indent=1))
        return OK
    lines = [line for state in found for line in _lines(store, state)]
    print("\n".join(lines) or "no release is in progress")
    return OK


def _lines(store: Store, state: dict[str, Any]) -> list[str]:
    if "problem" in state:
        return [f"! {state['model']}: {state['problem']}"]
    lines = []
    if state["release"]:
        lines.append(words.headline(release_of(store, state["release"]["plan"]["id"])))
        lines.append(f"  {state['release']['progress']['detail']}")
    lines += [f"  waits: {plan['id']} (version {plan['arms'][0]['version']})" for plan in state["queued"]]
    return lines


def _watch(store: Store, release_id: str, parsed: argparse.Namespace, place: Place) -> int:
    """Draws the status over itself until the release ends; where nobody looks, one block after the other."""
    drawn = sys.stdout.isatty()
    if drawn:
        print(_HOME + _CLEAR_REST, end="")
    while True:
        release = release_of(store, release_id)
        over = release.progress.status in _OVER
        if parsed.json:
            live = seen_by_gateway(place, release_id)
            seen = json.loads(render_bundle(live)) if live is not None else None
            print(json.dumps(render_release(release) | {"live": seen}), flush=True)
        else:
            _draw(release, place, drawn=drawn)
        if over:
            return OK
        _wait(max(0.1, min(parsed.interval, 3600.0)))


def _draw(release: Release, place: Place, *, drawn: bool) -> None:
    text = status_text(release, seen_by_gateway(place, release.plan.id), time.time_ns())
    at = f"{words.instant(time.time_ns())}   Ctrl-C ends the watching, not the release"
    if drawn:
        lines = [f"{line}{_CLEAR_LINE}" for line in (at, "", *text.splitlines())]
        print(_HOME + "\n".join(lines) + f"\n{_CLEAR_REST}", end="", flush=True)
    else:
        print(f"{at}\n{text}\n", flush=True)


def _wait(seconds: float) -> None:
    threading.Event().wait(seconds)
