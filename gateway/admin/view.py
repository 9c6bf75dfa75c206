"""What the admin plane may see of the running gateway: plain values, copied out at the moment of asking.

Invariants: nothing here is a handle on the engine; strings that stem from outside (names, reasons) are data to be
escaped by whoever shows them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Protocol

from gateway.messages import Nanos
from gateway.versions import InputDrift, ModelVersion, VersionState


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfilePoint:
    """What batches of `rows` rows were learned to take, in nanoseconds: on average, and 19 times out of 20."""

    rows: int
    mean: Nanos
    high: Nanos


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionView:
    """One model version. `weight` is its share of the model's unversioned requests in basis points."""

    version: ModelVersion
    state: VersionState
    detail: str = ""
    weight: int = 0
    requests_in_flight: int = 0
    batches_in_flight: int = 0
    queued_rows: int = 0
    queued_bytes: int = 0
    max_batch_size: int = 0
    instances: int = 0
    unbatchable_reason: str = ""
    profile: tuple[ProfilePoint, ...] = ()
    inputs: tuple[InputDrift, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaView:
    """One Triton: whether a connection is open, what it serves, and the rows it was sent and has not answered."""

    name: str
    available: bool
    versions: tuple[ModelVersion, ...]
    outstanding_rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayView:
    """Everything at one moment. `notes` are sentences about what is wrong with no version in particular."""

    ready: bool
    closing: bool
    generation: int
    requests_in_flight: int
    versions: tuple[VersionView, ...]
    replicas: tuple[ReplicaView, ...]
    notes: tuple[str, ...] = ()


class AdminView(Protocol):
    """The engine as the admin plane sees it. Both methods are quick and never raise."""

    def ready(self) -> bool:
        """Whether every model that should be served takes requests."""
        ...

    def look(self) -> GatewayView:
        """Returns the whole picture."""
        ...


def as_json(view: VersionView) -> dict[str, Any]:
    """Returns a version as plain data, times in microseconds."""
    return {
        "version": view.version.number,
        "state": view.state.value,
        "detail": view.detail,
        "weight_bp": view.weight,
        "requests_in_flight": view.requests_in_flight,
        "batches_in_flight": view.batches_in_flight,
        "queued_rows": view.queued_rows,
        "queued_bytes": view.queued_bytes,
        "max_batch_size": view.max_batch_size,
        "instances": view.instances,
        "unbatchable_reason": view.unbatchable_reason,
        "profile": [
            {"rows": point.rows, "mean_us": point.mean // 1000, "high_us": point.high // 1000} for point in view.profile
        ],
        "inputs": [asdict(drift) for drift in view.inputs],
    }
