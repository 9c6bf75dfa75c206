"""The registry over REST, on a real socket."""

from __future__ import annotations

import asyncio
import io
import shutil
import tarfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from gateway.admin import models_api, upload
from gateway.admin.models_api import RegistryApi
from gateway.registry import journal
from gateway.registry.folder_store import FolderStore
from tests.support import onnx_bytes
from tests.support.registry import ARTIFACT, prepared

MODEL = onnx_bytes.model({"x": (1, ["n", 3])}, {"y": (1, ["n", 2])})
ONNX = {"Content-Type": "application/octet-stream"}
Ask = Callable[..., Awaitable[tuple[int, Any]]]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "registry"
    folder.mkdir()
    return folder


def talk(root: Path, conversation: Callable[[Ask], Awaitable[None]], **settings: float) -> None:
    async def run() -> None:
        app = web.Application(client_max_size=4096)
        RegistryApi(str(root), **settings).add_to(app)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        base = f"http://127.0.0.1:{runner.addresses[0][1]}/v1/registry"

        async def ask(method: str, path: str, **arguments: Any) -> tuple[int, Any]:
            async with session.request(method, base + path, **arguments) as response:
                is_json = response.content_type == "application/json"
                return response.status, await response.json() if is_json else response.reason

        async with aiohttp.ClientSession() as session:
            await conversation(ask)
        await runner.cleanup()

    asyncio.run(run())


def test_publish_serve_show_retire_collect(root: Path) -> None:
    async def conversation(ask: Ask) -> None:
        status, found = await ask("POST", "/models/m/publish?serve=true&actor=ann&reason=new", data=MODEL, headers=ONNX)
        assert (status, found["generation"]) == (200, 1)
        assert found["version"] == {"model_name": "m", "number": 1}
        status, found = await ask("POST", "/models/m/publish", data=MODEL, headers=ONNX)
        assert (status, found["generation"]) == (200, None)
        status, found = await ask("POST", "/models/m/serve", json={"version": 2, "actor": "bob", "reason": "better"})
        assert (status, found) == (200, {"stable": 2, "also": [], "generation": 2})
        status, found = await ask("GET", "/models/m")
        assert [(v["version"], v["state"]) for v in found["versions"]] == [(2, "stable"), (1, "published")]
        status, found = await ask("GET", "/models/m/versions/2")
        assert found["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [3]}]
        status, found = await ask("GET", "/models")
        assert [model["name"] for model in found["models"]] == ["m"]
        assert (await ask("POST", "/models/m/retire", json={"version": 1}))[0] == 200
        status, found = await ask("POST", "/gc", json={"retired_hours": 0})
        assert found["versions"] == ["m/1"]
        assert (await ask("POST", "/verify", json={}))[1] == {"models": ["m"], "findings": []}
        assert (await ask("POST", "/models/m/retire", json={}))[1]["stable"] is None
        status, found = await ask("GET", "/history?model=m&limit=3")
        assert [entry["action"] for entry in found["entries"]] == ["stop", "remove", "retire"]

    talk(root, conversation)
    first, *_, last = journal.entries(FolderStore(root))
    assert (first["actor"], first["reason"]) == ("ann", "new")
    assert last["actor"] == "admin API (127.0.0.1)"


def test_a_folder_comes_as_a_tar_archive(root: Path, tmp_path: Path) -> None:
    folder = prepared(tmp_path / "prepared")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(folder, ".")

    async def conversation(ask: Ask) -> None:
        headers = {"Content-Type": "application/x-tar"}
        status, found = await ask("POST", "/models/m/publish", data=buffer.getvalue(), headers=headers)
        assert status == 200, found
        evil = io.BytesIO()
        with tarfile.open(fileobj=evil, mode="w") as tar:
            tar.addfile(tarfile.TarInfo("../../escaped"), io.BytesIO())
        assert (await ask("POST", "/models/m/publish", data=evil.getvalue(), headers=headers))[0] == 422
        assert (await ask("POST", "/models/m/publish", data=b"no archive", headers=headers))[0] == 422

    talk(root, conversation)
    assert (root / "m/1" / ARTIFACT).exists()


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/models/nope/serve", {"version": 1}, 404),
        ("/models/.x/serve", {"version": 1}, 404),
        ("/models/m/serve", {"version": 9}, 404),
        ("/models/m/serve", {}, 400),
        ("/models/m/serve", {"version": 0}, 400),
        ("/models/m/serve", {"version": True}, 400),
        ("/models/m/serve", {"version": 1, "also": ["x"]}, 400),
        ("/models/m/serve", {"version": 1, "unknown": 1}, 400),
        ("/models/m/serve", [], 400),
        ("/models/m/retire", {"version": 1}, 409),
        ("/verify", {"model": "nope"}, 404),
        ("/gc", {"retired_hours": "long"}, 400),
    ],
)
def test_what_cannot_be_done_says_why(root: Path, path: str, body: Any, status: int) -> None:
    async def conversation(ask: Ask) -> None:
        await ask("POST", "/models/m/publish?serve=true", data=MODEL, headers=ONNX)
        assert (await ask("POST", path, json=body))[0] == status

    talk(root, conversation)


def test_other_sites_cannot_ask_for_changes(root: Path) -> None:
    async def conversation(ask: Ask) -> None:
        foreign = {**ONNX, "Origin": "http://evil.example"}
        assert (await ask("POST", "/models/m/publish", data=MODEL, headers=foreign))[0] == 403
        plain = {"Content-Type": "text/plain"}
        assert (await ask("POST", "/models/m/serve", data='{"version": 1}', headers=plain))[0] == 415
        assert (await ask("POST", "/gc", data={"a": "b"}))[0] == 415
        assert (await ask("POST", "/models/m/publish", data=b"no model", headers=ONNX))[0] == 422

    talk(root, conversation)
    assert not (root / "m").exists()


def test_a_registry_that_is_gone_is_reported(tmp_path: Path) -> None:
    async def conversation(ask: Ask) -> None:
        assert (await ask("GET", "/models"))[0] == 503

    talk(tmp_path / "nothing", conversation)


class Upload:
    """A body whose second half comes when the test says so."""

    def __init__(self) -> None:
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()

    async def body(self) -> AsyncIterator[bytes]:
        yield MODEL[:10]
        self.begun.set()
        await self.go_on.wait()
        yield MODEL[10:]


async def begin(ask: Ask) -> tuple[Upload, asyncio.Future[tuple[int, Any]]]:
    sent = Upload()
    asked = asyncio.get_running_loop().create_task(ask("POST", "/models/m/publish", data=sent.body(), headers=ONNX))
    await sent.begun.wait()
    return sent, asked


def test_uploads_keep_nobody_from_rolling_back(root: Path) -> None:
    async def conversation(ask: Ask) -> None:
        for _ in range(2):
            assert (await ask("POST", "/models/m/publish?serve=true", data=MODEL, headers=ONNX))[0] == 200
        uploads = [await begin(ask) for _ in range(models_api.MOST_UPLOADS)]
        assert (await ask("POST", "/models/m/serve", json={"version": 1}))[0] == 200
        assert (await ask("POST", "/models/m/retire", json={"version": 2}))[0] == 200
        assert (await ask("POST", "/verify", json={}))[0] == 200
        assert (await ask("POST", "/gc", json={}))[0] == 200
        assert (await ask("POST", "/models/m/publish", data=MODEL, headers=ONNX))[0] == 409
        for body, _ in uploads:
            body.go_on.set()
        answers = [await asked for _, asked in uploads]
        assert [status for status, _ in answers] == [200] * len(uploads)
        assert {found["version"]["number"] for _, found in answers} == {3, 4}
        assert (await ask("POST", "/models/m/publish", data=MODEL, headers=ONNX))[0] == 200

    talk(root, conversation)


def test_a_verify_keeps_nobody_from_rolling_back(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def verify(*arguments: Any) -> list[Any]:
        begun.set()
        assert go_on.wait(20)
        return []

    monkeypatch.setattr(models_api, "verify_model", verify)

    async def conversation(ask: Ask) -> None:
        await ask("POST", "/models/m/publish?serve=true", data=MODEL, headers=ONNX)
        verifying = asyncio.get_running_loop().create_task(ask("POST", "/verify", json={}))
        try:
            assert await asyncio.to_thread(begun.wait, 20)
            assert (await ask("POST", "/models/m/serve", json={"version": 1}))[0] == 200
            assert (await ask("POST", "/verify", json={}))[0] == 409, "each takes a thread and the disk"
        finally:
            go_on.set()
        assert (await verifying)[0] == 200

    talk(root, conversation)


def test_an_upload_that_stalls_is_ended(root: Path) -> None:
    async def conversation(ask: Ask) -> None:
        body, asked = await begin(ask)
        assert (await asked)[0] == 408
        body.go_on.set()

    talk(root, conversation, stall_s=0.05)
    assert not (root / "m").exists()


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_archives_with_too_many_members_are_refused_before_any_is_written(
    root: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(upload, "MOST_MEMBERS", 20)
    monkeypatch.setattr(tarfile.TarFile, "extractall", lambda *_, **__: pytest.fail("it was unpacked"))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for index in range(21):
            member = tarfile.TarInfo(f"artifacts/{index}")
            member.type = tarfile.REGTYPE if kind == "file" else tarfile.DIRTYPE
            tar.addfile(member, io.BytesIO())

    async def conversation(ask: Ask) -> None:
        headers = {"Content-Type": "application/x-tar"}
        status, reason = await ask("POST", "/models/m/publish", data=buffer.getvalue(), headers=headers)
        assert (status, reason) == (422, "the archive has more than 20 members")

    talk(root, conversation)


def test_what_was_uploaded_is_removed_off_the_event_loop(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads, remove = [], shutil.rmtree

    def removing(path: Any, *arguments: Any, **settings: Any) -> None:
        threads.append((threading.current_thread() is threading.main_thread(), Path(path)))
        remove(path, *arguments, **settings)

    monkeypatch.setattr(shutil, "rmtree", removing)

    async def conversation(ask: Ask) -> None:
        assert (await ask("POST", "/models/m/publish", data=MODEL, headers=ONNX))[0] == 200
        assert (await ask("POST", "/models/m/publish", data=b"no model", headers=ONNX))[0] == 422

    talk(root, conversation)
    uploads = [(main, path) for main, path in threads if path.name.startswith("sluice-publish-")]
    assert [main for main, _ in uploads] == [False, False]
    assert not any(path.exists() for _, path in uploads)


def test_a_registry_that_hangs_costs_the_gateway_no_thread(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    end = threading.Event()

    def hang(location: str) -> FolderStore:
        end.wait()
        return FolderStore(root)

    async def conversation(ask: Ask) -> None:
        monkeypatch.setattr(models_api, "open_store", hang)
        loop = asyncio.get_running_loop()
        asked = [loop.create_task(_one(ask)) for _ in range(40)]
        done, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        status, reason = done.pop().result()
        assert status == 503
        assert "it may hang" in reason
        # What the gateway itself has to do in a thread is done.
        assert await asyncio.to_thread(lambda: "done") == "done"
        end.set()
        statuses = [status for status, _ in await asyncio.gather(*asked)]
        assert statuses.count(200) == 16

    try:
        talk(root, conversation)
    finally:
        end.set()


async def _one(ask: Ask) -> tuple[int, Any]:
    return await ask("GET", "/models")
