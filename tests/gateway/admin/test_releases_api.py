"""Releases over REST, on a real socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from gateway.admin.releases_api import ReleasesApi
from gateway.judgements import EvidenceBundle
from gateway.registry.bundle_document import render_bundle
from gateway.registry.folder_store import FolderStore
from gateway.registry.pointing import pointer_of
from gateway.registry.switching import serve_version
from gateway.versions import ModelVersion
from tests.support.evidence import bundle_of
from tests.support.registry import publish
from tests.support.releases import plan, running

Ask = Callable[..., Awaitable[tuple[int, Any]]]


class Seeing:
    """A gateway that sees good evidence of whatever is in the registry."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.looks = 0

    def seen(self, model_name: str) -> EvidenceBundle | None:
        pointer = pointer_of(FolderStore(self.root), model_name)
        return bundle_of(pointer.release) if pointer is not None and pointer.release is not None else None

    def look_now(self) -> None:
        self.looks += 1


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number in (1, 2, 3):
        publish(tmp_path, "m", number)
    serve_version(FolderStore(tmp_path), ModelVersion("m", 1), actor="ann")
    return tmp_path


def talk(root: Path, conversation: Callable[[Ask, Seeing], Awaitable[None]]) -> None:
    async def run() -> None:
        app = web.Application(client_max_size=4096)
        live = Seeing(root)
        ReleasesApi(str(root), live).add_to(app)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        base = f"http://127.0.0.1:{runner.addresses[0][1]}/v1/releases"

        async def ask(method: str, path: str, **arguments: Any) -> tuple[int, Any]:
            async with session.request(method, base + path, **arguments) as response:
                is_json = response.content_type == "application/json"
                return response.status, await response.json() if is_json else await response.text()

        async with aiohttp.ClientSession() as session:
            await conversation(ask, live)
        await runner.cleanup()

    asyncio.run(run())


def test_the_life_of_a_release(root: Path) -> None:
    async def conversation(ask: Ask, live: Seeing) -> None:
        status, started = await ask("POST", "", json={"model": "m", "candidate": 2, "actor": "ann", "reason": "new"})
        assert (status, started["id"], started["status"]) == (200, "m-r1", "running")
        assert live.looks == 1
        status, found = await ask("GET", "/m-r1")
        assert (found["plan"]["reason"], found["progress"]["status"]) == ("new", "running")
        assert found["live"]["evidence"]["errors"]["neither"] == 3000
        for action, body in (("pause", {}), ("resume", {}), ("promote", {"full": True})):
            status, found = await ask("POST", f"/m-r1/{action}", json=body | {"actor": "bob"})
            assert status == 200, found
        assert found["progress"]["status"] == "promoted"
        assert live.looks == 4
        status, found = await ask("POST", "/m-r1/rollback", json={"reason": "smoke"})
        assert (status, found["progress"]["status"]) == (200, "rolled_back")
        status, found = await ask("GET", "/history?model=m&limit=2")
        assert [entry["action"] for entry in found["entries"]] == ["release rollback", "release promote"]
        assert found["entries"][1]["actor"] == "bob"
        status, found = await ask("GET", "/m-r1/report")
        assert [bundle["decision"]["kind"] for bundle in found["bundles"]] == [
            "start", "pause", "resume", "promote", "rollback",
        ]  # fmt: skip
        assert found["bundles"][1]["evidence"]["errors"]["neither"] == 3000
        assert "<svg" in (await ask("GET", "/m-r1/report?format=html"))[1]
        assert "rolled back" in (await ask("GET", "/m-r1/report?format=text"))[1]
        status, found = await ask("GET", "")
        assert found["models"][0]["rejected"][0]["version"] == 2

    talk(root, conversation)


def test_a_replay_takes_a_large_bundle(root: Path) -> None:
    content = render_bundle(bundle_of(running(plan(), 2)))
    assert len(content) > 4096

    async def conversation(ask: Ask, live: Seeing) -> None:
        status, found = await ask("POST", "/replay", json=json.loads(content))
        assert (status, found["same"], found["replayed"]) == (200, True, "advance")
        changed = json.loads(content)
        changed["evidence"]["errors"]["candidate_only"] = 500
        status, found = await ask("POST", "/replay", json=changed)
        assert (found["same"], found["replayed"]) == (False, "rollback")
        assert (await ask("POST", "/replay", json={}))[0] == 422
        assert (await ask("POST", "/replay", json={"x": "y" * 300_000}))[0] == 413

    talk(root, conversation)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "", {"model": "m"}, 400),
        ("POST", "", {"candidate": 2}, 400),
        ("POST", "", {"model": "m", "candidate": 2, "steps": "1"}, 400),
        ("POST", "", {"model": "m", "candidate": 2, "colour": "red"}, 400),
        ("POST", "", {"model": "m", "candidate": 2, "if_running": "panic"}, 400),
        ("POST", "", {"model": "m", "candidate": 2, "actor": 7}, 400),
        ("POST", "", ["m"], 400),
        ("POST", "", {"model": "m", "candidate": 9}, 404),
        ("POST", "", {"model": "m", "candidate": 1}, 409),
        ("POST", "", {"model": "../m", "candidate": 1}, 409),
        ("GET", "/m-r9", None, 404),
        ("GET", "/nonsense", None, 404),
        ("GET", "/..%2Fm-r1", None, 404),
        ("GET", "/m%00-r1", None, 404),
        ("GET", "/m-r" + "9" * 400, None, 404),
        ("GET", "/" + "m" * 400 + "-r1/report", None, 404),
        ("POST", "/..%2Fm-r1/rollback", {}, 404),
        ("POST", "/m-r9/promote", {}, 404),
        ("POST", "/m-r9/promote", {"full": "yes"}, 400),
        ("POST", "/m-r9/pause", {"full": True}, 400),
        ("GET", "/m-r9/report?format=pdf", None, 400),
        ("GET", "/history?limit=many", None, 400),
    ],
)
def test_what_cannot_be_done_has_a_status(root: Path, method: str, path: str, body: Any, status: int) -> None:
    async def conversation(ask: Ask, live: Seeing) -> None:
        found, answer = await ask(method, path, **({} if body is None else {"json": body}))
        assert found == status, answer
        assert live.looks == 0

    talk(root, conversation)


def test_no_page_of_another_site_changes_anything(root: Path) -> None:
    async def conversation(ask: Ask, live: Seeing) -> None:
        body = {"model": "m", "candidate": 2}
        assert (await ask("POST", "", json=body, headers={"Origin": "http://evil.example"}))[0] == 403
        assert (await ask("POST", "", data=json.dumps(body), headers={"Content-Type": "text/plain"}))[0] == 415

    talk(root, conversation)
    pointer = pointer_of(FolderStore(root), "m")
    assert pointer is not None
    assert pointer.release is None
