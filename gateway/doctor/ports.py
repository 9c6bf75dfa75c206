"""The ports that the gateway and its Triton want: free, or held by whom."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

from gateway.backends.triton_ports import port_holder
from gateway.commands.admin_client import AdminUnreachable, ask
from gateway.config import Config
from gateway.config_loading import ConfigError, admin_token
from gateway.doctor.finding import Finding, failed, ok

_PRIVILEGED = 1024


def ports(config: Config) -> Iterator[Finding]:
    """Checks every configured port; one that this very gateway holds is fine."""
    server = config.server
    wanted = [
        ("server.rest_port", server.host, server.rest_port),
        ("server.grpc_port", server.host, server.grpc_port),
        ("server.admin_port", config.admin_host, server.admin_port),
    ]
    if config.triton.mode == "embedded":
        wanted += [
            (f"triton.{name}", "127.0.0.1", getattr(config.triton, name))
            for name in ("http_port", "grpc_port", "metrics_port")
        ]
    serving = gateway_answers(config)
    for setting, host, port in wanted:
        yield _port(setting, host, port, serving)


def gateway_answers(config: Config) -> bool:
    """Returns whether a gateway answers on the configured admin listener."""
    if config.server.admin_port == 0:
        return False
    try:
        answer = ask(config.admin_host, config.server.admin_port, "/v1/models", admin_token(config))
    except (AdminUnreachable, ConfigError):
        return False
    return isinstance(answer, dict) and "gateway" in answer


def _port(setting: str, host: str, port: int, serving: bool) -> Finding:
    subject = f"{setting} ({port})"
    if port == 0:
        return ok(subject, "any free one")
    if port < _PRIVILEGED and os.geteuid() != 0:
        return failed(subject, "needs root", f"choose a {setting} of {_PRIVILEGED} or more")
    problem = _bind_problem(host, port)
    if problem is None:
        return ok(subject, "free")
    holder = port_holder(port)
    if holder and serving:
        return ok(subject, f"held by {holder}; a gateway is running")
    if holder:
        return failed(subject, f"taken by {holder}", f"stop that, or set another {setting} (0 takes any)")
    return failed(subject, f"cannot be bound on {host}: {problem}", f"set another {setting}, or another address")


def _bind_problem(host: str, port: int) -> str | None:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except OSError as error:
        return error.strerror or str(error)
    return None
