"""What a gateway makes of the releases that its watcher found or remembered."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from gateway.judgements import DecisionKind
from gateway.registry.directory import RegistryError
from gateway.registry.release_book import RegistryReleases
from gateway.registry.store import Store
from tests.support.release_store import decided, pointer_now, start, store_with_versions


def _never() -> Store:
    raise AssertionError("not used")


@pytest.mark.parametrize("text", ["{}", "[]", "{", '{"plan": {"id": 1}}'])
def test_a_release_that_cannot_be_read_keeps_no_gateway_from_starting(
    text: str, caplog: pytest.LogCaptureFixture
) -> None:
    book = RegistryReleases(lambda: {"m": text}, _never, "test")
    assert book.releases() == {}
    assert book.releases() == {}
    assert len(caplog.records) == 1, "said once"


def test_a_registry_that_hangs_holds_up_only_its_own_write(tmp_path: Path) -> None:
    store = store_with_versions(tmp_path)
    release = start(store)
    asked, answers = [], threading.Event()

    def hanging() -> Store:
        asked.append(threading.get_ident())
        assert answers.wait(30)
        return store

    book = RegistryReleases(dict, hanging, "gw", longest_s=0.02)
    bundle = decided(release, DecisionKind.ADVANCE, step=1)

    async def story() -> bool:
        for _ in range(3):
            with pytest.raises(RegistryError, match="has not answered"):
                await book.advance(release, bundle)
        patient = RegistryReleases(dict, lambda: store, "other", longest_s=30)
        answers.set()
        book._longest_s = 30
        joined = await book.advance(release, bundle)
        assert not await patient.advance(release, bundle), "decided already"
        return joined

    assert asyncio.run(story())
    assert len(asked) == 1, "who tries again joins the write under way"
    now = pointer_now(store).release
    assert now is not None
    assert now.progress.step == 1
