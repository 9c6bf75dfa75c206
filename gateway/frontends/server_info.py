"""What the server says of itself in OIP's server metadata."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """Name, version and the OIP extensions that are really supported."""

    name: str
    version: str
    extensions: tuple[str, ...] = (
        "binary_tensor_data",
        "classification",
        "model_configuration",
        "parameters",
        "schedule_policy",
        "statistics",
    )
