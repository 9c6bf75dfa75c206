"""The command line of `sluice demo …`. Imports no optional package: those come with the command that runs."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from gateway.demo.classify import run_classify
from gateway.demo.client import DEFAULT_ADDRESS
from gateway.demo.embed import run_embed
from gateway.demo.score import run_score

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

_EXIT_CODES = "exit codes: 0 ok, 2 bad usage or input, 3 no gateway reached, 4 the gateway answered an error"


def add_demo_parsers(subparsers: Subparsers) -> None:
    """Adds classify, embed and score; each sets `run`, which takes the parsed arguments and returns the exit code."""
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--protocol", choices=("rest", "grpc"), default="rest", help="default: rest")
    shared.add_argument(
        "--url",
        metavar="HOST:PORT",
        help=f"the gateway's address (default: {DEFAULT_ADDRESS['rest']}, with gRPC {DEFAULT_ADDRESS['grpc']})",
    )
    shared.add_argument("--json", action="store_true", help="print JSON")
    classify = subparsers.add_parser("classify", parents=[shared], help="say what is on a picture", epilog=_EXIT_CODES)
    classify.add_argument("pictures", nargs="+", metavar="PICTURE", help="PNG, JPEG, WebP, …")
    classify.add_argument("--top", type=int, default=5, metavar="N", help="how many classes (default: 5)")
    classify.set_defaults(run=run_classify)
    embed = subparsers.add_parser("embed", parents=[shared], help="compare sentences by meaning", epilog=_EXIT_CODES)
    embed.add_argument("texts", nargs="*", metavar="TEXT", help="sentences (default: three examples)")
    embed.set_defaults(run=run_embed)
    score = subparsers.add_parser("score", parents=[shared], help="score rows of a census table", epilog=_EXIT_CODES)
    score.add_argument("--rows", metavar="FILE.csv", help="a table with a heading line (default: a few example rows)")
    score.set_defaults(run=run_score)
