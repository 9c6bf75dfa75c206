"""Sluice's serving gateway: batches, routes and protects inference requests that real Triton servers execute."""

from gateway import compiled

__version__ = "0.1.0"

COMPILED = compiled.use()
"""Whether the modules that every request passes through run compiled."""
