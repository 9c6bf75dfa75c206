"""The requests that `make demo` shows can be pasted as they stand."""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path

import numpy as np

from gateway.demo import requests
from gateway.demo.commands import add_demo_parsers


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_demo_parsers(parser.add_subparsers(required=True))
    return parser.parse_args(words)


def test_the_paste_lines_parse_and_name_their_addresses() -> None:
    lines = [shlex.split(line) for line in requests.paste_lines("http://127.0.0.1:1234", "127.0.0.1:4321").splitlines()]
    commands = [line for line in lines if line[0] == "sluice"]
    for words in commands:
        assert words[:2] == ["sluice", "demo"]
        assert parse(*words[2:]).url in ("127.0.0.1:1234", "127.0.0.1:4321")
    curls = [line for line in lines if line[0] == "curl"]
    assert [words[2].split("/")[-2] for words in curls] == ["efficientnet_lite0", "minilm", "wide_deep"]
    assert all(words[2].startswith("http://127.0.0.1:1234/v2/models/") for words in curls)
    for words in curls[1:]:
        for tensor in json.loads(words[-1])["inputs"]:
            assert np.prod(tensor["shape"]) == len(tensor["data"])
    assert Path(curls[0][-1].removeprefix("@")).resolve() == requests.PICTURE_REQUEST


def test_the_default_addresses_are_left_out() -> None:
    assert "--url" not in requests.paste_lines("127.0.0.1:8000", "127.0.0.1:8001")
