"""Compiled modules take the place of the sources they were made of (docs/adr/0018).

`make compile` (tools/compile.py) makes machine code of the modules that every request passes through. It is used only
if it was made of exactly the sources that are here, all of them: a compiled module relies on what the others declare.
Whoever edits one runs the sources, until `make compile`, which `make demo` and others run first.

SLUICE_COMPILED: 0 runs the sources; 1 refuses to start without compiled modules that fit; otherwise what is there.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.machinery
import importlib.util
import os
import sys
from pathlib import Path

PACKAGE = Path(__file__).parent
FOLDER = PACKAGE.parent / ".cache" / "compiled"
VARIABLE = "SLUICE_COMPILED"

_SUFFIX = importlib.machinery.EXTENSION_SUFFIXES[0]


def digest() -> str:
    """Returns a name for the sources of this package together with the interpreter that runs them. Raises OSError where
    one goes away meanwhile."""
    found = hashlib.sha256(_SUFFIX.encode())
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.name[0] != ".":  # editors put locks beside what they edit
            content = path.read_bytes()
            found.update(b"%s\0%d\0" % (path.relative_to(PACKAGE).as_posix().encode(), len(content)))
            found.update(content)
    return found.hexdigest()[:20]


def modules(folder: Path) -> dict[str, str]:
    """Returns the files of the compiled modules in a folder by the modules' full names."""
    found = {}
    for path in folder.rglob(f"*{_SUFFIX}"):
        name = path.relative_to(folder).as_posix().removesuffix(_SUFFIX).replace("/", ".")
        found[name] = str(path)
    return found


class Finder:
    """Finds modules in these files, before the path is looked at (importlib.abc.MetaPathFinder)."""

    def __init__(self, files: dict[str, str]) -> None:
        self._files = files

    def find_spec(self, name: str, path: object = None, target: object = None) -> importlib.machinery.ModuleSpec | None:
        """Returns where a module is if it is compiled, or None."""
        file = self._files.get(name)
        return importlib.util.spec_from_file_location(name, file) if file is not None else None


def use() -> bool:
    """Makes later imports take compiled modules if there are some that fit; returns whether there are.

    Raises ImportError where SLUICE_COMPILED is 1 and there are none.
    """
    wanted = os.environ.get(VARIABLE, "")
    files: dict[str, str] = {}
    if wanted != "0" and FOLDER.is_dir():
        with contextlib.suppress(OSError):
            files = modules(FOLDER / digest())
    if files:
        sys.meta_path.insert(0, Finder(files))
    elif wanted == "1":
        raise ImportError(
            f"{VARIABLE} is 1, but {FOLDER} has no modules compiled of the sources as they are: make compile"
        )
    return bool(files)
