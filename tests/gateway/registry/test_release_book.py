"""What a gateway makes of the releases that its watcher found or remembered."""

from __future__ import annotations

import pytest

from gateway.registry.release_book import RegistryReleases
from gateway.registry.store import Store


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
