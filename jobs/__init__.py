"""Sluice jobs: runs training and other batch work on one machine, survives crashes and preemption.

The runner side (`sluice jobs …`) is `jobs.runner` with its parts; the side that a job's own program uses is
`jobs.context` (what the runner told it, notices, requeue), `jobs.checkpoint`, `jobs.sampler` and `jobs.metrics`.
This file imports nothing, so that the keeper and the jobs start quickly.
"""
