"""What rows of the Adult table must be (pandera): `schema = "jobs.trainers.adult_schema:ADULT"` in a job file."""

from __future__ import annotations

import pandera.pandas as pa

from jobs.trainers.adult import CATEGORICAL, LABEL, POSITIVE

_NUMBERS = {"age": (0, 120), "educational-num": (1, 16), "capital-gain": (0, 99_999), "capital-loss": (0, 99_999),
            "hours-per-week": (0, 168)}  # fmt: skip
ADULT = pa.DataFrameSchema(
    {
        **{name: pa.Column(checks=[pa.Check.in_range(*bounds)], coerce=False) for name, bounds in _NUMBERS.items()},
        **{name: pa.Column(str, checks=[pa.Check.str_length(min_value=1)]) for name in CATEGORICAL},
        LABEL: pa.Column(str, checks=[pa.Check.isin([POSITIVE, "<=50K"])]),
    }
)
