"""`sluice releases start MODEL`: begins a release in the registry and tells a running gateway to look."""

from __future__ import annotations

import argparse
import json
import sys
import time

from gateway.cli import BAD_USAGE, OK
from gateway.commands.registry_access import actor_of, with_registry
from gateway.commands.release_gateway import Place, place_or_exit, tell_gateway
from gateway.core.compatibility import breaking_changes
from gateway.registry.release_document import render_plan
from gateway.registry.release_options import OPTIONS, OptionProblems, plan_of
from gateway.registry.release_starting import start_release
from gateway.registry.store import Store
from gateway.releases import Release, ReleasePlan, ReleaseProgress, ReleaseStatus, SupersedePolicy
from gateway.reports import words


def run(parsed: argparse.Namespace) -> int:
    """Returns the exit code: 1 when the release is refused."""
    options = {key: value for key in OPTIONS if (value := getattr(parsed, key, None)) is not None}
    try:
        plan = plan_of(parsed.model, options, actor=actor_of(parsed), reason=parsed.reason)
    except OptionProblems as error:
        for problem in error.problems:
            print(f"sluice: {problem}", file=sys.stderr)
        return BAD_USAGE
    place = place_or_exit(parsed)
    if isinstance(place, int):
        return place
    return with_registry(parsed, lambda store: _start(store, plan, parsed, place))


def _start(store: Store, plan: ReleasePlan, parsed: argparse.Namespace, place: Place) -> int:
    policy = SupersedePolicy(parsed.if_running) if parsed.if_running else None
    begun, status = start_release(store, plan, now=time.time_ns(), breaking=breaking_changes, if_running=policy)
    told = tell_gateway(place)
    if parsed.json:
        print(json.dumps({"id": begun.id, "status": status.value, "plan": render_plan(begun), "gateway_told": told}))
        return OK
    print(words.headline(Release(begun, ReleaseProgress(status=status))))
    if status is ReleaseStatus.QUEUED:
        print("it waits until the one in progress has ended")
    if not told:
        print("no gateway was told; those that follow this registry see it at their next look")
    print(f"watch it: sluice releases status {begun.id} --watch")
    return OK
