"""One gateway per gRPC engine for the whole run, on the tiny test models, and one tritonclient process."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import ROOT, ClientWorker, Gateway, LoadClient

TEST_MODELS = ROOT / "tests" / "models"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "acceptance" in Path(item.fspath).parts:
            item.add_marker(pytest.mark.acceptance)


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny test models and one real network in one registry."""
    root = tmp_path_factory.mktemp("registry") / "models"
    shutil.copytree(TEST_MODELS, root)
    shutil.copytree(ROOT / "benchmarks" / "models" / "small_net", root / "small_net")
    return root


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory, registry: Path) -> Iterator[Gateway]:
    """A gateway with the native gRPC engine."""
    gateway = Gateway(tmp_path_factory.mktemp("native"), registry)
    yield gateway
    assert gateway.stop() == 0


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with the grpcio engine."""
    settings: dict[str, Any] = {"server.grpc_engine": "grpcio"}
    reference = Gateway(tmp_path_factory.mktemp("grpcio"), TEST_MODELS, settings)
    yield reference
    assert reference.stop() == 0


@pytest.fixture(scope="session")
def worker() -> Iterator[ClientWorker]:
    worker = ClientWorker()
    yield worker
    worker.stop()


@pytest.fixture(scope="module")
def neighbour(gateway: Gateway) -> Iterator[None]:
    """Well-behaved clients of all protocols work all the while, and Triton counts their rows and no others."""
    models = ("add_sub", "identity", "identity_unbatched", "faulty")
    before = {model: gateway.triton_count(model) for model in models}
    load = LoadClient(gateway, clients=3, models=["add_sub", "identity"], pace_ms=5)
    yield
    tally = load.finish()
    assert (tally["wrong"], tally["lost"], tally["errors"], tally["refused"]) == ([], [], {}, 0)
    assert tally["right"] == tally["sent"] > 0
    reached = {model: gateway.triton_count(model) - before[model] for model in models}
    assert reached == {model: tally["rows"].get(model, 0) for model in models}
