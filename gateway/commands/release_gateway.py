"""What release commands have to do with a running gateway: ask what it sees, and tell it to look at once.

A gateway that does not answer is no error: the registry is where releases are decided, gateways look there anyhow.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from gateway.cli import BAD_USAGE
from gateway.commands.admin_client import AdminUnreachable, ask, split_address
from gateway.commands.configuration import configuration, report
from gateway.config_loading import ConfigError, admin_token
from gateway.judgements import EvidenceBundle
from gateway.registry.bundle_document import parse_bundle
from gateway.registry.document import DocumentError

_QUICK_S = 2.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where the admin listener is; `port` 0 if nobody knows."""

    host: str
    port: int
    token: str | None


def place_of(parsed: argparse.Namespace) -> Place:
    """Returns where to ask: --admin, else what is configured.

    Raises:
        ConfigError: the configuration is wrong.
        ValueError: --admin is.
    """
    config = configuration(parsed)
    if getattr(parsed, "admin", None) is not None:
        return Place(*split_address(parsed.admin), admin_token(config))
    return Place(config.admin_host, config.server.admin_port, admin_token(config))


def place_or_exit(parsed: argparse.Namespace) -> Place | int:
    """Returns the place, or the exit code after saying what is wrong."""
    try:
        return place_of(parsed)
    except ConfigError as error:
        report(error)
    except ValueError as error:
        print(f"sluice: {error}", file=sys.stderr)
    return BAD_USAGE


def seen_by_gateway(place: Place, release_id: str) -> EvidenceBundle | None:
    """Returns what the gateway has seen of the release, None if none answers or it has nothing to do with it."""
    answer = _ask(place, f"/v1/releases/{quote(release_id, safe='')}")
    live = answer.get("live") if isinstance(answer, dict) else None
    if not isinstance(live, dict):
        return None
    try:
        return parse_bundle(json.dumps(live).encode())
    except DocumentError:
        return None


def tell_gateway(place: Place) -> bool:
    """Asks the gateway to look at the registry now; returns whether it answered."""
    return _ask(place, "/v1/releases/look", {}) is not None


def _ask(place: Place, path: str, body: Any = None) -> Any:
    if place.port == 0:
        return None
    try:
        return ask(place.host, place.port, path, place.token, body=body, timeout_s=_QUICK_S)
    except AdminUnreachable:
        return None
