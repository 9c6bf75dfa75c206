"""Checks what must hold before a job's program starts: `python checking.py GATE ATTEMPT-FOLDER PROGRAM ARGUMENTS…`.

Decides whether the data may be trained on: every table with a schema (pandera) is read at its pinned version and all
its rows are checked. One that fails is refused: the rows are named, the program is never started. Then the epsilon
that the job may spend is entered into its data set's ledger; if that has not so much left, the job is refused.
Otherwise this process becomes the program.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

_MOST_ROWS = 20
_REFUSED_CODE = 65  # EX_DATAERR of sysexits.h


def refusals(name: str, table: str, version: int | None, schema: str) -> list[str]:
    """Returns a sentence for every row, or column, that the schema refuses; the first of many."""
    import pandera.errors

    from jobs.tables import read

    module, _, path = schema.partition(":")
    wanted: Any = importlib.import_module(module)
    for part in path.split("."):
        wanted = getattr(wanted, part)
    frame = read(table, version).to_pandas()
    try:
        wanted.validate(frame, lazy=True)
    except pandera.errors.SchemaErrors as error:
        cases = error.failure_cases
        where = f"input {name} ({table}@{version})"
        found = []
        for case in cases.head(_MOST_ROWS).itertuples():
            row = "" if case.index is None or case.index != case.index else f" row {int(case.index)}:"
            column = f" column {case.column}" if case.column is not None else ""
            found.append(f"{where}:{row}{column} is {case.failure_case!r}, which is refused by {case.check}")
        if len(cases) > _MOST_ROWS:
            found.append(f"{where}: and {len(cases) - _MOST_ROWS} more")
        return found
    return []


def overspent(privacy: dict[str, Any]) -> str | None:
    """Enters the job into its data set's ledger; returns why not if there is not enough left."""
    from datetime import UTC, datetime

    from jobs import files
    from jobs.privacy.ledger import BudgetExceeded, Entry, Ledger

    known = files.read_json(os.environ["SLUICE_LINEAGE_FILE"]) or {}
    entry = Entry(
        key=known["uid"], epsilon=privacy["epsilon"], delta=privacy["delta"], by=known["owner"],
        what=f"job {known['job']} {known['name']}", at=datetime.now(UTC).isoformat(timespec="seconds"),
    )  # fmt: skip
    try:
        Ledger(privacy["registry"], privacy["dataset"]).spend(entry)
    except BudgetExceeded as error:
        return str(error)
    return None


def main(gate: str, folder: str, command: list[str]) -> int:
    """Returns the exit code for what is refused; otherwise never returns."""
    sys.path[0] = os.getcwd()
    root = str(Path(__file__).resolve().parents[1])
    if root not in sys.path:
        sys.path.append(root)
    document = json.loads(gate)
    found = [refusal for check in document["tables"] for refusal in refusals(*check)]
    reason = "data_refused"
    # Entered last: data that is refused must not cost budget.
    if not found and document["privacy"] and (why := overspent(document["privacy"])) is not None:
        found, reason = [why], "budget_exceeded"
    if not found:
        os.execvp(command[0], command)
    for refusal in found:
        print(f"sluice: {refusal}", flush=True)
    detail = found[0] + (f" (and {len(found) - 1} more: see the log)" if len(found) > 1 else "")
    document = {"reason": reason, "detail": detail[:2000]}
    (Path(folder) / "refused.json").write_text(json.dumps(document), encoding="utf-8")
    return _REFUSED_CODE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
