"""When the gateway as a whole is ready. (It is live while it answers at all; models have no say in that.)

Invariant: nothing is never ready. A gateway without models, or with an empty list of models to wait for, says no.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping


class ReadyPolicy(enum.Enum):
    """ALL models that should be served, ANY of them, or those LISTED by name."""

    ALL = "all"
    ANY = "any"
    LISTED = "listed"


def server_ready(policy: ReadyPolicy, models: Mapping[str, bool], listed: Collection[str] = ()) -> bool:
    """Returns whether the gateway is ready; `models` says for each model that should be served if it takes requests."""
    if policy is ReadyPolicy.ANY:
        return any(models.values())
    names = listed if policy is ReadyPolicy.LISTED else models.keys()
    return bool(names) and all(models.get(name, False) for name in names)
