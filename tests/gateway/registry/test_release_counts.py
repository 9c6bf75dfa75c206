"""The files in which a gateway keeps what it counted of its releases."""

from __future__ import annotations

import asyncio
from pathlib import Path

from gateway.registry.release_counts import ReleaseCounts


def test_what_was_saved_is_loaded_and_the_rest_is_deleted(tmp_path: Path) -> None:
    async def test() -> None:
        counts = ReleaseCounts(tmp_path / "releases")
        assert await counts.load("m-r1") is None
        await counts.save("m-r1", {"id": "m-r1", "errors": [1, 2, 3, 4]})
        await counts.save("m-r1", {"id": "m-r1", "errors": [2, 2, 3, 4]})
        await counts.save("m-r2", {"id": "m-r2"})
        assert await ReleaseCounts(tmp_path / "releases").load("m-r1") == {"id": "m-r1", "errors": [2, 2, 3, 4]}
        await counts.keep_only(frozenset({"m-r2"}))
        assert sorted(path.name for path in (tmp_path / "releases").iterdir()) == ["m-r2.json"]

    asyncio.run(test())


def test_a_file_that_cannot_be_used_is_like_none(tmp_path: Path) -> None:
    async def test() -> None:
        counts = ReleaseCounts(tmp_path)
        (tmp_path / "a.json").write_text("{")
        (tmp_path / "b.json").write_text('{"id": "other"}')
        (tmp_path / "c.json").write_text("[1]")
        assert [await counts.load(name) for name in "abc"] == [None, None, None]
        assert await counts.load("../a") is None
        await counts.save("../a", {})
        (tmp_path / "file").write_text("")
        blocked = ReleaseCounts(tmp_path / "file")
        await blocked.save("m-r1", {"id": "m-r1"})
        await blocked.keep_only(frozenset())
        assert await blocked.load("m-r1") is None

    asyncio.run(test())
