"""The registry in a bucket, on real servers."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.config import Config, RegistryConfig
from gateway.doctor import Status
from gateway.doctor.models import models
from gateway.registry import journal, numbering
from gateway.registry.collecting import Ages, collect
from gateway.registry.object_store import ObjectStore
from gateway.registry.pointing import pointer_of
from gateway.registry.publishing import PublishOptions, publish_version
from gateway.registry.store import AlreadyThere, Changed, StoreError
from gateway.registry.switching import retire_version, serve_version
from gateway.registry.verifying import models_in, verify_model
from gateway.registry.watcher import RegistryWatcher
from gateway.versions import ModelVersion
from tests.registry_stores.servers import S3
from tests.support.publishers import Nursery, publisher
from tests.support.registry import ARTIFACT, prepared

KEY = "m/serving.json"
STEPS = 15
SERVE = PublishOptions(serve=True)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return prepared(tmp_path / "prepared")


@pytest.fixture(scope="module")
def nursery(seaweedfs: S3) -> Iterator[Nursery]:
    found = Nursery(seaweedfs.environment)
    yield found
    found.close()


def test_a_store_that_ignores_preconditions_is_refused(rclone: S3, location: str, source: Path) -> None:
    store = ObjectStore(location, **rclone.settings)
    with pytest.raises(StoreError, match="ignores If-None-Match"):
        store.probe()
    with pytest.raises(StoreError, match="ignores If-None-Match"):
        publish_version(store, source, "m", actor="a")
    assert store.names("") == []


def test_the_probe_passes_and_leaves_nothing(store: ObjectStore) -> None:
    store.probe()
    assert store.names(".registry/probes") == []


def test_create_and_replace(store: ObjectStore, open_store: Callable[..., ObjectStore]) -> None:
    other = open_store()
    tag = store.create(KEY, b"1")
    with pytest.raises(AlreadyThere):
        other.create(KEY, b"2")
    fresh = other.replace(KEY, b"2", tag)
    with pytest.raises(Changed):
        store.replace(KEY, b"3", tag)
    found = store.read(KEY)
    assert found is not None
    assert (found.content, found.tag) == (b"2", fresh)


def test_an_answer_that_was_lost_is_looked_up(store: ObjectStore) -> None:
    """The client sends again when an answer is lost; what it then finds is its own write."""
    tag = store.create(KEY, b"mine")
    assert store.create(KEY, b"mine") == tag
    fresh = store.replace(KEY, b"mine too", tag)
    assert store.replace(KEY, b"mine too", tag) == fresh


def test_files_of_any_name_and_size(store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(os.urandom(20 << 20))
    writing = store.begin("m/1")
    for name in ("a b/ä#?%41.txt", "large"):
        written = writing.add(name, (tmp_path / "large") if name == "large" else b"small")
        assert writing.written(name) == written
    assert numbering.numbers_present(store, "m") == ()
    writing.commit(b"{}")
    assert numbering.numbers_present(store, "m") == (1,)
    assert store.fetch("m/1/large", tmp_path / "copy") == store.digest("m/1/large")
    assert (tmp_path / "copy").read_bytes() == (tmp_path / "large").read_bytes()
    assert store.digest("m/1/nothing") is None


def test_publish_serve_retire_collect(store: ObjectStore, source: Path) -> None:
    for number in (1, 2):
        published = publish_version(store, source, "m", actor="a", options=SERVE)
        assert (published.version.number, published.generation) == (number, number)
    assert models_in(store) == ["m"]
    assert verify_model(store, "m") == []
    retire_version(store, ModelVersion("m", 1), actor="b")
    found = collect(store, actor="c", ages=Ages(retired_s=0))
    assert found.versions == (ModelVersion("m", 1),)
    assert numbering.numbers_present(store, "m") == (2,)
    assert publish_version(store, source, "m", actor="a").version.number == 3
    serve_version(store, ModelVersion("m", 3), actor="d")
    actions = [entry["action"] for entry in journal.entries(store)]
    assert actions == ["publish", "serve", "publish", "serve", "retire", "remove", "publish", "serve"]


def test_a_changed_object_is_found_and_named(store: ObjectStore, source: Path, server: S3, location: str) -> None:
    publish_version(store, source, "m", actor="a", options=SERVE)
    for name in (ARTIFACT, "manifest.json", "manifest.sha256"):
        found = store.read(f"m/1/{name}")
        assert found is not None
        flipped = bytes([found.content[0] ^ 1]) + found.content[1:]
        store.replace(f"m/1/{name}", flipped, found.tag)
        (finding,) = verify_model(store, "m")
        assert name in str(finding)
        changed = store.read(f"m/1/{name}")
        assert changed is not None
        store.replace(f"m/1/{name}", found.content, changed.tag)
    assert verify_model(store, "m") == []


def test_a_flipped_bit_in_any_object_is_refused_before_anything_is_handed_out(
    store: ObjectStore, source: Path, server: S3, location: str, tmp_path: Path
) -> None:
    """What Triton is given comes from `look_up` alone."""
    publish_version(store, source, "m", actor="a", options=SERVE)
    watcher = RegistryWatcher(lambda: ObjectStore(location, **server.settings), location, tmp_path / "cache")
    assert watcher.look() == {"m": (1,)}
    for name in ("artifacts/python/model.py", "manifest.json", "manifest.sha256"):
        found = store.read(f"m/1/{name}")
        assert found is not None
        for position in range(0, len(found.content), max(1, len(found.content) // 8)):
            bad = bytearray(found.content)
            bad[position] ^= 1 << (position % 8)
            current = store.read(f"m/1/{name}")
            assert current is not None
            store.replace(f"m/1/{name}", bytes(bad), current.tag)
            with pytest.raises(ValueError, match=name.replace(".", r"\.")):
                watcher.look_up(ModelVersion("m", 1))
        current = store.read(f"m/1/{name}")
        assert current is not None
        store.replace(f"m/1/{name}", found.content, current.tag)
    assert not list((tmp_path / "cache").rglob("1-*"))
    assert watcher.look_up(ModelVersion("m", 1))[0].version == ModelVersion("m", 1)


@pytest.mark.parametrize("kill_at", range(1, STEPS + 1))
def test_a_publisher_killed_at_any_step(
    nursery: Nursery, seaweedfs: S3, location: str, source: Path, kill_at: int
) -> None:
    store = ObjectStore(location, **seaweedfs.settings)
    publish_version(store, source, "m", actor="a", options=SERVE)
    assert nursery.publish(location, source, kill_at)[0] == -signal.SIGKILL
    pointer = pointer_of(store, "m")
    assert pointer is not None
    assert pointer.desired in ((1,), (2,))
    assert set(pointer.desired) <= set(numbering.numbers_present(store, "m"))
    assert verify_model(store, "m") == []
    published = publish_version(store, source, "m", actor="next", options=SERVE)
    pointer = pointer_of(store, "m")
    assert pointer is not None
    assert pointer.desired == (published.version.number,)
    store.leftovers(0, remove=True)
    assert store.leftovers(0, remove=False) == []
    for number in (1, 2, 3):
        assert (store.digest(f"m/{number}/{ARTIFACT}") is not None) == (number in numbering.numbers_present(store, "m"))
    assert verify_model(store, "m") == []


def test_a_publisher_goes_through_these_many_steps(
    nursery: Nursery, seaweedfs: S3, location: str, source: Path
) -> None:
    store = ObjectStore(location, **seaweedfs.settings)
    publish_version(store, source, "m", actor="a", options=SERVE)
    code, steps = nursery.publish(location, source, 0)
    assert (code, len(steps)) == (0, STEPS)


def test_two_publishers_lose_nothing(server: S3, location: str, source: Path, store: ObjectStore) -> None:
    processes = [publisher(location, source, 10, actor, server.environment) for actor in ("one", "two")]
    outputs = [process.communicate(timeout=240)[0].splitlines() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    published = [json.loads(line) for lines in outputs for line in lines]
    assert sorted(number for number, _ in published) == list(range(1, 21))
    assert sorted(generation for _, generation in published) == list(range(1, 21))
    pointer = pointer_of(store, "m")
    assert pointer is not None
    assert pointer.generation == 20
    assert verify_model(store, "m") == []
    told = [(entry["action"], entry["version"]) for entry in journal.entries(store)]
    assert sorted(told) == sorted([(action, number) for action in ("publish", "serve") for number in range(1, 21)])


def test_the_doctor_looks_into_a_bucket(
    seaweedfs: S3, location: str, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in seaweedfs.environment.items():
        monkeypatch.setenv(name, value)
    store = ObjectStore(location)
    config = Config(registry=RegistryConfig(root=location))

    def statuses() -> list[Status]:
        return [finding.status for finding in models(config)]

    assert statuses() == [Status.WARNING]
    publish_version(store, source, "m", actor="a", options=SERVE)
    assert statuses() == [Status.OK]
    artifact = store.read(f"m/1/{ARTIFACT}")
    assert artifact is not None
    store.replace(f"m/1/{ARTIFACT}", artifact.content + b"?", artifact.tag)
    (finding,) = models(config)
    assert finding.status is Status.FAILED
    assert ARTIFACT in finding.found
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert statuses() == [Status.FAILED]


def test_a_server_that_is_gone_is_reported_in_one_line(location: str) -> None:
    settings = {"access_key_id": "a", "secret_access_key": "b", "region": "us-east-1"}
    store = ObjectStore(location, endpoint="http://127.0.0.1:9", **settings)
    with pytest.raises(StoreError) as caught:
        store.read(KEY)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("bad", ["s3://", "s3:///x", "http://bucket/x", "s3://a@b/x", "s3://b/x?y=1"])
def test_locations_are_checked(bad: str) -> None:
    with pytest.raises(StoreError, match="is not s3://bucket/prefix"):
        ObjectStore(bad)
