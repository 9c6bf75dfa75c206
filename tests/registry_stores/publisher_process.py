"""A publisher in a process of its own: `LOCATION SOURCE KILL_AT ROUNDS ACTOR`; it kills itself at its KILL_AT-th step.

The server comes from the environment (AWS_…). Prints what it published, and at the end its steps, as JSON lines.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from gateway.registry.object_store import ObjectStore
from gateway.registry.publishing import PublishOptions, publish_version


def main() -> None:
    location, source, kill_at, rounds, actor = sys.argv[1:]
    steps: list[str] = []

    def step(name: str) -> None:
        steps.append(name)
        if len(steps) == int(kill_at):
            os.kill(os.getpid(), signal.SIGKILL)

    store = ObjectStore(location, step)
    for number in range(int(rounds)):
        options = PublishOptions(serve=True, step=step)
        published = publish_version(store, Path(source), "m", actor=actor, reason=f"round {number}", options=options)
        print(json.dumps([published.version.number, published.generation]), flush=True)
    print(json.dumps(steps), flush=True)


if __name__ == "__main__":
    main()
