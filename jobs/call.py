"""Runs a job's `module:function`: `python call.py MODULE:FUNCTION PARAMETERS-AS-JSON`.

Decides how a function is found and called: the working folder comes first on the path, as with `python -m`. A return
value that is an integer is the exit code; anything else is success.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
