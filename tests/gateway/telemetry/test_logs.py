"""The process log: text for people, JSON lines for machines."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from gateway.telemetry.logs import set_up


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _root_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


def test_json_lines_elsewhere() -> None:
    stream = io.StringIO()
    set_up("info", "auto", stream)
    logger = logging.getLogger("sluice.test")
    logger.debug("hidden")
    logger.warning("line\nbreak %d", 7, extra={"model": "m"})
    try:
        raise ValueError("why")
    except ValueError:
        logger.exception("failed")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["message"] for line in lines] == ["line\nbreak 7", "failed"]
    assert lines[0]["level"] == "warning"
    assert lines[0]["logger"] == "sluice.test"
    assert lines[0]["model"] == "m"
    assert lines[0]["time"].endswith("Z")
    assert "ValueError: why" in lines[1]["error"]


def test_text_on_a_terminal() -> None:
    stream = Terminal()
    set_up("warning", "auto", stream)
    logging.getLogger("sluice.manager").info("hidden")
    logging.getLogger("sluice.manager").error("model lost")
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert "error   manager: model lost" in text
    assert text.startswith("\x1b[31m")


def test_the_form_can_be_forced_and_set_up_replaces() -> None:
    first, second = Terminal(), io.StringIO()
    set_up("debug", "json", first)
    set_up("debug", "text", second)
    logging.getLogger("sluice").info("once")
    assert first.getvalue() == ""
    assert "info    sluice: once" in second.getvalue()
    assert "\x1b" not in second.getvalue()
