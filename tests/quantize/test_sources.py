"""Rows from files and functions: the same rows in every form, a few at a time."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quantize.errors import BadInput
from quantize.sources import open_source

ROWS = {"x": np.arange(60, dtype=np.float32).reshape(20, 3), "label": np.arange(20) % 2, "group": np.arange(20) // 4}


def chunks() -> Iterator[dict[str, Any]]:
    """What `module:function` names in these tests."""
    for start in range(0, 20, 7):
        yield {key: array[start : start + 7] for key, array in ROWS.items()}


def collected(where: str, rows: int = 6, most: int | None = None) -> tuple[Any, Any, Any]:
    found = list(open_source(where).batches(rows, most))
    assert all(batch.rows <= rows for batch in found)
    return (
        np.concatenate([b.inputs["x"] for b in found]),
        np.concatenate([b.labels for b in found]),  # type: ignore[misc]
        np.concatenate([b.groups for b in found]),  # type: ignore[misc]
    )


@pytest.fixture
def places(tmp_path: Path) -> list[str]:
    import pyarrow
    import pyarrow.parquet

    np.savez(tmp_path / "rows.npz", **ROWS)
    np.savez_compressed(tmp_path / "fortran.npz", **{k: np.asfortranarray(v) for k, v in ROWS.items()})
    (tmp_path / "folder").mkdir()
    for number, chunk in enumerate(chunks()):
        np.savez(tmp_path / "folder" / f"{number}.npz", **chunk)
    columns = {"x": pyarrow.array(ROWS["x"].tolist(), pyarrow.list_(pyarrow.float32()))}
    columns |= {key: pyarrow.array(ROWS[key]) for key in ("label", "group")}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "rows.parquet")
    return [str(tmp_path / n) for n in ("rows.npz", "fortran.npz", "folder", "rows.parquet")]


def test_every_form_gives_the_same_rows(places: list[str]) -> None:
    for place in places:
        for found, key in zip(collected(place), ("x", "label", "group"), strict=True):
            np.testing.assert_array_equal(found, ROWS[key], place)
        assert len(collected(place, most=9)[0]) == 9
        assert open_source(place).sha256 == open_source(place).sha256


def test_a_function_gives_rows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "given_rows.py").write_text(
        "import numpy as np\ndef rows():\n    for n in (3, 4):\n        yield {'x': np.ones((n, 2), np.float32)}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    source = open_source("given_rows:rows")
    assert [b.rows for b in source.batches(3)] == [3, 3, 1]
    assert [b.rows for b in source.batches(3)] == [3, 3, 1], "a source can be read again"
    for bad in ("given_rows:none", "no_such_module:rows", "given_rows:np"):
        with pytest.raises(BadInput):
            open_source(bad)


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    peaks = []
    for rows in (200, 2000):
        path = tmp_path / f"{rows}.npz"
        np.savez(path, x=np.zeros((rows, 3, 32, 32), np.float32))
        tracemalloc.start()
        assert sum(batch.rows for batch in open_source(str(path)).batches(8)) == rows
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] * 1.5 < 5e6


def test_only_lossless_integer_widening(tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", ids=np.array([[1], [2]], np.int8), wide=np.array([[1], [2]], np.int64))
    source = open_source(str(tmp_path / "rows.npz"))
    source.widen_to({"ids": np.dtype(np.int64), "wide": np.dtype(np.int8)})
    batch = next(iter(source.batches(2)))
    assert (batch.inputs["ids"].dtype, batch.inputs["wide"].dtype) == (np.int64, np.int64)
