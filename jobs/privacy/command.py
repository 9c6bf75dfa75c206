"""`sluice jobs privacy show|set DATASET`: the ledger of a data set."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from gateway.registry.store import StoreError
from jobs.privacy.ledger import BudgetExceeded, Ledger


def run(parsed: argparse.Namespace) -> int:
    """Returns the exit code: 0, or 1 if the budget is less than what is spent or the registry cannot be reached."""
    try:
        ledger = Ledger(parsed.registry, parsed.dataset)
        if parsed.what == "set":
            ledger.set_budget(parsed.epsilon, parsed.delta)
        found = ledger.read()
    except (BudgetExceeded, StoreError) as error:
        print(f"sluice: {error}", file=sys.stderr)
        return 1
    print(json.dumps(found, indent=2) if parsed.json else _shown(found))
    return 0


def _shown(found: dict[str, Any]) -> str:
    budget, left = found["budget"], found["left"]
    if budget is None:
        return f"{found['dataset']}: no budget is set"
    lines = [f"{found['dataset']}: epsilon {budget['epsilon']:g}, delta {budget['delta']:g}; "
             f"left {left['epsilon']:g} and {left['delta']:g}"]  # fmt: skip
    lines += [f"  {e['at']}  epsilon {e['epsilon']:<8g} delta {e['delta']:<8g} {e['by']}: {e['what']}"
              for e in found["entries"]]  # fmt: skip
    return "\n".join(lines)
