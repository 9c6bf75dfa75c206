"""Puts the parts together that judge releases: the registry's book, the counts' files, the manager and its routes."""

from __future__ import annotations

import os
import socket
import time

from gateway.app.backends import Backends
from gateway.config import Config
from gateway.engine.manager import VersionManager
from gateway.engine.releases import ReleaseControl
from gateway.engine.service import InferService
from gateway.engine.switched_observer import SwitchedObserver
from gateway.registry.opening import full_location, open_store
from gateway.registry.release_book import RegistryReleases
from gateway.registry.release_counts import ReleaseCounts


def releases_of(
    config: Config, backends: Backends, manager: VersionManager, service: InferService, observer: SwitchedObserver
) -> ReleaseControl:
    """Returns the control of the releases, following what the registry said last; `manager` routes by it."""
    watcher, watch = backends.watcher, manager.watch
    assert watcher is not None, "releases live in a registry"
    location = full_location(config.registry.root)
    name = f"gateway {socket.gethostname()}/{os.getpid()}"
    control = ReleaseControl(
        RegistryReleases(watcher.release_texts, lambda: open_store(location), name),
        service,
        manager,
        observer,
        ReleaseCounts(backends.cache_folder() / "releases"),
        service.clock,
        time.time_ns,
        watch.look_now,
        name,
    )
    manager.routes.releases = control.releases
    control.looked()
    watch.on_look = control.looked
    watch.hurried = lambda: control.hurried
    return control
