"""The options of `sluice models …`.

Exit codes of all of them: 0 done; 1 refused, or something is wrong (the message says what); 2 the command line or the
configuration is wrong; 3 the registry cannot be read or written.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TypeAlias

Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
AddConfig = Callable[[argparse.ArgumentParser], None]
_EPILOG = "exit codes: 0 done, 1 refused or something is wrong, 2 bad usage, 3 the registry cannot be read or written"


def add_model_parsers(actions: Subparsers, add_config: AddConfig) -> None:
    """Adds every action of `sluice models`."""
    listing = actions.add_parser("list", help="list models, versions and their states (asks the running gateway)")
    add_config(listing)
    listing.add_argument("--admin", metavar="HOST:PORT", help="the admin listener, if not the configured one")
    listing.add_argument("--json", action="store_true", help="print what the admin API answers")
    listing.set_defaults(module="gateway.commands.models_list")
    fetch = actions.add_parser("fetch", help="fetch artifacts that the registry does not carry, checked by sha256")
    add_config(fetch)
    fetch.add_argument("--json", action="store_true", help="print JSON")
    fetch.set_defaults(module="gateway.commands.models_fetch")
    _add_looking(actions, add_config)
    _add_publish(actions, add_config)
    _add_changing(actions, add_config)
    _add_gc(actions, add_config)
    _add_follow_mlflow(actions, add_config)


def _add_looking(actions: Subparsers, add_config: AddConfig) -> None:
    show = _action(actions, add_config, "show", "show a model's versions, or one version's manifest", "models_show")
    show.add_argument("model", nargs="?", help="the model; all of them if left out")
    show.add_argument("version", nargs="?", type=_number, help="print this version's manifest")
    history = _action(actions, add_config, "history", "show who changed what, when and why", "models_history")
    history.add_argument("model", nargs="?", help="the model; the whole registry if left out")
    history.add_argument("--limit", type=_number, default=50, help="entries, newest first (default 50)")
    verify = _action(actions, add_config, "verify", "check every file against its manifest", "models_verify")
    verify.add_argument("model", nargs="?", help="the model; all of them if left out")
    verify.add_argument("version", nargs="?", type=_number, help="only this version")


def _add_publish(actions: Subparsers, add_config: AddConfig) -> None:
    publish = _action(
        actions, add_config, "publish", "publish an ONNX file or a prepared folder as a new version", "models_publish"
    )
    publish.add_argument("source", metavar="DIR|FILE.onnx", help="what to publish")
    publish.add_argument("--name", required=True, help="the model's name")
    publish.add_argument("--serve", action="store_true", help="make it the version that is served")
    publish.add_argument(
        "--max-batch-size", type=_count, metavar="ROWS", help="0: no batches; default: derived from the model's shapes"
    )
    publish.add_argument("--description", default="", help="what it is, in a sentence")
    publish.add_argument("--dry-run", action="store_true", help="print the manifest that it would get, and stop")
    _add_who(publish)


def _add_changing(actions: Subparsers, add_config: AddConfig) -> None:
    serve = _action(actions, add_config, "serve", "make a version the one that is served", "models_serve")
    serve.add_argument("model")
    serve.add_argument("version", type=_number)
    serve.add_argument(
        "--also",
        type=_number,
        action="append",
        metavar="VERSION",
        help="keep this one loaded beside it; may be repeated",
    )
    serve.add_argument(
        "--allow-breaking", action="store_true", help="this version may break callers of the one before it"
    )
    serve.add_argument("--retry", action="store_true", help="serve it although a release of it was rolled back")
    _add_who(serve)
    retire = _action(
        actions, add_config, "retire", "retire a version that is not served, or take a model out of service",
        "models_retire",
    )  # fmt: skip
    retire.add_argument("model")
    retire.add_argument("version", nargs="?", type=_number, help="left out: stop serving the model, keep its versions")
    _add_who(retire)


def _add_gc(actions: Subparsers, add_config: AddConfig) -> None:
    gc = _action(actions, add_config, "gc", "remove retired versions and what crashed publishers left", "models_gc")
    gc.add_argument("--retired-hours", type=_hours, default=168.0, help="keep retired versions so long (default 168)")
    gc.add_argument(
        "--unfinished-hours", type=_hours, default=24.0,
        help="keep unfinished work whose process cannot be seen from here so long (default 24)",
    )  # fmt: skip
    gc.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    _add_who(gc)


def _add_follow_mlflow(actions: Subparsers, add_config: AddConfig) -> None:
    follow = _action(
        actions, add_config, "follow-mlflow", "publish what an alias of a registered MLflow model points to",
        "models_follow_mlflow",
    )  # fmt: skip
    follow.add_argument("--tracking", metavar="URL", required=True, help="the MLflow server")
    follow.add_argument("--model", required=True, help="the registered model in MLflow")
    follow.add_argument("--alias", required=True, help="the alias to follow, such as champion")
    follow.add_argument("--name", help="the model's name here, if another")
    follow.add_argument("--serve", action="store_true", help="make what the alias points to the version that is served")
    follow.add_argument("--interval", type=_seconds, default=30.0, metavar="SECONDS", help="between looks (default 30)")
    follow.add_argument("--once", action="store_true", help="look once and stop")
    follow.add_argument(
        "--allow-root", action="append", metavar="DIR", help="a local folder that artifacts may lie in; may be repeated"
    )
    _add_who(follow)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.1 <= value <= 86_400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds (0.1 to 86400)")
    return value


def _action(actions: Subparsers, add_config: AddConfig, name: str, text: str, module: str) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=_EPILOG)
    add_config(parser)
    parser.add_argument("--registry", metavar="LOCATION", help="a folder or s3://bucket/prefix, if not registry.root")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(module=f"gateway.commands.{module}")
    return parser


def _add_who(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--actor", help="who does this, for the journal (default: your user name)")
    parser.add_argument("--reason", default="", help="why, for the journal")


def _number(text: str) -> int:
    if not text.isdecimal() or text.startswith("0") or len(text) > 10:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number (1, 2, 3 …)")
    return int(text)


def _count(text: str) -> int:
    return 0 if text == "0" else _number(text)


def _hours(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of hours")
    return value
