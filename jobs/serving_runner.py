"""The runner that a longer command (a search, a pipeline) works with: one that serves the folder, or one of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from jobs import processes
from jobs.client import Client, NoRunner
from jobs.state_folder import StateFolder

_START = "import sys; from gateway.cli import main; sys.exit(main(sys.argv[1:]))"
_STOP_S = 20


@contextmanager
def served(state: StateFolder) -> Iterator[Client]:
    """Gives a client whose runner is up while the context is open; jobs that run when it is left go on.

    An own runner ends with this process, however that ends; the next one adopts what it left.

    Raises:
        NoRunner: none could be started.
    """
    client = Client(state)
    try:
        client.call("GET", "/v1/health")
    except NoRunner:
        pass
    else:
        yield client
        return
    command = [sys.executable, "-c", _START, "jobs", "serve", "--port", "0", "--json"]
    process = subprocess.Popen(
        [*command, "--state-folder", str(state.root)], stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL,
        preexec_fn=processes.die_with_parent, start_new_session=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise NoRunner(f"no runner could be started on {state.root} (its message is above)")
        json.loads(line)
        yield client
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
