"""Registries built for tests: versions with real files, sizes and checksums."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

CONTENT = b"print('model')\n"
ARTIFACT = "artifacts/python/model.py"


def document(model: str = "m", version: int = 1) -> dict[str, Any]:
    """Returns a valid manifest of a version whose one file is `ARTIFACT` with `CONTENT`."""
    return {
        "schema_version": 1,
        "model": model,
        "version": version,
        "max_batch_size": 4,
        "inputs": [{"name": "X", "datatype": "FP32", "shape": [3]}],
        "outputs": [{"name": "Y", "datatype": "FP32", "shape": [-1]}],
        "targets": [{"name": "python", "artifacts": [ARTIFACT]}],
        "files": [{"path": ARTIFACT, "size": len(CONTENT), "sha256": hashlib.sha256(CONTENT).hexdigest()}],
    }


def publish(root: Path, model: str = "m", version: int = 1, **changes: Any) -> Path:
    """Writes a version below `root` and returns its folder."""
    folder = root / model / str(version)
    (folder / ARTIFACT).parent.mkdir(parents=True)
    (folder / ARTIFACT).write_bytes(CONTENT)
    (folder / "manifest.json").write_text(json.dumps(document(model, version) | changes))
    return folder


def prepared(folder: Path, content: bytes = CONTENT, **changes: Any) -> Path:
    """Writes a folder that `publish_version` takes (a manifest without identity, and its artifact) and returns it."""
    (folder / ARTIFACT).parent.mkdir(parents=True)
    (folder / ARTIFACT).write_bytes(content)
    described = {key: value for key, value in document().items() if key not in ("model", "version", "files")} | changes
    (folder / "manifest.json").write_text(json.dumps(described))
    return folder
