"""`sluice demo classify PICTURE…`: what is on it, according to the ImageNet classifier."""

from __future__ import annotations

import argparse
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.demo.client import BAD_INPUT, REFUSED, DemoError, InferClient, connect
from gateway.demo.reporting import report_errors, say

MODEL, INPUT, OUTPUT = "efficientnet_lite0", "image", "probabilities"
MOST_PICTURES, MOST_CLASSES = 32, 1000


@dataclass(frozen=True, slots=True)
class ClassScore:
    """One class: its number, its name, its probability."""

    index: int
    label: str
    probability: float


@report_errors
def run_classify(arguments: argparse.Namespace) -> int:
    """Prints the best classes of every picture. Returns the exit code."""
    paths: list[str] = arguments.pictures
    if len(paths) > MOST_PICTURES:
        raise DemoError(BAD_INPUT, f"{len(paths)} pictures: at most {MOST_PICTURES} go into one request")
    if not 1 <= arguments.top <= MOST_CLASSES:
        raise DemoError(BAD_INPUT, f"--top {arguments.top}: must be 1 to {MOST_CLASSES}")
    images = np.stack([read_picture(Path(path)) for path in paths])
    client = connect(arguments)
    try:
        version, classes = classify(client, images, arguments.top)
    finally:
        client.close()
    if arguments.json:
        found = [
            {"picture": path, "classes": [_plain(score) for score in scores]}
            for path, scores in zip(paths, classes, strict=True)
        ]
        say(json.dumps({"model": MODEL, "model_version": version, "pictures": found}, indent=2))
        return 0
    for path, scores in zip(paths, classes, strict=True):
        say(f"{path}  ({MODEL}, version {version})")
        for score in scores:
            say(f"  {score.probability:6.1%}  {score.label}")
    return 0


def classify(client: InferClient, images: NDArray[np.uint8], top: int) -> tuple[str, list[list[ClassScore]]]:
    """Returns the version that answered and the `top` classes of each of `images`, UINT8 [rows, 224, 224, 3].

    Asks for Triton's classification extension, so that the names come from the version that answered.
    """
    answer = client.infer(MODEL, {INPUT: images}, [OUTPUT], {OUTPUT: top})
    try:
        rows = answer.outputs[OUTPUT]
        if rows.shape != (len(images), top):
            raise ValueError(f"classes of shape {list(rows.shape)} came back, not {[len(images), top]}")
        return answer.model_version, [[parse_class(element) for element in row] for row in rows]
    except (KeyError, ValueError) as error:
        raise DemoError(REFUSED, f"the gateway's answer is not understood: {error}") from error


def parse_class(element: bytes) -> ClassScore:
    """Returns the class in "probability:index:label". Raises ValueError."""
    probability, index, label = element.decode("utf-8").split(":", 2)
    return ClassScore(int(index), label, float(probability))


def read_picture(path: Path) -> NDArray[np.uint8]:
    """Returns the picture in a file as the model's input. Raises DemoError."""
    try:
        from PIL import Image, UnidentifiedImageError

        from gateway.demo.pictures import prepare
    except ModuleNotFoundError as error:
        raise DemoError(BAD_INPUT, "pictures need the pillow package: pip install 'sluice[demo]'") from error
    try:
        # A picture of 100 megapixels is unusual and no attack: it is the user's own file.
        with (
            warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning),
            Image.open(path) as file,
        ):
            return prepare(file)
    except FileNotFoundError as error:
        raise DemoError(BAD_INPUT, f"{path}: there is no such file") from error
    except UnidentifiedImageError as error:
        raise DemoError(BAD_INPUT, f"{path}: not a picture (PNG, JPEG, WebP, …)") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DemoError(BAD_INPUT, f"{path}: cannot be read: {reason}") from error


def _plain(score: ClassScore) -> dict[str, Any]:
    return {"index": score.index, "label": score.label, "probability": score.probability}
