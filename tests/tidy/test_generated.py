"""The committed protobuf code is what protos/ generates: byte for byte with the same generator, else by descriptor."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
GENERATED = ROOT / "gateway" / "_generated"
_DESCRIPTOR = re.compile(r"AddSerializedFile\((b'.*')\)")


def load_tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_protos", ROOT / "tools" / "generate_protos.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def generated() -> dict[str, str]:
    files: dict[str, str] = load_tool().generate()
    return files


def descriptor(text: str) -> str:
    found = _DESCRIPTOR.search(text)
    assert found is not None
    return found[1]


def test_no_file_is_missing_or_left_over(generated: dict[str, str]) -> None:
    present = {path.name for pattern in ("*_pb2.py", "*_pb2.pyi") for path in GENERATED.glob(pattern)}
    assert present == set(generated)
    assert {"open_inference_pb2.py", "model_config_pb2.py", "health_pb2.py"} <= present


def test_committed_code_matches_the_protos(generated: dict[str, str]) -> None:
    for name, text in generated.items():
        committed = (GENERATED / name).read_text()
        if committed.partition("\n")[0] == text.partition("\n")[0]:
            assert committed == text, f"{name}: run tools/generate_protos.py"
        elif name.endswith(".py"):
            assert descriptor(committed) == descriptor(text), f"{name}: run tools/generate_protos.py"


def test_imports_name_the_package(generated: dict[str, str]) -> None:
    for name, text in generated.items():
        assert not re.search(r"^import \w+_pb2", text, re.MULTILINE), name
