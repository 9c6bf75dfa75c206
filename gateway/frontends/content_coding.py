"""Compressed bodies over HTTP: requests decompressed within a bound, answers compressed where that pays.

Compressing holds the event loop, so that large answers leave as they are: whoever asks for megabytes has the binary
extension.
"""

from __future__ import annotations

import zlib

from gateway.errors import ErrorCode, GatewayError, invalid
from gateway.tensors import Buffer

COMPRESS_FROM = 1024
COMPRESS_UP_TO = 1 << 20
_SHOWN = 100
_ZLIB, _RAW, _GZIP = 15, -15, 31


def inflate(body: Buffer, coding: bytes, most: int, setting: str) -> Buffer:
    """Returns a body without its content-encoding `coding` (as the header says it, in any case).

    A deflate body may be a zlib stream, as the standard says, or a raw one, as some clients send.

    Raises:
        GatewayError: UNSUPPORTED coding, INVALID_REQUEST for data that are not exactly one stream, PAYLOAD_TOO_LARGE
            beyond `most` bytes, which is what `setting` allows.
    """
    name = coding.strip().lower()
    if name in (b"identity", b""):
        return body
    if name in (b"gzip", b"x-gzip"):
        plain = _stream(body, _GZIP, most)
    elif name == b"deflate":
        plain = _stream(body, _ZLIB, most)
        if plain is None:
            plain = _stream(body, _RAW, most)
    else:
        shown = coding[:_SHOWN].decode("latin-1")
        raise GatewayError(ErrorCode.UNSUPPORTED, f"content-encoding '{shown}' is not supported: use gzip or deflate")
    if plain is None:
        raise invalid(
            f"the compressed body is not exactly one {name.decode()} stream: broken, cut short or followed by data"
        )
    if len(plain) > most:
        raise GatewayError(
            ErrorCode.PAYLOAD_TOO_LARGE, f"the decompressed body is larger than {setting} ({most} bytes) allows"
        )
    return plain


def _stream(body: Buffer, window: int, most: int) -> bytes | None:
    """Returns what one stream decompresses to, one byte more than `most` at most; None where it is broken."""
    inflater = zlib.decompressobj(window)
    try:
        plain = inflater.decompress(body, most + 1)
    except zlib.error:
        return None
    if len(plain) <= most and (not inflater.eof or inflater.unused_data):
        return None
    return plain


def compress(headers: bytes, chunks: list[Buffer], encoding: str) -> tuple[bytes, list[Buffer]]:
    """Returns (header lines, pieces of the body) of an answer, compressed where that pays."""
    if not COMPRESS_FROM <= sum(map(len, chunks)) <= COMPRESS_UP_TO:
        return headers, chunks
    deflater = zlib.compressobj(1, zlib.DEFLATED, _GZIP if encoding == "gzip" else _ZLIB)
    packed = [deflater.compress(chunk) for chunk in chunks]
    packed.append(deflater.flush())
    return headers + b"content-encoding: %s\r\n" % encoding.encode(), [b"".join(packed)]


def choose_encoding(accepted: bytes) -> str | None:
    """Returns the coding of an answer for the value of `accept-encoding`: gzip, else deflate, else none."""
    offered = set()
    for part in accepted.lower().split(b","):
        name, _, quality = part.replace(b" ", b"").partition(b";q=")
        if quality.strip(b"0.") or not quality:
            offered.add(name)
    if b"gzip" in offered:
        return "gzip"
    return "deflate" if b"deflate" in offered else None
