"""Two gateways with one folder would unload each other's versions: the second one does not start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gateway.app.folder_lock import FolderInUse, FolderLock

HOLD = """
import sys
from pathlib import Path
from gateway.app.folder_lock import FolderLock
lock = FolderLock(Path(sys.argv[1]), "registry.cache_folder")
print("held", flush=True)
sys.stdin.read()
"""


def test_the_second_does_not_get_in_before_the_first_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / "registry"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(FolderInUse, match=r"give this one its own folder \(registry.cache_folder\)"):
        FolderLock(folder, "registry.cache_folder")
    holder.kill()
    holder.communicate()
    lock = FolderLock(folder, "registry.cache_folder")
    lock.release()
    lock.release()
    FolderLock(folder, "registry.cache_folder").release()


def test_where_there_are_no_locks_it_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    FolderLock(tmp_path / "file", "registry.cache_folder").release()
    assert "let no other gateway use it" in caplog.text
