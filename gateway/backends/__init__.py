"""Triton, as seen from the engine: data calls, control calls, the embedded process, its model repository."""
