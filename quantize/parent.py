"""The registry version that an FP32 model lies in, if it lies in one: what it says is inherited."""

from __future__ import annotations

from pathlib import Path

from gateway.registry.document import DocumentError
from gateway.registry.manifest import Manifest, parse_manifest


def parent_of(model: Path) -> tuple[Manifest | None, Path]:
    """Returns the manifest and folder of the version that the model file belongs to, if it belongs to one."""
    for folder in list(model.absolute().parents)[:4]:
        path = folder / "manifest.json"
        if path.is_file():
            try:
                return parse_manifest(path.read_bytes()), folder
            except (DocumentError, OSError):
                return None, folder
    return None, model.parent


def graph_names(parent: Manifest | None) -> dict[str, str]:
    """Returns what the graph calls each public output of the version (the same where it says nothing)."""
    if parent is None:
        return {}
    renamed = {
        key.removeprefix("graph_name."): str(value)
        for target in parent.targets
        for key, value in target.parameters.items()
        if key.startswith("graph_name.")
    }
    return {output.name: renamed.get(output.name, output.name) for output in parent.outputs}


def outputs_to_keep(model: Path, named: tuple[str, ...], present: list[str]) -> list[str] | None:
    """Returns the outputs that were named, else those that the model's version has, else None (all)."""
    if named:
        return list(named)
    inherited = list(graph_names(parent_of(model)[0]).values())
    return inherited if inherited and set(inherited) <= set(present) else None
