"""How a demo command speaks: results on standard output, what went wrong in one line on standard error."""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable

from gateway.demo.client import DemoError

Command = Callable[[argparse.Namespace], int]


def say(text: str) -> None:
    """Prints a result."""
    print(text)


def warn(text: str) -> None:
    """Prints a remark that is no part of the result."""
    print(f"sluice demo: {text}", file=sys.stderr)


def report_errors(command: Command) -> Command:
    """Wraps a command: a DemoError becomes one line and its exit code."""

    @functools.wraps(command)
    def wrapped(arguments: argparse.Namespace) -> int:
        try:
            return command(arguments)
        except DemoError as error:
            warn(str(error))
            return error.code

    return wrapped
