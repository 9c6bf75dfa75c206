"""What rows of a table of labelled texts must be (pandera): `schema = "jobs.trainers.texts_schema:TEXTS"`."""

from __future__ import annotations

import pandera.pandas as pa

from jobs.trainers.texts import LABEL, TEXT

TEXTS = pa.DataFrameSchema(
    {
        TEXT: pa.Column(str, checks=[pa.Check.str_length(min_value=1, max_value=100_000)]),
        LABEL: pa.Column(str, checks=[pa.Check.str_length(min_value=1, max_value=200)]),
    }
)
