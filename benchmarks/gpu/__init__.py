"""Benchmarks for a machine with a GPU and no network."""
