"""Python and the packages that the gateway is made of."""

from __future__ import annotations

import importlib
import importlib.metadata
import platform
import sys
from collections.abc import Iterator

from gateway import COMPILED
from gateway.compiled import VARIABLE
from gateway.config import Config
from gateway.doctor.finding import Finding, failed, ok, warning

_LEAST_PYTHON = (3, 11)
_MODULES = {
    "uvloop": "uvloop", "httptools": "httptools", "ngh2": "ngh2", "numpy": "numpy", "orjson": "orjson",
    "protobuf": "google.protobuf", "aiohttp": "aiohttp", "prometheus-client": "prometheus_client",
}  # fmt: skip
_INSTALL = "run `make setup` (or `pip install sluice` into this environment)"


def packages(config: Config) -> Iterator[Finding]:
    """Checks the interpreter, and that every package can be imported, not just that it is installed."""
    version = platform.python_version()
    if sys.version_info >= _LEAST_PYTHON:
        yield ok("Python", f"{version} ({sys.executable})")
    else:
        yield failed("Python", version, "use Python 3.11 or newer: `make setup PYTHON=python3.11`")
    if sys.platform != "linux":
        yield failed("system", sys.platform, "the gateway runs on Linux")
    wanted = dict(_MODULES)
    if config.server.grpc_engine == "grpcio":
        wanted["grpcio"] = "grpc"
    for package, module in wanted.items():
        yield _package(package, module)
    yield _compiled(COMPILED)


def _compiled(used: bool) -> Finding:
    subject = "compiled modules"
    if used:
        return ok(subject, "in use")
    advice = f"in a checkout: `make compile`, with a C compiler and Python's headers, and without {VARIABLE}=0"
    return warning(subject, "no: the sources run, about a quarter slower", advice)


def _package(package: str, module: str) -> Finding:
    advice = "pip install 'sluice[grpcio]', or set server.grpc_engine = \"native\"" if package == "grpcio" else _INSTALL
    try:
        importlib.import_module(module)
        return ok(package, importlib.metadata.version(package))
    except importlib.metadata.PackageNotFoundError:
        return ok(package, "present, version unknown")
    except ImportError as error:
        return failed(package, f"cannot be imported: {error}", advice)
