"""`sluice routes explain MODEL`: which rule, bucket, version and replica a request would get, and why."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any
from urllib.parse import quote

from gateway.cli import BAD_USAGE, NO, OK
from gateway.commands.admin_client import AdminUnreachable, ask
from gateway.commands.release_gateway import place_or_exit


def run(parsed: argparse.Namespace) -> int:
    """Returns the exit code: 1 when no gateway answers or it does not serve the model."""
    place = place_or_exit(parsed)
    if isinstance(place, int):
        return place
    if place.port == 0:
        print("sluice: server.admin_port is 0 (any): name the listener with --admin HOST:PORT", file=sys.stderr)
        return BAD_USAGE
    try:
        question = {
            "headers": _pairs(parsed.header, "--header"),
            "parameters": _pairs(parsed.parameter, "--parameter"),
            "sticky_key": parsed.sticky_key,
            "request_id": parsed.request_id,
            "version": parsed.version,
        }
    except ValueError as error:
        print(f"sluice: {error}", file=sys.stderr)
        return BAD_USAGE
    body = {key: value for key, value in question.items() if value}
    try:
        answer = ask(
            place.host, place.port, f"/v1/routes/{quote(parsed.model, safe='')}/explain", place.token, body=body
        )
    except AdminUnreachable as error:
        print(f"sluice: {error}", file=sys.stderr)
        return NO
    print(json.dumps(answer, indent=2) if parsed.json else _shown(answer))
    return OK


def _pairs(given: list[str], option: str) -> dict[str, str]:
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise ValueError(f"{option} {text!r} is not NAME=VALUE")
        found[name] = value
    return found


def _shown(answer: dict[str, Any]) -> str:
    number = answer.get("version")
    lines = [f"{answer.get('model')}: " + (f"version {number}" if number is not None else "cannot be said")]
    lines += [f"  {reason}" for reason in answer.get("reasons", [])]
    for key in ("release", "arm", "rule", "bucket", "replica"):
        if answer.get(key) not in (None, ""):
            lines.append(f"  {key}: {answer[key]}")
    return "\n".join(lines)
