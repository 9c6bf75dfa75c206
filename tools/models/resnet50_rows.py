"""Calibration and evaluation rows of ResNet-50 for `sluice quantize`: Fashion-MNIST scaled up, a few at a time.

Calibrated with training pictures (every 200th), judged on the first of the 10,000 test pictures, which the training
never saw. The folder of the data is $SLUICE_RESNET50_DATA.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from jobs.trainers import fashion_mnist

SIDE, CHUNK = 224, 32
CALIBRATION_STEP = 200


def calibration() -> Iterator[dict[str, NDArray[Any]]]:
    return _rows("train", CALIBRATION_STEP, labels=False)


def evaluation() -> Iterator[dict[str, NDArray[Any]]]:
    return _rows("test", 1, labels=True)


def _rows(part: str, step: int, *, labels: bool) -> Iterator[dict[str, NDArray[Any]]]:
    pictures, classes = fashion_mnist.load(Path(os.environ["SLUICE_RESNET50_DATA"]), part)
    pictures, classes = pictures[::step], classes[::step]
    for start in range(0, len(pictures), CHUNK):
        rows: dict[str, NDArray[Any]] = {"image": fashion_mnist.scaled(pictures[start : start + CHUNK], SIDE)}
        yield rows | ({"label": classes[start : start + CHUNK]} if labels else {})
