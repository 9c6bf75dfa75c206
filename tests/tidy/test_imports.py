"""Who may import whom. The rule of the design, read from the syntax trees."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOUNS = {
    "gateway.errors",
    "gateway.tensors",
    "gateway.messages",
    "gateway.versions",
    "gateway.routes",
    "gateway.statistics",
    "gateway.releases",
    "gateway.judgements",
}

# Layer: what of the project it may import (prefixes), and which outside modules it must not touch.
ALLOWED: dict[str, set[str]] = {
    "gateway.errors": set(),
    "gateway.tensors": set(),
    "gateway.messages": NOUNS,
    "gateway.versions": NOUNS,
    "gateway.routes": NOUNS,
    "gateway.releases": NOUNS,
    "gateway.judgements": NOUNS,
    "gateway.ports": NOUNS,
    "gateway.core": NOUNS | {"gateway.core", "gateway.ports"},
    "gateway.wire": NOUNS | {"gateway.wire", "gateway._generated", "gateway.ports"},
    "gateway.transport": {"gateway.transport"},
    "gateway.engine": NOUNS | {"gateway.engine", "gateway.core", "gateway.ports"},
    "gateway.backends": NOUNS
    | {"gateway.backends", "gateway.ports", "gateway.wire", "gateway.transport", "gateway._generated"},
    "gateway.registry": NOUNS | {"gateway.registry", "gateway.ports"},
    "gateway.bench": NOUNS
    | {
        "gateway.COMPILED",
        "gateway.bench",
        "gateway.engine.clock",
        "gateway.engine.tasks",
        "gateway.transport",
        "gateway._generated",
    },
    "gateway.telemetry": NOUNS | {"gateway.telemetry", "gateway.ports"},
    "gateway.admin": NOUNS
    | {"gateway.admin", "gateway.engine", "gateway.core", "gateway.telemetry", "gateway.config"}
    | {"gateway.config_printing", "gateway.registry", "gateway.ports", "gateway.reports"},
    "gateway.reports": NOUNS | {"gateway.reports", "gateway.commands.table"},
    "gateway.frontends": NOUNS
    | {"gateway.frontends", "gateway.engine.service", "gateway.wire", "gateway.transport", "gateway._generated"},
}
FORBIDDEN_IN_CORE = {"asyncio", "time", "random", "logging", "os", "socket", "google", "threading", "uvloop"}


def imports_of(path: Path) -> list[str]:
    tree = ast.parse(path.read_text(), str(path))
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.append(node.module or "")
            names += [f"{node.module}.{alias.name}" for alias in node.names if node.module == "gateway"]
    return names


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def layer_of(module: str) -> str | None:
    return next((layer for layer in ALLOWED if module == layer or module.startswith(layer + ".")), None)


NOT_OURS_TO_IMPORT = {"_generated", "triton_models"}
FILES = sorted(p for p in (ROOT / "gateway").rglob("*.py") if not NOT_OURS_TO_IMPORT & set(p.parts))


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_import_directions(path: Path) -> None:
    layer = layer_of(module_of(path))
    if layer is None:
        return
    for name in imports_of(path):
        if name == "gateway" or not name.startswith("gateway."):
            continue
        allowed = ALLOWED[layer]
        assert any(name == a or name.startswith(a + ".") for a in allowed), f"{module_of(path)} imports {name}"


@pytest.mark.parametrize("path", [p for p in FILES if "core" in p.parts], ids=module_of)
def test_core_is_pure(path: Path) -> None:
    for name in imports_of(path):
        assert name.split(".")[0] not in FORBIDDEN_IN_CORE, f"{module_of(path)} imports {name}"


def test_nothing_imports_the_composition_root() -> None:
    importers = [module_of(p) for p in FILES if "gateway.app" in imports_of(p) and p.name not in ("cli.py", "app.py")]
    commands = [name for name in importers if not name.startswith("gateway.commands")]
    assert commands == []
