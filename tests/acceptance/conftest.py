"""One gateway per gRPC engine for the whole run, on the tiny test models, and one tritonclient process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import ROOT, ClientWorker, Gateway

TEST_MODELS = ROOT / "tests" / "models"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "acceptance" in Path(item.fspath).parts:
            item.add_marker(pytest.mark.acceptance)


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with the native gRPC engine."""
    gateway = Gateway(tmp_path_factory.mktemp("native"), TEST_MODELS)
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
