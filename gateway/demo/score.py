"""`sluice demo score [--rows FILE.csv]`: who earns more than 50K a year, according to the Wide & Deep model."""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.demo.census import EXAMPLE_ROWS, CensusError, Row, Vocabulary, read_rows
from gateway.demo.client import BAD_INPUT, REFUSED, DemoError, InferClient, connect
from gateway.demo.reporting import report_errors, say, warn

MODEL, OUTPUT = "wide_deep", "probability"
ROWS_PER_REQUEST = 256
_MOST_NOTES = 10


@report_errors
def run_score(arguments: argparse.Namespace) -> int:
    """Prints the probability of every row. Returns the exit code."""
    path = Path(arguments.rows) if arguments.rows else EXAMPLE_ROWS
    vocabulary = Vocabulary()
    client = connect(arguments)
    scored: list[dict[str, Any]] = []
    noted = count = 0
    version = ""
    try:
        for rows in _batches(path, vocabulary):
            categorical, continuous, notes = vocabulary.encode(rows)
            for note in notes[: max(0, _MOST_NOTES - noted)]:
                warn(f"{path}: {note}")
            noted += len(notes)
            version, probabilities = score(client, categorical, continuous)
            for row, probability in zip(rows, probabilities.tolist(), strict=True):
                count += 1
                if arguments.json:
                    scored.append({"line": row.line, "probability": probability} | row.words | row.numbers)
                else:
                    say(row_text(row, probability))
    finally:
        client.close()
    if not count:
        raise DemoError(BAD_INPUT, f"{path} has no rows below its heading")
    if noted > _MOST_NOTES:
        warn(f"{path}: {noted - _MOST_NOTES} more words are not known")
    if arguments.json:
        say(json.dumps({"model": MODEL, "model_version": version, "rows": scored}, indent=2))
    else:
        say(f"{count} row{'s' if count != 1 else ''}  ({MODEL}, version {version})")
    return 0


def score(
    client: InferClient, categorical: NDArray[np.int64], continuous: NDArray[np.float32]
) -> tuple[str, NDArray[np.float32]]:
    """Returns the version that answered and the probability of every row, FP32 [rows]."""
    answer = client.infer(MODEL, {"categorical": categorical, "continuous": continuous}, [OUTPUT], {})
    probabilities = answer.outputs.get(OUTPUT)
    if probabilities is None or probabilities.shape != (len(categorical), 1):
        raise DemoError(REFUSED, f"the gateway's answer is not understood: no {OUTPUT} of the right shape")
    return answer.model_version, np.asarray(probabilities[:, 0], dtype=np.float32)


def row_text(row: Row, probability: float) -> str:
    """Returns one line: the probability, the person, and the table's own answer if it has one."""
    words, numbers = row.words, row.numbers
    person = (
        f"{numbers['age']:.0f} years, {words['gender']}, {words['education']}, {words['occupation']}, "
        f"{words['workclass']}, {words['marital-status']}, {numbers['hours-per-week']:.0f} h a week"
    )
    truth = f"   (in the table: {row.income})" if row.income else ""
    return f"  >50K: {probability:6.1%}   {person}{truth}"


def _batches(path: Path, vocabulary: Vocabulary) -> Iterator[list[Row]]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = read_rows(file, vocabulary)
            while batch := list(itertools.islice(rows, ROWS_PER_REQUEST)):
                yield batch
    except FileNotFoundError as error:
        raise DemoError(BAD_INPUT, f"{path}: there is no such file") from error
    except CensusError as error:
        raise DemoError(BAD_INPUT, f"{path} {error}") from error
    except UnicodeDecodeError as error:
        raise DemoError(BAD_INPUT, f"{path} is not a text file in UTF-8") from error
    except OSError as error:
        raise DemoError(BAD_INPUT, f"{path} cannot be read: {error.strerror}") from error
