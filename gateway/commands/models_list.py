"""`sluice models list`: what the running gateway serves, asked from its admin listener."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from gateway.cli import BAD_USAGE, NO, OK
from gateway.commands.admin_client import AdminUnreachable, ask, split_address
from gateway.commands.configuration import configuration, report
from gateway.commands.registry_access import refused
from gateway.commands.table import table
from gateway.config_loading import ConfigError, admin_token

_HEAD = ("model", "version", "state", "traffic", "requests/s", "rows/batch", "waiting rows", "detail")


def run(parsed: argparse.Namespace) -> int:
    """Returns the exit code: 1 when no gateway answers."""
    try:
        config = configuration(parsed)
        token = admin_token(config)
        host, port = config.admin_host, config.server.admin_port
        if parsed.admin is not None:
            host, port = split_address(parsed.admin)
        elif port == 0:
            raise ValueError("server.admin_port is 0 (any): name the listener with --admin HOST:PORT")
    except ConfigError as error:
        report(error)
        return BAD_USAGE
    except ValueError as error:
        print(f"sluice: {error}", file=sys.stderr)
        return BAD_USAGE
    try:
        answer = ask(host, port, "/v1/models", token)
    except AdminUnreachable as error:
        return refused(parsed, error, NO)
    print(json.dumps(answer, indent=2) if parsed.json else _shown(answer))
    return OK


def _shown(answer: dict[str, Any]) -> str:
    rows = [_row(model["name"], version) for model in answer["models"] for version in model["versions"]]
    notes = [f"! {note}" for note in answer.get("notes", [])]
    return "\n".join([table(_HEAD, rows) if rows else "no models", *notes])


def _row(name: str, version: dict[str, Any]) -> list[str]:
    reason = version["unbatchable_reason"]
    return [
        name,
        str(version["version"]),
        version["state"],
        f"{version['weight_bp'] / 100:g} %",
        f"{version['requests_per_second']:.1f}",
        f"{version['rows_per_batch']:.1f}" if version["rows_per_batch"] else "-",
        str(version["queued_rows"]),
        version["detail"] or (f"not batched: {reason}" if reason else ""),
    ]
