"""Which version answers a request that names none.

A decision is integer arithmetic on a stable hash of the route's salt and the caller's key: no random source, so it can
be replayed, every process agrees, and raising a version's weight only adds keys. 0 and 10,000 basis points are exact.
"""

from __future__ import annotations

import hashlib

from gateway.routes import BUCKETS, Route


def bucket(salt: str, key: str) -> int:
    """Returns the bucket (0 to 9,999) of `key` under `salt`; the same in every process and on every machine."""
    digest = hashlib.blake2b(f"{salt}\0{key}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % BUCKETS


def choose(route: Route, key: str) -> int:
    """Returns the version number that `key` is sent to.

    Raises:
        ValueError: the route's weights do not sum to 10,000.
    """
    targets = route.targets
    if len(targets) == 1:
        return targets[0][0]
    position = bucket(route.salt, key)
    for number, weight in targets:
        if position < weight:
            return number
        position -= weight
    raise ValueError(f"weights of {route.model_name} sum to less than {BUCKETS}")


def check_route(route: Route) -> None:
    """Raises ValueError unless the weights are integers from 0 to 10,000 that sum to 10,000 over distinct versions."""
    numbers = [number for number, _ in route.targets]
    if len(set(numbers)) != len(numbers):
        raise ValueError(f"route of {route.model_name} names a version twice")
    if any(weight < 0 or weight > BUCKETS for _, weight in route.targets):
        raise ValueError(f"route of {route.model_name} has a weight outside 0 to {BUCKETS}")
    total = sum(weight for _, weight in route.targets)
    if total != BUCKETS:
        raise ValueError(f"weights of {route.model_name} sum to {total}, not {BUCKETS}")
