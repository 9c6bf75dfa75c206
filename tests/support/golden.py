"""The demo models' golden requests: what to send, what must come back, and how close."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MODEL_REPO = Path(__file__).resolve().parents[2] / "model_repo"
DEMO_MODELS = ("efficientnet_lite0", "minilm", "wide_deep")
FP32, INT8 = 1, 2
"""The versions of every demo model: INT8 is served, FP32 stays loaded to compare with."""

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class GoldenCase:
    """All golden rows of one version. Rows are independent: any subset, in any batch, has the same answers."""

    model: str
    version: int
    inputs: dict[str, Array]
    datatypes: dict[str, str]
    expected: dict[str, Array]
    tolerance: dict[str, dict[str, float]]

    @property
    def rows(self) -> int:
        return len(next(iter(self.inputs.values())))

    def slice(self, start: int, stop: int) -> GoldenCase:
        """Returns the case of rows start to stop."""
        return GoldenCase(
            self.model,
            self.version,
            {name: array[start:stop] for name, array in self.inputs.items()},
            self.datatypes,
            {name: array[start:stop] for name, array in self.expected.items()},
            self.tolerance,
        )

    def check(self, outputs: dict[str, Array]) -> None:
        """Raises AssertionError unless `outputs` are the expected ones within the tolerance."""
        assert outputs.keys() == self.expected.keys()
        for name, expected in self.expected.items():
            found = np.asarray(outputs[name])
            assert found.shape == expected.shape, f"{self.model} {name}: {found.shape}, expected {expected.shape}"
            np.testing.assert_allclose(found, expected, **self.tolerance[name], err_msg=f"{self.model} {name}")


def golden_case(model: str, version: int = INT8) -> GoldenCase:
    """Returns the golden rows of one version of a demo model."""
    folder = MODEL_REPO / model / str(version)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    cases = json.loads((folder / "golden" / "cases.json").read_text(encoding="utf-8"))
    with np.load(folder / "golden" / cases["file"]) as arrays:
        inputs = {name.removeprefix("input."): arrays[name] for name in arrays.files if name.startswith("input.")}
        expected = {name.removeprefix("output."): arrays[name] for name in arrays.files if name.startswith("output.")}
    datatypes = {tensor["name"]: tensor["datatype"] for tensor in manifest["inputs"]}
    return GoldenCase(model, version, inputs, datatypes, expected, cases["tolerance"])


def golden_cases() -> Iterator[GoldenCase]:
    """Yields the golden case of every version of every demo model."""
    for model in DEMO_MODELS:
        for version in (FP32, INT8):
            yield golden_case(model, version)


def census_sample() -> tuple[Array, Array, Array]:
    """Returns 1,000 held-out rows: `categorical` INT64 [rows, 8], `continuous` FP32 [rows, 5], label INT8 [rows]."""
    with np.load(MODEL_REPO / "wide_deep" / "1" / "samples" / "held_out.npz") as arrays:
        return arrays["input.categorical"].astype(np.int64), arrays["input.continuous"], arrays["label"]
