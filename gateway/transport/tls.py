"""TLS contexts for the listeners: TLS 1.2 at least, HTTP/2 preferred over HTTP/1.1 in ALPN."""

from __future__ import annotations

import ssl
from collections.abc import Sequence


def server_context(cert_path: str, key_path: str, *, protocols: Sequence[str] = ("h2", "http/1.1")) -> ssl.SSLContext:
    """Returns the context of a listener with the PEM certificate chain and key at the given paths.

    `protocols` are offered in ALPN in that order; a listener that speaks one protocol names that one alone.
    Raises OSError or ssl.SSLError where a file cannot be read or key and certificate do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(cert_path, key_path)
    context.set_alpn_protocols(list(protocols))
    return context
