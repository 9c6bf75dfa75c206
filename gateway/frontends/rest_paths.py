"""What a REST path asks for: the OIP endpoints and the Triton extensions that its clients use."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes


class Endpoint(enum.Enum):
    """The endpoints below /v2; the value is the HTTP method it takes."""

    SERVER_LIVE = ("GET", "live")
    SERVER_READY = ("GET", "ready")
    SERVER_METADATA = ("GET", "server")
    MODEL_METADATA = ("GET", "model")
    MODEL_READY = ("GET", "model ready")
    MODEL_CONFIG = ("GET", "config")
    STATISTICS = ("GET", "statistics")
    INFER = ("POST", "infer")
    REPOSITORY_INDEX = ("POST", "index")
    UNSUPPORTED = ("*", "unsupported")

    @property
    def method(self) -> str:
        return self.value[0]


@dataclass(frozen=True, slots=True)
class Target:
    """An endpoint with the model and version that the path names (version None when it names none)."""

    endpoint: Endpoint
    model: str = ""
    version: str | None = None


_FIXED = {
    b"/v2": Target(Endpoint.SERVER_METADATA),
    b"/v2/": Target(Endpoint.SERVER_METADATA),
    b"/v2/health/live": Target(Endpoint.SERVER_LIVE),
    b"/v2/health/ready": Target(Endpoint.SERVER_READY),
    b"/v2/repository/index": Target(Endpoint.REPOSITORY_INDEX),
    b"/v2/models/stats": Target(Endpoint.STATISTICS),
}
_LEAVES = {
    b"": Endpoint.MODEL_METADATA,
    b"/ready": Endpoint.MODEL_READY,
    b"/config": Endpoint.MODEL_CONFIG,
    b"/stats": Endpoint.STATISTICS,
    b"/infer": Endpoint.INFER,
}
_REMEMBERED = 1024


class PathTable:
    """Parses paths and remembers the answers (bounded), because clients repeat them."""

    def __init__(self) -> None:
        self._known: dict[bytes, Target | None] = {}

    def find(self, path: bytes) -> Target | None:
        """Returns what `path` (without query) asks for, or None where nothing is."""
        try:
            return self._known[path]
        except KeyError:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            target = self._known[path] = parse(path)
            return target


def parse(path: bytes) -> Target | None:
    """Parses one path. Model names may be percent-encoded; an empty or undecodable name is nothing."""
    fixed = _FIXED.get(path)
    if fixed is not None:
        return fixed
    if path.startswith((b"/v2/systemsharedmemory", b"/v2/cudasharedmemory", b"/v2/trace", b"/v2/logging")):
        return Target(Endpoint.UNSUPPORTED)
    if path.startswith(b"/v2/repository/models/"):
        return Target(Endpoint.UNSUPPORTED)
    if not path.startswith(b"/v2/models/"):
        return None
    name, slash, rest = path[len(b"/v2/models/") :].partition(b"/")
    rest = slash + rest
    version: str | None = None
    if rest.startswith(b"/versions/"):
        number, slash, rest = rest[len(b"/versions/") :].partition(b"/")
        rest = slash + rest
        version = _text(number)
        if not version:
            return None
    model = _text(name)
    if not model:
        return None
    endpoint = _LEAVES.get(rest)
    if endpoint is None:
        if rest in (b"/generate", b"/generate_stream", b"/trace/setting"):
            return Target(Endpoint.UNSUPPORTED, model, version)
        return None
    return Target(endpoint, model, version)


def _text(raw: bytes) -> str | None:
    try:
        return unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        return None
