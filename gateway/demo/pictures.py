"""Turns a picture into the input of the ImageNet classifier. Needs pillow.

Invariant: this is the preprocessing that the network was trained to be evaluated with (centre crop of 224/256 of the
shorter side, bicubic); the normalisation is inside the served graph.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

SIZE = 224
_MARGIN = 32


def prepare(picture: Image.Image) -> NDArray[np.uint8]:
    """Returns the middle of `picture` as UINT8 [224, 224, 3], RGB.

    Follows the camera's orientation mark; transparency is laid on white. Raises OSError if the file is damaged.
    """
    upright = ImageOps.exif_transpose(picture)
    if upright.has_transparency_data:
        colour = upright.convert("RGBA")
        white = Image.new("RGBA", colour.size, "white")
        rgb = Image.alpha_composite(white, colour).convert("RGB")
    elif upright.mode.startswith("I"):
        # Sixteen bits a pixel: pillow itself would cut them at 255, which makes nearly everything white.
        rgb = Image.fromarray((np.asarray(upright) >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    else:
        rgb = upright.convert("RGB")
    width, height = rgb.size
    side = max(1, round(min(width, height) * SIZE / (SIZE + _MARGIN)))
    left, top = (width - side + 1) // 2, (height - side + 1) // 2
    box = (left, top, left + side, top + side)
    return np.asarray(rgb.resize((SIZE, SIZE), Image.Resampling.BICUBIC, box=box), dtype=np.uint8)
