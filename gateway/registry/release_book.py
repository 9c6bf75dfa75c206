"""The releases of a registry as a gateway sees and changes them. Implements `ports.ReleaseBook`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from gateway.judgements import EvidenceBundle
from gateway.registry.directory import RegistryError
from gateway.registry.document import DocumentError
from gateway.registry.releasing import advance
from gateway.registry.serving import parse_release
from gateway.registry.shared_reads import SharedReads
from gateway.registry.store import Store, StoreError
from gateway.releases import Release

_log = logging.getLogger("sluice.releases")
_LONGEST_S = 5.0


class RegistryReleases:
    """`texts` gives each model's release as of the last look at the registry; `actor` is this gateway's name.

    A registry that hangs holds up no more than the one write that met it: nobody waits for a write longer than
    `longest_s`, and who tries again joins the one under way.
    """

    def __init__(
        self,
        texts: Callable[[], Mapping[str, str]],
        open_store: Callable[[], Store],
        actor: str,
        longest_s: float = _LONGEST_S,
    ) -> None:
        self._texts = texts
        self._open = open_store
        self._actor = actor
        self._parsed: dict[str, tuple[str, Release | None]] = {}
        self._longest_s = longest_s
        self._decisions: dict[str, tuple[Release, EvidenceBundle]] = {}
        self._writes: SharedReads[str, bool] = SharedReads(self._advance)

    def releases(self) -> Mapping[str, Release]:
        """Returns the release of each model that has one; see `ports.ReleaseBook.releases`.

        One that cannot be read is left out: another Sluice wrote it into the gateway's memory, before an update.
        """
        texts = self._texts()
        for name, text in texts.items():
            if name not in self._parsed or self._parsed[name][0] != text:
                self._parsed[name] = (text, _read(name, text))
        self._parsed = {name: known for name, known in self._parsed.items() if name in texts}
        return {name: release for name, (_, release) in self._parsed.items() if release is not None}

    async def advance(self, release: Release, bundle: EvidenceBundle) -> bool:
        """Writes a decision down; see `ports.ReleaseBook.advance`."""
        key = release.plan.id
        self._decisions[key] = release, bundle
        try:
            async with asyncio.timeout(self._longest_s):
                advanced = await self._writes.get(key)
        except TimeoutError:
            raise RegistryError(f"release {key}: the registry has not answered for {self._longest_s:g} s") from None
        self._decisions.pop(key, None)
        return advanced

    def _advance(self, key: str) -> bool:
        release, bundle = self._decisions[key]
        try:
            return advance(self._open(), release, bundle, actor=self._actor)
        except (StoreError, DocumentError) as error:
            raise RegistryError(f"release {key}: {error}") from error


def _read(name: str, text: str) -> Release | None:
    try:
        return parse_release(text)
    except DocumentError as error:
        _log.error("the release of %s is left out of account until the registry is read: %s", name, error)
        return None
