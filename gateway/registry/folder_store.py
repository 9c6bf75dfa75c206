"""A registry in a folder: the store on a local (or NFS) file system.

How two `replace` calls cannot both win, without a lock that a crash could leave behind: the new content is prepared in
a staging folder; then one hard link, `.registry/claims/<key>/<tag>.<i>`, claims the right to follow the content with
that tag and names the staging folder; then the prepared file is renamed over the old one. A link is made only if its
name is free, so one process wins. A prepared file can be moved once only, so whoever finds a claim that was not
carried out (its owner died, or is slow) may carry it out, as often as it likes. Claims are kept: they are what stops
a process that slept for long. `i` is 0 unless somebody put an old content back by hand.

Invariants: readers need to know nothing of this, `serving.json` and version folders are plain files that change in one
rename; everything is flushed to the disk before it is visible.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import time
from contextlib import suppress
from pathlib import Path

from gateway.registry import durable, layout, owners
from gateway.registry.folder_reading import FolderReader, tag_of
from gateway.registry.folder_writing import FolderWriting, failed
from gateway.registry.store import AlreadyThere, Changed, Step, StoreError, no_step

_CLAIMS = f"{layout.OWN_FOLDER}/claims"
_OWNER = "owner.json"
_PREPARED = "prepared"
_CLAIM = "claim"
_STAGED = re.compile(r"s-[0-9a-f]{24}")


class FolderStore(FolderReader):
    """The registry below `root`, which must exist. Implements `store.Store`."""

    def __init__(self, root: Path, step: Step = no_step) -> None:
        super().__init__(root)
        self._step = step

    def create(self, key: str, content: bytes) -> str:
        staged = self._stage(key)
        try:
            durable.write_new(staged / _PREPARED, content)
            durable.make_folder((self.root / key).parent)
            os.link(staged / _PREPARED, self.root / key)
            durable.sync_folder((self.root / key).parent)
        except FileExistsError:
            raise AlreadyThere(f"{key} is there already") from None
        except OSError as error:
            raise failed(f"{key} cannot be written", error) from error
        finally:
            shutil.rmtree(staged, ignore_errors=True)
        self._step(f"created {key}")
        return tag_of(content)

    def replace(self, key: str, content: bytes, tag: str) -> str:
        staged = self._stage(key)
        claimed = False
        try:
            durable.write_new(staged / _PREPARED, content)
            durable.write_new(staged / _CLAIM, staged.name.encode())
            durable.sync_folder(staged)
            claims = self.root / _CLAIMS / key
            durable.make_folder(claims)
            self._step(f"prepared {key}")
            for attempt in itertools.count():
                current = self.read(key)
                if current is None or current.tag != tag:
                    raise Changed(f"{key} was changed by another process")
                claim = claims / f"{tag}.{attempt}"
                claimed = self._claim(staged, claim)
                if claimed:
                    durable.sync_folder(claims)
                    self._step(f"claimed {key}")
                    self._carry_out(claim, key)
                    break
                # Somebody else's claim: see that it is carried out, then look again.
                self._carry_out(claim, key)
        except OSError as error:
            raise failed(f"{key} cannot be replaced", error) from error
        finally:
            # What is claimed and not yet carried out stays: the next process does it.
            if not (claimed and (staged / _PREPARED).exists()):
                shutil.rmtree(staged, ignore_errors=True)
        self._step(f"replaced {key}")
        return tag_of(content)

    def touch(self) -> None:
        """Nobody needs it: looking at every pointer is cheap."""

    def append(self, key: str, line: bytes) -> None:
        if b"\n" in line:
            raise ValueError("a line has no line end")
        try:
            handle = os.open(self.root / key, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o644)
            try:
                size = os.fstat(handle).st_size
                torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
                # One write call: appends of several processes do not mix. A line that a power cut tore is ended first.
                os.write(handle, (b"\n" if torn else b"") + line + b"\n")
                os.fsync(handle)
            finally:
                os.close(handle)
            if size == 0:
                durable.sync_folder(self.root)
        except OSError as error:
            raise failed(f"{key} cannot be written", error) from error

    def begin(self, folder: str) -> FolderWriting:
        return FolderWriting(self.root, folder, self._stage(folder), self._step)

    def remove(self, folder: str) -> None:
        """Takes the folder away in one rename, then deletes it."""
        staged = self._stage(folder)
        try:
            (self.root / folder).rename(staged / "gone")
            durable.sync_folder((self.root / folder).parent)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise failed(f"{folder} cannot be removed", error) from error
        finally:
            shutil.rmtree(staged, ignore_errors=True)

    def leftovers(self, older_than_s: float, *, remove: bool) -> list[str]:
        if remove:
            self._finish_claims()
        found = []
        for name in self.names(layout.STAGING_FOLDER):
            staged = self.root / layout.STAGING_FOLDER / name
            why = _abandoned(staged, older_than_s)
            if why:
                found.append(f"{layout.STAGING_FOLDER}/{name}: {why}")
                if remove:
                    shutil.rmtree(staged, ignore_errors=True)
        return found

    # ------------------------------------------------------------------ claims

    def _claim(self, staged: Path, claim: Path) -> bool:
        """Returns whether the claim is ours. A file server may repeat a link that it made, so the content decides."""
        try:
            os.link(staged / _CLAIM, claim)
        except FileExistsError:
            return claim.read_bytes() == staged.name.encode()
        return True

    def _carry_out(self, claim: Path, key: str) -> None:
        """Moves what was claimed into its place, unless that has been done."""
        staging = claim.read_text()
        if not _STAGED.fullmatch(staging):
            raise StoreError(f"{claim} is damaged: remove it")
        with suppress(FileNotFoundError):
            os.rename(self.root / layout.STAGING_FOLDER / staging / _PREPARED, self.root / key)
        durable.sync_folder((self.root / key).parent)

    def _finish_claims(self) -> None:
        """Carries out the claims on the present content of every pointer."""
        for model in self.names(_CLAIMS):
            key = f"{model}/{layout.SERVING_FILE}"
            current = self.read(key)
            if current is None:
                continue
            for attempt in itertools.count():
                claim = self.root / _CLAIMS / key / f"{current.tag}.{attempt}"
                if not claim.exists():
                    break
                self._carry_out(claim, key)

    def _stage(self, what: str) -> Path:
        staging = self.root / layout.STAGING_FOLDER
        try:
            durable.make_folder(staging)
            if staging.is_symlink() or staging.stat().st_dev != self.root.stat().st_dev:
                raise StoreError(f"{staging} must lie on the file system of {self.root}: renaming needs that")
            for _ in range(100):
                folder = staging / f"s-{os.urandom(12).hex()}"
                with suppress(FileExistsError):
                    folder.mkdir()
                    break
            durable.write_new(folder / _OWNER, owners.current().to_bytes())
        except OSError as error:
            raise failed(f"{what} cannot be staged", error) from error
        return folder


def _abandoned(staged: Path, older_than_s: float) -> str | None:
    """Returns why nobody will finish what is staged there, None if somebody may."""
    try:
        owner = owners.parse_owner((staged / _OWNER).read_bytes())
        age = time.time() - staged.stat().st_mtime
    except FileNotFoundError:
        owner, age = None, time.time() - staged.stat().st_mtime if staged.exists() else 0.0
    if owner is not None and owner.surely_dead():
        return f"its process {owner.pid} is gone"
    if age > older_than_s:
        return f"untouched for {age / 3600:.1f} h"
    return None
