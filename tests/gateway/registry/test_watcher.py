"""What the watcher believes of a registry that changes, lies, vanishes or comes back."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
from pathlib import Path

import pytest

from gateway.registry.directory import RegistryError
from gateway.registry.folder_store import FolderStore
from gateway.registry.switching import stop_serving
from gateway.registry.watcher import RegistryWatcher
from gateway.versions import ModelVersion
from tests.support.versions import MODEL, publish, switch

V1, V2 = ModelVersion(MODEL, 1), ModelVersion(MODEL, 2)


class Place:
    """A registry and a watcher of it, which can be started anew on the same cache."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "registry"
        self.root.mkdir()
        self.watcher = self.again()

    def again(self) -> RegistryWatcher:
        self.watcher = RegistryWatcher(lambda: FolderStore(self.root), str(self.root), self.folder / "cache")
        return self.watcher

    def publish(self, number: int, *, serve: bool = True) -> None:
        publish(self.root, self.folder, number, serve=serve)

    def look(self) -> dict[str, tuple[int, ...]]:
        return self.watcher.look()

    def version(self, number: int) -> Path:
        return self.root / MODEL / str(number)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_the_pointer_decides(place: Place) -> None:
    assert place.look() == {}
    place.publish(1)
    assert place.look() == {MODEL: (1,)}
    place.publish(2, serve=False)
    assert place.look() == {MODEL: (1,)}
    switch(place.root, 2)
    assert place.look() == {MODEL: (2,)}
    stop_serving(FolderStore(place.root), MODEL, actor="test")
    assert place.look() == {MODEL: ()}, "a model goes when its pointer says so"
    assert place.watcher.alarms() == []


def test_a_new_decision_has_another_number(place: Place) -> None:
    place.publish(1)
    place.look()
    first = place.watcher.generation(MODEL)
    place.look()
    assert place.watcher.generation(MODEL) == first
    switch(place.root, 1, allow_breaking=True)
    assert not place.watcher.allows_breaking(MODEL)
    place.look()
    assert place.watcher.generation(MODEL) != first
    assert place.watcher.allows_breaking(MODEL)
    place.publish(2)
    place.look()
    assert not place.watcher.allows_breaking(MODEL), "leave is given for one version"


def test_what_is_handed_out_is_a_proved_copy_that_outlives_the_registry(place: Place) -> None:
    place.publish(1)
    place.look()
    manifest, folder = place.watcher.look_up(V1)
    assert not folder.is_relative_to(place.root)
    assert (folder / "artifacts/python/model.py").read_bytes() == (
        place.version(1) / "artifacts/python/model.py"
    ).read_bytes()
    shutil.rmtree(place.root)
    assert place.watcher.look_up(V1) == (manifest, folder)
    restarted = place.again()
    with pytest.raises(RegistryError, match="cannot be read"):
        restarted.look()
    assert restarted.last_known() == {MODEL: (1,)}
    assert restarted.look_up(V1)[1] == folder


def test_what_served_last_is_remembered(place: Place) -> None:
    place.publish(1)
    place.look()
    place.watcher.look_up(V1)
    place.watcher._state.set_last_good(MODEL, 1)
    assert place.again().last_good(MODEL) == 1


@pytest.mark.parametrize(
    "name",
    ["artifacts/python/model.py", "golden/cases.json", "golden/cases.npz", "manifest.json", "manifest.sha256"],
)
def test_a_flipped_bit_in_any_file_is_found_and_named(place: Place, name: str) -> None:
    place.publish(1)
    place.look()
    place.publish(2)
    path = place.version(2) / name
    assert {str(p.relative_to(place.version(2))) for p in place.version(2).rglob("*") if p.is_file()} == {
        "artifacts/python/model.py", "golden/cases.json", "golden/cases.npz", "manifest.json", "manifest.sha256",
    }, "every file that is published has its case here"  # fmt: skip
    good = path.read_bytes()
    for position in range(0, len(good), max(1, len(good) // 16)):
        bad = bytearray(good)
        bad[position] ^= 1 << (position % 8)
        path.write_bytes(bad)
        with pytest.raises(ValueError, match=name.replace(".", r"\.")):
            place.watcher.look_up(V2)
        assert not list((place.folder / "cache").rglob("2-*")), "nothing of it was kept"
    path.write_bytes(good)
    assert place.watcher.look_up(V2)[0].version == V2


@pytest.mark.parametrize("name", ["artifacts/python/model.py", "golden/cases.npz"])
def test_a_missing_or_longer_file_is_named(place: Place, name: str) -> None:
    place.publish(1)
    place.look()
    path = place.version(1) / name
    good = path.read_bytes()
    path.write_bytes(good + b"x")
    with pytest.raises(ValueError, match=f"{name} has {len(good) + 1} bytes, the manifest says {len(good)}"):
        place.watcher.look_up(V1)
    path.unlink()
    with pytest.raises(ValueError, match=f"{name} is missing"):
        place.watcher.look_up(V1)
    path.symlink_to("/etc/hostname")
    with pytest.raises(ValueError, match="leads out"):
        place.watcher.look_up(V1)


def test_a_copy_that_rots_is_fetched_again(place: Place) -> None:
    place.publish(1)
    place.look()
    _, folder = place.watcher.look_up(V1)
    (folder / "golden/cases.npz").write_bytes(b"rotten")
    _, again = place.watcher.look_up(V1)
    assert (again / "golden/cases.npz").read_bytes() == (place.version(1) / "golden/cases.npz").read_bytes()


def test_what_has_vanished_goes_on_being_served(place: Place) -> None:
    place.publish(1)
    place.look()
    place.watcher.look_up(V1)
    shutil.rmtree(place.version(1))
    assert place.look() == {MODEL: (1,)}
    assert place.watcher.alarms() == ["shift/1 has vanished from the registry; serving the verified copy"]
    (place.root / MODEL / "serving.json").unlink()
    assert place.look() == {MODEL: (1,)}
    assert any("serving.json has vanished" in alarm for alarm in place.watcher.alarms())
    shutil.rmtree(place.root / MODEL)
    assert place.look() == {MODEL: (1,)}
    assert any("shift has vanished" in alarm for alarm in place.watcher.alarms())
    assert place.watcher.look_up(V1)[0].version == V1


def test_a_number_never_gets_another_content(place: Place) -> None:
    place.publish(1)
    place.look()
    _, folder = place.watcher.look_up(V1)
    document = json.loads((place.version(1) / "manifest.json").read_text())
    (place.version(1) / "manifest.json").write_text(json.dumps(document | {"description": "another"}))
    (place.version(1) / "manifest.sha256").unlink()
    for watcher in (place.watcher, place.again()):
        assert watcher.look() == {MODEL: (1,)}
        (alarm,) = watcher.alarms()
        assert "not the one that was served under this number" in alarm
        assert watcher.look_up(V1)[1] == folder, "the copy that was proved goes on being served"
    shutil.rmtree(folder)
    with pytest.raises(ValueError, match="publish the new content under a new number"):
        place.watcher.look_up(V1)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"schema_version": 1, "generation": 9}', b"\xff" * 100])
def test_a_pointer_that_makes_no_sense_changes_nothing(place: Place, content: bytes) -> None:
    place.publish(1)
    place.look()
    pointer = place.root / MODEL / "serving.json"
    good = pointer.read_bytes()
    pointer.write_bytes(content)
    assert place.look() == {MODEL: (1,)}
    assert len(place.watcher.alarms()) == 1
    pointer.write_bytes(good)
    assert place.look() == {MODEL: (1,)}
    assert place.watcher.alarms() == []


def test_a_pointer_that_goes_back_is_a_stale_read(place: Place) -> None:
    place.publish(1)
    place.look()
    pointer = place.root / MODEL / "serving.json"
    old = pointer.read_bytes()
    place.publish(2)
    assert place.look() == {MODEL: (2,)}
    pointer.write_bytes(old)
    assert place.look() == {MODEL: (2,)}
    assert "went back from generation 2 to 1" in place.watcher.alarms()[0]
    assert place.again().look() == {MODEL: (1,)}, "whoever restarts the gateway means it"


def test_without_a_pointer_the_highest_complete_version_is_served(place: Place) -> None:
    place.publish(1)
    place.publish(2)
    (place.root / MODEL / "serving.json").unlink()
    (place.root / MODEL / "10").mkdir()
    assert place.look() == {MODEL: (2,)}
    (place.version(2)).rename(place.folder / "elsewhere")
    assert place.look() == {MODEL: (2,)}, "losing it is no decision"


def test_names_that_are_no_versions_are_told_of_once(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    place.publish(1)
    for name in ("01", "v2", ".tmp3"):
        (place.root / MODEL / name).mkdir()
    (place.root / "not a name").mkdir()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert place.look() == {MODEL: (1,)}
    for name in ("shift/01", "shift/v2", "shift/.tmp3", "not a name"):
        assert sum(name in record.message for record in caplog.records) == 1, name


def test_only_copies_in_use_and_the_latest_others_are_kept(place: Place) -> None:
    for number in range(1, 7):
        place.publish(number)
        place.look()
        place.watcher.look_up(ModelVersion(MODEL, number))
    place.publish(7)
    place.look()
    kept = {path.name.partition("-")[0] for path in (place.folder / "cache").glob(f"*/versions/{MODEL}/*")}
    assert kept == {"5", "6"}


def test_a_broken_memory_is_like_none(place: Place) -> None:
    place.publish(1)
    place.look()
    (state,) = (place.folder / "cache").glob("*/state.json")
    state.write_text('{"form": 1, "models": []')
    assert place.again().last_known() == {}
    assert place.look() == {MODEL: (1,)}


async def _record(place: Place) -> None:
    record = await place.watcher.record(V1)
    assert record.metadata.inputs[0].shape == (-1, 4)
    assert record.golden is not None
    assert record.golden.tolerance == {"Y": (1e-6, 0.0)}
    assert record.golden.inputs[0].spec.shape == (3, 4)


def test_what_is_recorded_of_a_version(place: Place) -> None:
    place.publish(1)
    place.look()
    asyncio.run(_record(place))
