"""What is known about a setting besides its type, and how a setting is written down.

The settings themselves are in `config`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What is known about a setting besides its type: meaning, inclusive bounds, allowed words.

    `path` values are file names: a relative one in the file is relative to that file. `secret` values come from the
    environment only and are never shown.
    """

    doc: str
    minimum: int | None = None
    maximum: int | None = None
    choices: tuple[str, ...] = ()
    path: bool = False
    secret: bool = False


def setting(default: Any, doc: str, **rule: Any) -> Any:
    rule_ = Rule(doc=doc, **rule)
    return field(default=default, repr=not rule_.secret, metadata={"rule": rule_})


def port(default: int, doc: str) -> Any:
    return setting(default, doc + " 0 takes any free one.", minimum=0, maximum=65535)


def rule_of(setting: dataclasses.Field[Any]) -> Rule:
    """Returns the rule of a field of one of the section classes below."""
    rule: Rule = setting.metadata["rule"]
    return rule
