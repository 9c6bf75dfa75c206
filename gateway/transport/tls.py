"""TLS contexts for the listeners: TLS 1.2 at least, and in ALPN nothing but what the listener speaks."""

from __future__ import annotations

import ssl
from collections.abc import Sequence


def server_context(cert_path: str, key_path: str, *, protocols: Sequence[str]) -> ssl.SSLContext:
    """Returns the context of a listener with the PEM certificate chain and key at the given paths.

    `protocols` are chosen from in ALPN, in that order. They must be ones that the listener speaks: a client that offers
    several takes the chosen one for granted.
    Raises OSError or ssl.SSLError where a file cannot be read or key and certificate do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(cert_path, key_path)
    context.set_alpn_protocols(list(protocols))
    return context
