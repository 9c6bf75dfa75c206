"""Sluice's serving gateway: batches, routes and protects inference requests that real Triton servers execute."""

__version__ = "0.1.0"
