"""Opens the registry that a command was pointed at, and says what went wrong there in one line."""

from __future__ import annotations

import argparse
import getpass
import json
import socket
import sys
from collections.abc import Callable

from gateway.cli import BAD_USAGE, CANNOT_START, NO
from gateway.commands.configuration import configuration, report
from gateway.config_loading import ConfigError
from gateway.registry.document import DocumentError
from gateway.registry.journal import warnings_heard
from gateway.registry.opening import open_store
from gateway.registry.store import Store, StoreError
from gateway.registry.switching import PublishError

CANNOT_ACCESS = CANNOT_START


def with_registry(parsed: argparse.Namespace, work: Callable[[Store], int]) -> int:
    """Returns the exit code of `work` on the registry, or the one for what kept it from working."""
    try:
        location = parsed.registry or configuration(parsed).registry.root
    except ConfigError as error:
        report(error)
        return BAD_USAGE
    try:
        with warnings_heard() as warnings:
            try:
                return work(open_store(location))
            finally:
                for text in warnings:
                    print(f"sluice: warning: {text}", file=sys.stderr)
    except (PublishError, DocumentError) as error:
        return refused(parsed, error, NO)
    except StoreError as error:
        return refused(parsed, error, CANNOT_ACCESS)


def refused(parsed: argparse.Namespace, error: Exception, code: int) -> int:
    """Says why nothing came of it, with --json on standard output too, and returns the exit code."""
    if parsed.json:
        print(json.dumps({"error": str(error)}))
    print(f"sluice: {error}", file=sys.stderr)
    return code


def actor_of(parsed: argparse.Namespace) -> str:
    """Returns who does this: --actor, else the user's name at this machine."""
    if parsed.actor is not None:
        given: str = parsed.actor
        return given
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError):
        return f"unknown@{socket.gethostname()}"
