"""Large objects come in parts, so that a time limit holds for a part, and a line that breaks costs one."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

import obstore
import pytest
from obstore.store import S3Store

from gateway.registry.object_reading import PART_BYTES
from gateway.registry.object_store import ObjectStore
from gateway.registry.store import SAME, StoreError, Written
from tests.registry_stores.relay import Relay
from tests.registry_stores.servers import S3

SIZE = 3 * PART_BYTES + 12345


def through(relay: Relay, server: S3, location: str) -> ObjectStore:
    return ObjectStore(location, **(server.settings | {"endpoint": relay.endpoint}))


@pytest.fixture
def large(store: ObjectStore) -> Written:
    """An object of several parts at `m/1/large`."""
    content = os.urandom(SIZE)
    return store.begin("m/1").add("large", content)


def test_a_large_object_comes_in_parts_of_one_content(
    large: Written, server: S3, location: str, tmp_path: Path
) -> None:
    relay = Relay(server.endpoint)
    found = through(relay, server, location).fetch("m/1/large", tmp_path / "copy", SIZE)
    assert found == large
    assert hashlib.sha256((tmp_path / "copy").read_bytes()).hexdigest() == large.sha256
    heads = relay.gets("large")
    ranges = sorted(tuple(map(int, re.search(r"range: bytes=(\d+)-(\d+)", head).groups())) for head in heads)  # type: ignore[union-attr]
    assert [end + 1 - start for start, end in ranges] == [PART_BYTES] * 3 + [12345]
    assert sum("if-match: " in head for head in heads) == 3, "all but the first, which says what it is"
    relay.close()


def test_a_line_that_breaks_costs_one_part(large: Written, server: S3, location: str, tmp_path: Path) -> None:
    broken: list[str] = []

    def cut(head: str) -> int | None:
        if f"bytes={PART_BYTES}-" in head and not broken:
            broken.append(head)
            return 100_000
        return None

    relay = Relay(server.endpoint, cut)
    assert through(relay, server, location).fetch("m/1/large", tmp_path / "copy") == large
    assert broken
    assert len(relay.gets("large")) <= 6, "the others were not asked for again"
    relay.close()


def test_parts_of_two_contents_never_mix(large: Written, store: ObjectStore, server: S3, location: str) -> None:
    plain = S3Store(
        "registry", prefix=location.rpartition("/")[2], client_options={"allow_http": True}, **server.settings
    )

    def cut(head: str) -> int | None:
        if f"bytes={PART_BYTES}-" in head:
            obstore.put(plain, "m/1/large", b"?" * SIZE)
        return None

    relay = Relay(server.endpoint, cut)
    with pytest.raises(StoreError, match="cannot be read"):
        through(relay, server, location).digest("m/1/large")
    relay.close()


def test_what_did_not_change_is_not_sent_again(store: ObjectStore) -> None:
    store.create("m/serving.json", b"1")
    first = store.read("m/serving.json")
    assert first is not None
    assert store.reread("m/serving.json", first.mark) is SAME
    store.replace("m/serving.json", b"2", first.tag)
    second = store.reread("m/serving.json", first.mark)
    assert second is not SAME
    assert second is not None
    assert second.content == b"2"
    assert store.reread("m/nothing", first.mark) is None
    assert store.mark("m/serving.json") == second.mark
    assert store.mark("m/nothing") == "absent"


def test_of_nothing_there_is_no_part(store: ObjectStore, tmp_path: Path) -> None:
    store.begin("m/1").add("empty", b"")
    empty = Written(0, hashlib.sha256(b"").hexdigest())
    assert store.digest("m/1/empty") == empty
    assert store.fetch("m/1/empty", tmp_path / "copy", 0) == empty
    assert (tmp_path / "copy").read_bytes() == b""


def test_of_a_file_that_is_too_long_nothing_is_copied(large: Written, store: ObjectStore, tmp_path: Path) -> None:
    found = store.fetch("m/1/large", tmp_path / "copy", SIZE - 1)
    assert (found.size, found.sha256) == (SIZE, "")
    assert not (tmp_path / "copy").exists()
