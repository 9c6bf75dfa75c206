"""`sluice releases pause|resume|promote|rollback ID`: what a person does to a release in progress."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial

from gateway.cli import OK
from gateway.commands.registry_access import actor_of, with_registry
from gateway.commands.release_gateway import Place, place_or_exit, seen_by_gateway, tell_gateway
from gateway.registry.release_commands import pause_release, promote_release, resume_release, rollback_release
from gateway.registry.release_document import render_release
from gateway.registry.store import Store
from gateway.releases import Release
from gateway.reports import words


def run(parsed: argparse.Namespace) -> int:
    """Returns the exit code: 1 when that cannot be done to the release."""
    place = place_or_exit(parsed)
    if isinstance(place, int):
        return place
    return with_registry(parsed, lambda store: _change(store, parsed, place))


def _change(store: Store, parsed: argparse.Namespace, place: Place) -> int:
    changes: dict[str, Callable[..., Release]] = {
        "pause": pause_release,
        "resume": resume_release,
        "promote": partial(promote_release, full=getattr(parsed, "full", False), arm=getattr(parsed, "arm", "")),
        "rollback": rollback_release,
    }
    # A rollback waits for nobody; for the others what the gateway has seen belongs into the record.
    seen = None if parsed.what == "rollback" else seen_by_gateway(place, parsed.id)
    release = changes[parsed.what](
        store, parsed.id, actor=actor_of(parsed), reason=parsed.reason, now=time.time_ns(), seen=seen
    )
    told = tell_gateway(place)
    if parsed.json:
        print(json.dumps(render_release(release) | {"gateway_told": told}))
        return OK
    print(words.headline(release))
    if not told:
        print("no gateway was told; those that follow this registry see it at their next look")
    return OK
