"""A version as the data plane sees it: its metadata, its state, its scheduler and who looks at its inputs."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.core.signature import CheckedHead, validate_head
from gateway.engine.input_watch import InputWatch
from gateway.engine.scheduler import VersionScheduler
from gateway.messages import ModelMetadata, RequestHead
from gateway.versions import InputStatistics, ModelVersion, VersionState


class ServedVersion:
    """Owns one version's scheduler; `state` READY is the only one in which it takes requests.

    `watch` looks at the inputs of accepted requests; None where nothing is recorded to compare them with.
    """

    __slots__ = ("_watch_every", "detail", "metadata", "scheduler", "state", "version", "watch")

    def __init__(
        self, version: ModelVersion, metadata: ModelMetadata, scheduler: VersionScheduler, watch_every: int = 0
    ) -> None:
        """One request in `watch_every` is looked at, none if that is 0."""
        self.version = version
        self.metadata = metadata
        self.scheduler = scheduler
        self.state = VersionState.WARMING
        self.detail = ""
        self.watch: InputWatch | None = None
        self._watch_every = watch_every

    def compare_inputs(self, statistics: Sequence[InputStatistics]) -> None:
        """Begins to compare inputs with the calibration's, unless that is switched off or has begun."""
        if statistics and self._watch_every and self.watch is None:
            self.watch = InputWatch(statistics, self._watch_every)

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
