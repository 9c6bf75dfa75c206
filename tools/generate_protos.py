"""Generates gateway/_generated from protos/: `python tools/generate_protos.py [--check]`.

The output is what protoc writes, with two changes: imports name the package, and the check that ties generated code to
one release of the protobuf runtime is left out, because the files hold nothing but serialized descriptors, which every
runtime in our range reads the same way (tests run on what is installed).
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROTOS = ROOT / "protos"
TARGET = ROOT / "gateway" / "_generated"
PACKAGE = "gateway._generated"

_IMPORT = re.compile(r"^import (\w+_pb2) as (\w+)$", re.MULTILINE)
_VERSION_CHECK = re.compile(
    r"^from google\.protobuf import runtime_version as _runtime_version\n|"
    r"^_runtime_version\.ValidateProtobufRuntimeVersion\([^)]*\)\n|"
    r"^# Protobuf Python Version: [^\n]*\n",
    re.MULTILINE,
)


def tools_version() -> str:
    """Returns the version of the generator that is installed; recorded in the files."""
    return importlib.metadata.version("grpcio-tools")


def generate() -> dict[str, str]:
    """Returns the generated files: name to content.

    Raises:
        RuntimeError: protoc refused the protos (it has printed why).
    """
    import grpc_tools
    from grpc_tools import protoc

    sources = sorted(path.name for path in PROTOS.glob("*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        well_known = Path(grpc_tools.__file__).parent / "_proto"
        arguments = [f"-I{PROTOS}", f"-I{well_known}", f"--python_out={folder}", f"--pyi_out={folder}", *sources]
        if protoc.main(["protoc", *arguments]) != 0:
            raise RuntimeError("protoc failed")
        return {path.name: _adapt(path.read_text()) for path in sorted(Path(folder).iterdir())}


def _adapt(text: str) -> str:
    text = _VERSION_CHECK.sub("", text)
    text = _IMPORT.sub(rf"from {PACKAGE} import \1 as \2", text)
    text = re.sub(r"(BuildTopDescriptorsAndMessages\(DESCRIPTOR, ')(\w+_pb2')", rf"\1{PACKAGE}.\2", text)
    text = re.sub(r"^import (\w+_pb2)$", rf"from {PACKAGE} import \1", text, flags=re.MULTILINE)
    return f"# Written by tools/generate_protos.py with grpcio-tools {tools_version()}; do not edit.\n{text}"


def main(arguments: list[str]) -> int:
    """Writes the files, or with --check only says which differ. Returns 0, or 1 where something differs."""
    files = generate()
    present = {path.name for pattern in ("*_pb2.py", "*_pb2.pyi") for path in TARGET.glob(pattern)}
    stale = sorted(present - files.keys())
    differing = sorted(
        name for name, text in files.items() if name not in present or (TARGET / name).read_text() != text
    )
    if "--check" in arguments:
        for name in [*differing, *stale]:
            print(f"{name} does not match protos/: run tools/generate_protos.py")
        return 1 if differing or stale else 0
    for name in stale:
        (TARGET / name).unlink()
    for name in differing:
        (TARGET / name).write_text(files[name])
        print(f"wrote {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
