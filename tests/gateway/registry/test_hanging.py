"""A registry that hangs in a system call can be neither interrupted nor waited for."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

STORY = textwrap.dedent("""
    import asyncio, sys, threading
    from pathlib import Path
    from gateway.registry.folder_store import FolderStore
    from gateway.registry.watcher import RegistryWatcher

    hangs = threading.Event()

    class Hanging(FolderStore):
        def relist(self, folder, mark):
            hangs.set()
            threading.Event().wait()

    async def main():
        folder = Path(sys.argv[1])
        watcher = RegistryWatcher(lambda: Hanging(folder), "r", folder / "cache")
        looking = asyncio.get_running_loop().create_task(watcher.desired())
        while not hangs.is_set():
            await asyncio.sleep(0)
        looking.cancel()

    asyncio.run(main())
""")


def test_a_look_that_hangs_does_not_keep_the_process_from_ending(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", STORY, str(tmp_path)], timeout=60, check=False)
    assert ended.returncode == 0
