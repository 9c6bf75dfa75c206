"""Fills in what a manifest says about files: lists every file of a version's folder with its size and sha256.

    python tools/seal_version.py model_repo/minilm/1 [more folders…]

Entries that have a `source` (artifacts fetched from a package) are kept as they are while their file is absent. Run it
last, after everything else in the folder is final.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any


def seal(folder: Path) -> None:
    """Rewrites `folder`/manifest.json with up-to-date `files`, atomically."""
    path = folder / "manifest.json"
    manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    known = {entry["path"]: entry for entry in manifest.get("files", [])}
    present = {
        file.relative_to(folder).as_posix(): file
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file != path and "__pycache__" not in file.parts
    }
    entries = []
    for name in sorted(present.keys() | {n for n, e in known.items() if "source" in e}):
        entry = {"path": name} | known.get(name, {})
        if name in present:
            content = present[name].read_bytes()
            entry |= {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        entries.append(entry)
    manifest["files"] = entries
    fresh = path.with_suffix(".json.new")
    fresh.write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(fresh, path)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    for argument in sys.argv[1:]:
        seal(Path(argument))
