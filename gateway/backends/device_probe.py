"""Finds out what TensorRT engines would run on: the GPUs of this machine, and the TensorRT beside the embedded Triton.

Only the machine can say it: Triton's API names neither. For Tritons elsewhere the configuration says it.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

from gateway.backends.device import Device

_COMMAND = ("nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader")
_TIMEOUT_S = 10
_CAPABILITY = re.compile(r"[0-9]{1,2}\.[0-9]")
_LIBRARY = re.compile(r"libnvinfer\.so\.([0-9]+\.[0-9]+\.[0-9]+)")


def probe(backends: Path, folders: tuple[Path, ...], ask: Callable[[], str] | None = None) -> Device:
    """Returns what is here (blocking, at most ten seconds); whatever cannot be found out is taken as not there.

    `backends` is the embedded Triton's backend folder, `folders` are where its libraries are searched.
    """
    said = (ask or _nvidia_smi)()
    found = [line.strip() for line in said.splitlines()]
    capabilities = tuple(dict.fromkeys(one for one in found if _CAPABILITY.fullmatch(one)))
    version = _tensorrt((backends / "tensorrt", *folders)) if (backends / "tensorrt").is_dir() else None
    return Device(compute_capabilities=capabilities, runtimes={"tensorrt": version} if version else {})


def _nvidia_smi() -> str:
    try:
        return subprocess.run(_COMMAND, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False).stdout
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return ""


def _tensorrt(folders: tuple[Path, ...]) -> str | None:
    """Returns the version in the library's file name, the one thing about it that can be read without loading it."""
    for folder in folders:
        for path in sorted(folder.glob("libnvinfer.so.*")):
            if match := _LIBRARY.fullmatch(path.name):
                return match[1]
    return None
