"""The releases of a registry as a gateway sees and changes them. Implements `ports.ReleaseBook`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from gateway.judgements import EvidenceBundle
from gateway.registry.directory import RegistryError
from gateway.registry.document import DocumentError
from gateway.registry.releasing import advance
from gateway.registry.serving import parse_release
from gateway.registry.store import Store, StoreError
from gateway.releases import Release


class RegistryReleases:
    """`texts` gives each model's release as of the last look at the registry; `actor` is this gateway's name."""

    def __init__(self, texts: Callable[[], Mapping[str, str]], open_store: Callable[[], Store], actor: str) -> None:
        self._texts = texts
        self._open = open_store
        self._actor = actor
        self._parsed: dict[str, tuple[str, Release]] = {}

    def releases(self) -> Mapping[str, Release]:
        """Returns the release of each model that has one; see `ports.ReleaseBook.releases`."""
        texts = self._texts()
        for name, text in texts.items():
            if name not in self._parsed or self._parsed[name][0] != text:
                self._parsed[name] = (text, parse_release(text))
        self._parsed = {name: known for name, known in self._parsed.items() if name in texts}
        return {name: release for name, (_, release) in self._parsed.items()}

    async def advance(self, release: Release, bundle: EvidenceBundle) -> bool:
        """Writes a decision down; see `ports.ReleaseBook.advance`."""
        return await asyncio.to_thread(self._advance, release, bundle)

    def _advance(self, release: Release, bundle: EvidenceBundle) -> bool:
        try:
            return advance(self._open(), release, bundle, actor=self._actor)
        except (StoreError, DocumentError) as error:
            raise RegistryError(f"release {release.plan.id}: {error}") from error
