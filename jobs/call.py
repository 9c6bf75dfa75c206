"""Runs a job's `module:function`: `python call.py MODULE:FUNCTION PARAMETERS-AS-JSON`.

Decides how a function is found and called: the working folder comes first on the path, as with `python -m`. A return
value that is an integer is the exit code; anything else is success. What the function registered to be done at exit is
done, but the interpreter is not taken apart: threads of native libraries that still want it then can abort the process,
and a job that had succeeded would have failed.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any


def main(target: str, parameters: str) -> int:
    """Calls the function and returns the exit code."""
    # This file's own folder is first on the path of a script; it must not shadow anything.
    sys.path[0] = os.getcwd()
    root = str(Path(__file__).resolve().parents[1])
    if root not in sys.path:
        sys.path.append(root)
    module, _, path = target.partition(":")
    function: Any = importlib.import_module(module)
    for name in path.split("."):
        function = getattr(function, name)
    result = function(**json.loads(parameters))
    return result if isinstance(result, int) and not isinstance(result, bool) else 0


class Ending:
    """The exit code, and the last thing that the process does: registered first, it comes after all others."""

    def __init__(self) -> None:
        self.code = 1
        atexit.register(self._leave)

    def of(self, ended: SystemExit) -> None:
        """Takes over what the program ended with, as the interpreter does: a text is a message and a failure."""
        if ended.code is None or isinstance(ended.code, int):
            self.code = (ended.code or 0) & 0xFF
        else:
            print(ended.code, file=sys.stderr)

    def _leave(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(self.code)


if __name__ == "__main__":
    ending = Ending()
    try:
        ending.code = main(sys.argv[1], sys.argv[2]) & 0xFF
    except SystemExit as ended:
        ending.of(ended)
    except KeyboardInterrupt:
        ending.code = 130
        raise
