"""Pipelines: train, evaluate, approve, quantize, publish, release, each a durable step. Needs the extra `jobs`."""
