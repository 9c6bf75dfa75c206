"""The process of the lean users ends when its orders do, whatever the server does."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

from gateway.bench.channels import Outcome
from loadtests.lean import LeanUsers

SCRIPT = """
import sys
from loadtests import lean
lean._LAST_SECONDS = 0.2
sys.argv = ["lean", "127.0.0.1:{port}"]
raise SystemExit(lean.main())
"""


def test_it_does_not_outlive_its_orders_before_a_server_that_never_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        script = SCRIPT.format(port=silent.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-c", script], input="3\n", capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode == 1
    assert done.stdout == ""


def test_a_user_ends_also_where_its_cancellation_was_lost() -> None:
    """In Python 3.11 `asyncio.wait_for` swallows a cancellation that comes together with the answer."""

    class Channel:
        def send(self, request: Any, token: int) -> None:
            users.want(1)  # the second user is not wanted any more
            users._answered[token].set_result((Outcome.OK, b"", None, ""))

    users = LeanUsers("", 0, {}, {"m": 1})
    users.want(2)
    requests: Any = {"m": [(b"", SimpleNamespace(matches=lambda body, length: True))]}
    channel: Any = Channel()
    asyncio.run(asyncio.wait_for(users._user(channel, requests, 1), 20))
    assert [(model, error) for model, _, error in users._done] == [("m", None)]
