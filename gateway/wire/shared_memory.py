"""Shared memory is refused in words: the gateway and its clients need not be on one machine."""

from __future__ import annotations

from gateway.errors import ErrorCode, GatewayError
from gateway.messages import Parameters


def refuse_shared_memory(parameters: Parameters, owner: str) -> None:
    """Raises GatewayError UNSUPPORTED when a tensor's parameters place its data in shared memory."""
    if "shared_memory_region" in parameters:
        raise GatewayError(
            ErrorCode.UNSUPPORTED, f"{owner} refers to shared memory, which this server does not have: send its data"
        )
