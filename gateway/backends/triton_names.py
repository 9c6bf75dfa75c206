"""How Triton calls the versions that the gateway serves (docs/adr/0002)."""

from __future__ import annotations

import re
from typing import Protocol

from gateway.backends.triton_repository import triton_name
from gateway.versions import ModelVersion

_NAME = re.compile(r"(?P<name>.+)\.v(?P<number>[1-9][0-9]{0,9})")


class TritonNames(Protocol):
    """Maps a version to Triton's model name and version ("" = the only one)."""

    def __call__(self, version: ModelVersion) -> tuple[str, str]: ...

    def version_of(self, name: str) -> ModelVersion | None:
        """Returns the version that Triton knows under `name`, None if that is none of ours."""
        ...


class VersionedNames:
    """One Triton model per version, as the gateway itself loads them: `resnet50.v7`, version 1.

    In a Triton that other gateways may use too, names end in the `owner`: `resnet50.v7.3f2a90bc`. Nobody then loads
    over or unloads what another one serves from.
    """

    def __init__(self, owner: str = "") -> None:
        self.owner = owner

    def __call__(self, version: ModelVersion) -> tuple[str, str]:
        return triton_name(version, self.owner), "1"

    def version_of(self, name: str) -> ModelVersion | None:
        end = f".{self.owner}" if self.owner else ""
        match = _NAME.fullmatch(name.removesuffix(end)) if name.endswith(end) else None
        return ModelVersion(match["name"], int(match["number"])) if match is not None else None


class OwnNames:
    """A Triton that keeps its own repository: names and versions are its own."""

    def __call__(self, version: ModelVersion) -> tuple[str, str]:
        return version.model_name, str(version.number)

    def version_of(self, name: str) -> ModelVersion | None:
        return None
