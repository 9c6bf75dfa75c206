"""The words that runner, keeper and a job's own program share: variables, exit codes, file names.

Decides the preemption contract. A program that is told to stop (SIGTERM, or the notice file exists) finishes its step,
saves a checkpoint and exits with `EXIT_REQUEUE`; it is then started again when there is room.
"""

from __future__ import annotations

import signal

# 75 is EX_TEMPFAIL of sysexits.h: "try again later".
EXIT_REQUEUE = 75
# What the keeper reports when the program could not be started at all, as a shell does.
EXIT_CANNOT_START = 127

JOB = "SLUICE_JOB"
ATTEMPT = "SLUICE_ATTEMPT"
TOKEN = "SLUICE_ATTEMPT_TOKEN"
SEED = "SLUICE_SEED"
OUTPUT_FOLDER = "SLUICE_OUTPUT_FOLDER"
CHECKPOINT_FOLDER = "SLUICE_CHECKPOINT_FOLDER"
CHECKPOINT_INTERVAL = "SLUICE_CHECKPOINT_INTERVAL_S"
CHECKPOINT_KEEP = "SLUICE_CHECKPOINT_KEEP"
NOTICE_FILE = "SLUICE_NOTICE_FILE"
METRICS_FILE = "SLUICE_METRICS_FILE"
EPSILON, DELTA = "SLUICE_PRIVACY_EPSILON", "SLUICE_PRIVACY_DELTA"
LINEAGE_FILE = "SLUICE_LINEAGE_FILE"

# Files of one attempt's folder.
LAUNCH = "launch.json"
CLAIM = "claim.json"
STOP = "stop.json"
NOTICE = "notice.json"
EXIT = "exit.json"
REFUSED = "refused.json"
KEEPER_ERRORS = "keeper.err"

# Tells a keeper to look at its folder. Ignored by default, so it cannot hurt one that is still starting.
WAKE = signal.SIGURG

# Why a keeper ends a job.
CANCEL, PREEMPT, EVICT = "cancel", "preempt", "evict"
TIME_LIMIT, OUT_OF_MEMORY, TOO_MANY_PROCESSES = "time_limit", "out_of_memory", "too_many_processes"
