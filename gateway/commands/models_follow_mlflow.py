"""`sluice models follow-mlflow`: a publisher process that follows an alias of a registered model in MLflow."""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import threading
from pathlib import Path

from gateway import __version__
from gateway.cli import NO, OK
from gateway.commands.registry_access import actor_of, with_registry
from gateway.registry.document import DocumentError
from gateway.registry.layout import is_model_name
from gateway.registry.mlflow_client import Mlflow, MlflowError
from gateway.registry.mlflow_following import Following, follow_once
from gateway.registry.store import Store, StoreError
from gateway.registry.switching import PublishError

_MOST_PAUSE_S = 600.0


def run(parsed: argparse.Namespace) -> int:
    """Follows until interrupted; with --once it looks once and the exit code is 1 if that failed."""
    return with_registry(parsed, lambda store: _follow(store, parsed))


def _follow(store: Store, parsed: argparse.Namespace) -> int:
    name = parsed.name or parsed.model
    if not is_model_name(name):
        raise PublishError(f"{name!r} is not a model name here: give another one with --name")
    mlflow = Mlflow(parsed.tracking, os.environ.get("MLFLOW_TRACKING_TOKEN"), tuple(map(Path, parsed.allow_root or ())))
    following = Following(
        model=parsed.model, alias=parsed.alias, name=name, serve=parsed.serve, actor=actor_of(parsed),
        tool=f"sluice {__version__}",
    )  # fmt: skip
    failures, said = 0, ""
    source = random.Random()
    while True:
        try:
            done = follow_once(store, mlflow, following)
            failures, said = 0, ""
            if done:
                print(json.dumps({"done": done}) if parsed.json else done, flush=True)
            elif parsed.once:
                print(json.dumps({"done": None}) if parsed.json else "nothing to do")
        except (MlflowError, PublishError, StoreError, DocumentError, OSError) as error:
            failures += 1
            if str(error) != said:
                said = str(error)
                print(f"sluice: {said}", file=sys.stderr, flush=True)
        if parsed.once:
            return NO if failures else OK
        pause = min(parsed.interval * 2 ** min(failures, 10), max(_MOST_PAUSE_S, parsed.interval))
        threading.Event().wait(pause * source.uniform(0.9, 1.1))
