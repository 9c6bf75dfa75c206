"""The composition root: builds a gateway from its configuration, starts and stops it in order. No other logic."""

from gateway.app.gateway import CannotStart, run

__all__ = ["CannotStart", "run"]
