"""Who may use the admin listener.

With a token configured: whoever shows it, as a bearer token or as the password of HTTP Basic (which browsers can send).
Without one: peers on this machine only, and only if they asked for it by an address or as localhost, so that a web
page in somebody's browser cannot reach it through a name that it controls. Health is open to all: it tells nothing.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress

OPEN_PATHS = frozenset({"/healthz", "/readyz"})


class Guard:
    """Decides about one request; `token` None means loopback only."""

    def __init__(self, token: str | None) -> None:
        self._token = token.encode() if token else None

    @property
    def needs_token(self) -> bool:
        return self._token is not None

    def refusal(self, path: str, peer: str | None, host: str, authorization: str) -> tuple[int, str] | None:
        """Returns (HTTP status, reason) why the request is refused, or None if it may pass."""
        if path in OPEN_PATHS:
            return None
        if self._token is not None:
            shown = _shown_token(authorization)
            if shown is not None and hmac.compare_digest(shown, self._token):
                return None
            return 401, "this needs the admin token (Authorization: Bearer …)"
        if not _is_loopback(peer):
            return 403, "without an admin token only this machine is answered (security.admin_token_file)"
        if not _is_plain_host(host):
            return 403, "ask for localhost or an address, not for a name"
        return None


def _shown_token(authorization: str) -> bytes | None:
    scheme, _, value = authorization.strip().partition(" ")
    if scheme.lower() == "bearer":
        return value.strip().encode("utf-8", "surrogateescape")
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value.strip(), validate=True).partition(b":")[2]
        except (binascii.Error, ValueError):
            return None
    return None


def _is_loopback(peer: str | None) -> bool:
    try:
        address = ipaddress.ip_address(peer or "")
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def _is_plain_host(host: str) -> bool:
    """Returns whether a Host header names localhost or an address literal, with or without a port."""
    name = host[1 : host.find("]")] if host.startswith("[") else host.partition(":")[0]
    if name.lower().rstrip(".") == "localhost":
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
