"""Triton: the environment of the embedded one, or whether the remote ones can be reached."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from gateway.backends.triton_environment import TritonSetupError, environment_folder, find_environment
from gateway.config import Config
from gateway.doctor.finding import Finding, failed, ok

_CONNECT_TIMEOUT_S = 2.0


def triton(config: Config) -> Iterator[Finding]:
    """Checks what the configured mode needs."""
    if config.triton.mode == "remote":
        for address in config.triton.addresses:
            yield _remote(address)
        return
    yield _embedded(config)


def _embedded(config: Config) -> Finding:
    """Checks the environment as a start would: interpreter, packages, numpy 1.26, libpython, server, stub."""
    folder = environment_folder(config.triton.environment or None)
    with tempfile.TemporaryDirectory(prefix="sluice-doctor-") as work:
        try:
            found = find_environment(config.triton.environment or None, Path(work))
        except TritonSetupError as error:
            problem, _, advice = str(error).partition(": ")
            return failed("Triton environment", problem, advice or f"look at {folder}, or run `make setup`")
    return ok("Triton environment", f"{found.folder} (Python {found.python_version}, numpy 1.26, libpython found)")


def _remote(address: str) -> Finding:
    host, _, port = address.rpartition(":")
    subject = f"Triton {address}"
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_TIMEOUT_S):
            return ok(subject, "accepts connections")
    except OSError as error:
        reason = error.strerror or str(error) or "no answer"
        return failed(subject, f"cannot be reached: {reason}", "start it, or correct triton.addresses")
