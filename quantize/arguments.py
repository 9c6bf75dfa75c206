"""The command line of `sluice quantize`: names, options and help.

No option has an effect that is not in `quantize.policy`.
"""

from __future__ import annotations

import argparse
from typing import Any

from quantize.metrics import NAMES
from quantize.policy import FALLBACKS, TARGETS

Subparsers = Any
EPILOG = (
    "exit codes: 0 published (or a dry run would be); 2 bad usage, input or data; 3 refused by the gate or not enough "
    "evidence; 4 unsupported model; 5 target unavailable here; 6 version conflict; 7 integrity failure; 8 registry "
    "cannot be written; 130 interrupted"
)


def add_actions(parser: argparse.ArgumentParser) -> None:
    """Adds the actions of `sluice quantize` to its parser."""
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True, dest="action")
    publish = _action(actions, "publish", "quantize, prove, and publish as the model's next version")
    _model(publish)
    publish.add_argument("--name", required=True, metavar="N", help="the model's name in the registry")
    publish.add_argument("--registry", metavar="DIR|URL", help="the registry; default: the configured one")
    publish.add_argument("--config", metavar="FILE", help="the gateway's configuration (TOML)")
    publish.set_defaults(overrides=[])
    publish.add_argument("--actor", metavar="WHO", help="who publishes; default: you")
    publish.add_argument(
        "--reason", default="", metavar="TEXT", help="why, for the registry's journal (needed with --force)"
    )
    publish.add_argument("--serve", action="store_true", help="make it the version that is served")
    publish.add_argument("--dry-run", action="store_true", help="do everything but publish")
    _data(publish, evaluation=True)
    _policy(publish)
    inspect = _action(actions, "inspect", "show what a model is and what would be quantized")
    _model(inspect)
    inspect.add_argument("--outputs", metavar="NAMES", help="keep only these outputs (comma separated)")
    _common(inspect)
    calibrate = _action(actions, "calibrate", "compute the ranges of every tensor and write them as JSON")
    _model(calibrate)
    _data(calibrate, evaluation=False)
    calibrate.add_argument("--out", required=True, metavar="FILE", help="where the ranges go")
    _policy(calibrate)
    convert = _action(actions, "convert", "write an INT8 graph without judging it (nothing is published)")
    _model(convert)
    _data(convert, evaluation=False)
    convert.add_argument("--out", required=True, metavar="FILE", help="where the INT8 graph goes (.onnx)")
    _policy(convert)
    evaluate = _action(actions, "evaluate", "judge an INT8 graph against its FP32 model on labelled rows")
    _model(evaluate)
    evaluate.add_argument("int8", metavar="INT8", help="the INT8 graph (.onnx)")
    evaluate.add_argument("--evaluation", required=True, metavar="SRC", help="rows with labels")
    _policy(evaluate)
    verify = _action(actions, "verify", "check a version's files and golden answers on every engine here")
    verify.add_argument("folder", metavar="VERSION_FOLDER", help="such as model_repo/minilm/2")
    _common(verify)


def _action(actions: Subparsers, name: str, text: str) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = actions.add_parser(
        name, help=text, description=text[0].upper() + text[1:] + ".", epilog=EPILOG
    )
    made.set_defaults(module="gateway.commands.quantize")
    return made


def _model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="FP32 model: FILE.onnx, module:factory (PyTorch), or FILE.pt (TorchScript), FILE.pt2 (torch.export)",
    )


def _data(parser: argparse.ArgumentParser, *, evaluation: bool) -> None:
    what = ".npz, folder of .npz, .parquet or module:function"
    parser.add_argument("--calibration", required=True, metavar="SRC", help=f"rows to take ranges from: {what}")
    if evaluation:
        parser.add_argument("--evaluation", required=True, metavar="SRC", help=f"other rows, with `label`: {what}")
        parser.add_argument(
            "--agreement", metavar="SRC", help="further rows without labels, on which INT8 must answer as FP32 does"
        )


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quiet", action="store_true", help="no progress")


def _policy(parser: argparse.ArgumentParser) -> None:
    """Options default to None here: what is not said comes from the policy file, then from `Policy`."""
    _common(parser)
    add = parser.add_argument_group("policy (also in --policy FILE, with _ for -)").add_argument
    add("--policy", metavar="FILE", help="options from a TOML or JSON file; the command line wins")
    add("--metric", metavar="M", help=f"{', '.join(NAMES)} or module:function (default top1)")
    add(
        "--target", action="append", choices=TARGETS, dest="targets", help="may be repeated; default: every engine here"
    )
    add("--output", metavar="NAME", help="the output that is judged, if there are several")
    add("--outputs", metavar="NAMES", help="keep only these outputs (comma separated)")
    add("--method", metavar="M", help="ranges: minmax, percentile:P, entropy, mse (default minmax)")
    add("--per-tensor", action="store_true", default=None, help="one scale for a whole weight (default: per channel)")
    add(
        "--keep-float", action="append", metavar="GLOB", help="node name or operator to leave in float; may be repeated"
    )
    add("--fallback", choices=FALLBACKS, help="what to do when the gate fails (default ladder)")
    add("--float-budget", type=float, metavar="SHARE", help="multiply-adds that the ladder may leave in float (0.2)")
    add("--max-loss", metavar="SHARE", help="strict limit of absolute and relative loss (default 0.01)")
    add("--bound", choices=("point", "upper"), help="judge the measured loss or its 95 %% bound (default point)")
    add("--fewest-rows", type=int, metavar="N", help="independent evaluation rows that are enough (default 500)")
    add("--accept-small-evaluation", action="store_true", default=None, help="publish with fewer; this is recorded")
    add("--fewest-agreement", metavar="SHARE", help="answers that must stay the same (default 0.97)")
    add(
        "--fewest-coverage",
        type=float,
        metavar="SHARE",
        help="multiply-adds in integer kernels (0.7 with Conv, else 0.5)",
    )
    add("--engines", action="store_true", default=None,
        help="also publish TensorRT-RTX's engine, where no TensorRT executes (its own is published)")  # fmt: skip
    add("--allow-slower", action="store_true", default=None, help="publish although INT8 is slower somewhere; recorded")
    add(
        "--force",
        action="store_true",
        default=None,
        help="publish although the gate refuses; needs --reason, is recorded; never overrules broken artifacts",
    )
    add("--max-batch-size", type=int, metavar="N", help="largest batch of a model that takes any (default 32)")
    add("--calibration-rows", type=int, metavar="N", help="rows to use at most (default 512)")
    add("--evaluation-rows", type=int, metavar="N", help="rows to use at most (default all)")
    add("--threads", type=int, metavar="N", help="threads of an engine (default 1)")
    add("--seed", type=int, help="seed of the bootstrap (default 0)")
    parser.add_argument("--report", metavar="DIR", help="write report.json, report.txt and report.html there")
