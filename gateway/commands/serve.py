"""`sluice serve`: loads the configuration, runs the gateway, tells where it listens."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from typing import Any

from gateway.cli import BAD_USAGE, CANNOT_START, OK
from gateway.commands.allocator import keep_freed_memory
from gateway.commands.announcing import announcement
from gateway.commands.configuration import config_file, configuration, report
from gateway.commands.open_files import raise_open_files
from gateway.config import Config
from gateway.config_loading import ConfigError, check_files
from gateway.config_printing import as_dict, changed, effective


def run(parsed: argparse.Namespace) -> int:
    """Returns the exit code; see `gateway.cli`."""
    try:
        config = configuration(parsed)
        check_files(config)
    except ConfigError as error:
        if parsed.json:
            print(json.dumps({"ok": False, "problems": error.problems}))
        else:
            report(error)
        return BAD_USAGE
    if parsed.check:
        return _check(parsed, config)
    return _serve(parsed, config)


def _check(parsed: argparse.Namespace, config: Config) -> int:
    source = config_file(parsed)
    if parsed.json:
        print(json.dumps({"ok": True, "file": source, "changed": changed(config), "config": as_dict(config)}))
    else:
        print(f"# the effective configuration ({source or 'no file'}, environment, command line)\n")
        print(effective(config))
    return OK


def _serve(parsed: argparse.Namespace, config: Config) -> int:
    # Imported late: this is the whole gateway, and neither --check nor a wrong configuration needs it.
    import uvloop

    from gateway.app import CannotStart
    from gateway.app import run as run_gateway
    from gateway.telemetry.logs import set_up

    set_up(config.telemetry.log_level, config.telemetry.log_format)
    raise_open_files()
    keep_freed_memory()
    # Why the gateway cannot start is said below in one line; the stack of the task that found out adds nothing.
    logging.getLogger("sluice.tasks").addFilter(
        lambda record: not (record.exc_info and isinstance(record.exc_info[1], CannotStart))
    )

    def announce(facts: dict[str, Any]) -> None:
        text = json.dumps(facts) if parsed.json else announcement(facts, demo=parsed.demo)
        print(text, flush=True)

    try:
        uvloop.run(run_gateway(config, announce=announce))
    except (CannotStart, OSError) as error:
        # An OSError here is a file or a socket that the configuration names; a stack would not say more.
        reason = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else str(error)
        if parsed.json:
            print(json.dumps({"ok": False, "error": reason}))
        print(f"sluice: cannot start: {reason}", file=sys.stderr)
        return CANNOT_START
    if not parsed.json:
        print("sluice: stopped", file=sys.stderr)
    _silence_exit()
    return OK


def _silence_exit() -> None:
    """Flushes what was printed; a reader that has gone is no reason for a message at exit."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
