"""Takes what somebody uploads to be published: an ONNX file, or a tar archive of a folder.

Decides how much is taken and for how long. Invariants: nothing blocks the event loop, files are made and removed in
threads; nothing of an archive is written before all of it was looked at; what was received is gone afterwards.
"""

from __future__ import annotations

import asyncio
import shutil
import tarfile
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from gateway.registry.describing import MOST_FILES
from gateway.registry.switching import BadSource

MOST_UPLOAD_BYTES = 4 << 30
MOST_MEMBERS = 2 * MOST_FILES
"""Files that can be published, and as many folders."""
_RECEIVE_S = 3600.0


@asynccontextmanager
async def received(request: web.Request, stall_s: float) -> AsyncIterator[Path]:
    """Yields a file with the body, in a folder of its own that is removed afterwards.

    Raises:
        web.HTTPRequestTimeout: nothing came for `stall_s` seconds, or it took an hour.
        web.HTTPRequestEntityTooLarge: the body is too large.
    """
    folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="sluice-publish-"))
    try:
        upload = folder / "model.onnx"
        await _receive(request, upload, stall_s)
        yield upload
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


async def _receive(request: web.Request, target: Path, stall_s: float) -> None:
    size = 0
    try:
        with await asyncio.to_thread(open, target, "xb") as file:
            async with asyncio.timeout(_RECEIVE_S):
                while True:
                    async with asyncio.timeout(stall_s):
                        chunk = await request.content.readany()
                    if not chunk:
                        return
                    size += len(chunk)
                    if size > MOST_UPLOAD_BYTES:
                        raise web.HTTPRequestEntityTooLarge(max_size=MOST_UPLOAD_BYTES, actual_size=size)
                    await asyncio.to_thread(file.write, chunk)
    except TimeoutError:
        raise web.HTTPRequestTimeout(reason="the upload took too long, or nothing more came") from None


def unpacked(archive: Path) -> Path:
    """Returns the folder with what is in the archive (blocking). Raises BadSource."""
    folder = archive.parent / "folder"
    try:
        with tarfile.open(archive, "r:") as tar:
            size = 0
            for count, member in enumerate(tar, 1):
                size += member.size
                if count > MOST_MEMBERS:
                    raise BadSource(f"the archive has more than {MOST_MEMBERS} members")
                if size > MOST_UPLOAD_BYTES:
                    raise BadSource("the archive unpacks to too much")
            tar.extractall(folder, filter="data")
    except (tarfile.TarError, OSError) as error:
        raise BadSource(f"the archive cannot be unpacked: {error}") from error
    return folder
