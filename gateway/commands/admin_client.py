"""Asks the admin listener of a running gateway."""

from __future__ import annotations

import http.client
import json
from typing import Any

TIMEOUT_S = 5.0


class AdminUnreachable(Exception):
    """Nothing answered, or something else than a gateway did; the message says what to do."""


def ask(host: str, port: int, path: str, token: str | None, *, body: Any = None, timeout_s: float = TIMEOUT_S) -> Any:
    """Returns the JSON that the admin listener answers for `path`; with a `body` it is sent there (POST, as JSON).

    Raises:
        AdminUnreachable: nothing listens there, it is no gateway, or it refuses.
    """
    where = f"{_literal(host)}:{port}"
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    connection = http.client.HTTPConnection(_reachable(host), port, timeout=timeout_s)
    try:
        if body is None:
            connection.request("GET", path, headers=headers)
        else:
            headers["Content-Type"] = "application/json"
            connection.request("POST", path, json.dumps(body), headers)
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise AdminUnreachable(f"no gateway answers on {where} ({reason}): is `sluice serve` running?") from error
    finally:
        connection.close()
    try:
        answer = json.loads(body)
    except ValueError:
        raise AdminUnreachable(f"what answers on {where} is not a gateway's admin listener") from None
    if response.status != 200:
        reason = answer.get("error", response.reason) if isinstance(answer, dict) else response.reason
        raise AdminUnreachable(f"the gateway on {where} refuses: {reason}")
    return answer


def split_address(address: str) -> tuple[str, int]:
    """Returns (host, port) of "host:port" or "[v6]:port". Raises ValueError."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"'{address}' is not HOST:PORT")
    return host.strip("[]"), int(port)


def _reachable(host: str) -> str:
    """Returns the address to connect to for one that a server binds."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


def _literal(host: str) -> str:
    return f"[{host}]" if ":" in host else host
