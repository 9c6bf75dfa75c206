"""The process of the lean users ends when its orders do, whatever the server does."""

from __future__ import annotations

import socket
import subprocess
import sys

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
