"""Reading a pinned version of a Delta table with delta-rs, from a folder or an object store."""

from __future__ import annotations

from typing import Any


def read(table: str, version: int | None) -> Any:
    """Returns the rows as a pyarrow Table. The keys of an object store come from the environment (AWS_…).

    Raises:
        OSError: there is no such table or version.
    """
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    try:
        return DeltaTable(table, version=version).to_pyarrow_table()
    except DeltaError as error:
        raise OSError(2, f"{table}@{version}: {error}") from error
