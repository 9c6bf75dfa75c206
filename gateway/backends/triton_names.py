"""How Triton calls the versions that the gateway serves (docs/adr/0002)."""

from __future__ import annotations

import re
from typing import Protocol

from gateway.backends.triton_repository import triton_name
from gateway.versions import ModelVersion

_VERSIONED = re.compile(r"(.+)\.v([1-9][0-9]{0,9})")


class TritonNames(Protocol):
    """Maps a version to Triton's model name and version ("" = the only one)."""

    def __call__(self, version: ModelVersion) -> tuple[str, str]: ...


def versioned(version: ModelVersion) -> tuple[str, str]:
    """One Triton model per version, as the gateway itself loads them: `resnet50.v7`, version 1."""
    return triton_name(version), "1"


def as_they_are(version: ModelVersion) -> tuple[str, str]:
    """A Triton that keeps its own repository: names and versions are its own."""
    return version.model_name, str(version.number)


def version_of(name: str) -> ModelVersion | None:
    """Returns the version that `versioned` would call `name`, None if there is none such."""
    match = _VERSIONED.fullmatch(name)
    return ModelVersion(match[1], int(match[2])) if match else None
