from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest

from gateway.registry.object_store import ObjectStore
from tests.registry_stores import servers

_serial = itertools.count()


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.S3]:
    with servers.seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as server:
        yield server


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.S3]:
    with servers.moto(tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.fixture(scope="session")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.S3]:
    with servers.rclone(tmp_path_factory.mktemp("rclone")) as server:
        yield server


@pytest.fixture(params=["seaweedfs", "moto"])
def server(request: pytest.FixtureRequest) -> servers.S3:
    """A server that honours preconditions: each test runs against both."""
    found: servers.S3 = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def location() -> str:
    """A registry of the test's own in the bucket."""
    return f"s3://{servers.BUCKET}/r{next(_serial)}"


@pytest.fixture
def store(server: servers.S3, location: str) -> ObjectStore:
    return ObjectStore(location, **server.settings)


@pytest.fixture
def open_store(server: servers.S3, location: str) -> Callable[..., ObjectStore]:
    """Opens the test's registry again, as another process would."""
    return lambda **settings: ObjectStore(location, **(server.settings | settings))
