"""Opens a registry by its location: a folder, or `s3://bucket/prefix`."""

from __future__ import annotations

from pathlib import Path

from gateway.registry.folder_store import FolderStore
from gateway.registry.store import Store, StoreError


def is_folder(location: str) -> bool:
    """Returns whether the location names a folder."""
    return "://" not in location


def full_location(location: str) -> str:
    """Returns the location in the one form that does not depend on where the process runs."""
    return str(Path(location).absolute()) if is_folder(location) else location.rstrip("/")


def open_store(location: str) -> Store:
    """Returns the store at `location`.

    Raises:
        StoreError: nothing is there, or it cannot hold a registry.
    """
    if is_folder(location):
        return FolderStore(Path(location))
    if location.startswith("s3://"):
        # Imported on demand: obstore is an extra.
        try:
            from gateway.registry.object_store import ObjectStore
        except ImportError:
            raise StoreError("a registry in a bucket needs: pip install 'sluice[s3]'") from None
        return ObjectStore(location)
    raise StoreError(f"{location} is neither a folder nor s3://bucket/prefix")
