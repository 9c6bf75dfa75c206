"""In which form a REST caller wants each output: JSON, or binary behind the JSON."""

from __future__ import annotations

from collections.abc import Mapping


class ReplyFormat:
    """`default` is for outputs without a wish of their own, `wishes` maps an output's name to "binary" or not.

    `key` names the format among the remembered encodings of a response head. Immutable.
    """

    __slots__ = ("default", "key", "only_json", "wishes")

    def __init__(self, default: bool, wishes: Mapping[str, bool]) -> None:
        self.default = default
        self.wishes = {name: wish for name, wish in wishes.items() if wish is not default}
        self.only_json = not default and not self.wishes
        self.key = f"rest:{'binary' if default else 'json'}:{sorted(self.wishes)}"

    def is_binary(self, output: str) -> bool:
        """Whether the output with this name is to be sent as bytes."""
        return self.wishes.get(output, self.default)


JSON_REPLY = ReplyFormat(False, {})
BINARY_REPLY = ReplyFormat(True, {})


def reply_format(default: bool, wishes: Mapping[str, bool]) -> ReplyFormat:
    """Returns the format; the two usual ones are always the same objects."""
    if all(wish is default for wish in wishes.values()):
        return BINARY_REPLY if default else JSON_REPLY
    return ReplyFormat(default, wishes)
