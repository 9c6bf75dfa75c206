"""A version as the data plane sees it: its metadata, its state and its scheduler."""

from __future__ import annotations

from gateway.core.signature import CheckedHead, validate_head
from gateway.engine.scheduler import VersionScheduler
from gateway.messages import ModelMetadata, RequestHead
from gateway.versions import ModelVersion, VersionState


class ServedVersion:
    """Owns one version's scheduler; `state` READY is the only one in which it takes requests."""

    __slots__ = ("detail", "metadata", "scheduler", "state", "version")

    def __init__(self, version: ModelVersion, metadata: ModelMetadata, scheduler: VersionScheduler) -> None:
        self.version = version
        self.metadata = metadata
        self.scheduler = scheduler
        self.state = VersionState.WARMING
        self.detail = ""

    def check(self, head: RequestHead) -> CheckedHead:
        """Validates `head` against this version's metadata, once per interned head.

        Raises:
            GatewayError: INVALID_REQUEST naming what does not fit.
        """
        remembered = head.memo.get(self.version.number)
        if remembered is not None and remembered[0] is self.metadata:  # type: ignore[index]
            return remembered[1]  # type: ignore[index,no-any-return]
        checked = validate_head(head, self.metadata)
        if len(head.memo) >= 4:
            head.memo.clear()  # versions that are no longer served
        head.memo[self.version.number] = (self.metadata, checked)
        return checked
