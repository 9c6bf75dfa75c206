"""The options of `sluice releases …` and `sluice routes …`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TypeAlias

from gateway.registry.release_options import APPROVALS, DEFAULT_MAX_STEP_TIME, DEFAULT_STEPS, DEFAULT_WATCH
from gateway.releases import ReleaseKind, SupersedePolicy

_EPILOG = (
    "exit codes: 0 ok, 1 the answer is no (refused, no such release, a replay that differs), 2 bad usage or "
    "configuration, 3 the registry cannot be used"
)
AddConfig = Callable[[argparse.ArgumentParser], None]
Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_release_parsers(actions: Subparsers, add_config: AddConfig) -> None:
    """Adds every action of `sluice releases`."""
    _add_start(actions, add_config)
    status = _action(actions, add_config, "status", "show how releases stand, with what the gateway sees", "status")
    status.add_argument("id", nargs="?", help="the release, or a model; all that are in progress if left out")
    status.add_argument("--watch", action="store_true", help="show it again and again until Ctrl-C or its end")
    status.add_argument("--interval", type=float, default=1.0, metavar="SECONDS", help="between looks (default 1)")
    for name, text in (
        ("pause", "hold a release where it is; what it shows may still roll it back"),
        ("resume", "let a paused release go on; the time of its step starts anew"),
        ("promote", "move a release one step on by hand; after the last step the candidate becomes stable"),
        ("rollback", "give everything back to the stable version and reject the candidate"),
    ):
        action = _action(actions, add_config, name, text, "change")
        action.add_argument("id", help="the release, such as wide_deep-r3")
        action.set_defaults(what=name)
        if name == "promote":
            action.add_argument("--full", action="store_true", help="all the way: make the candidate stable now")
            action.add_argument("--arm", default="", help="of an A/B release: the arm that has won")
        _add_who(action)
    history = _action(actions, add_config, "history", "show what was done to releases, by whom and why", "history")
    history.add_argument("model", nargs="?", help="the model; all of them if left out")
    history.add_argument("--limit", type=int, default=50, help="entries, newest first (default 50)")
    report = _action(actions, add_config, "report", "show every decision of a release and its evidence", "report")
    report.add_argument("id", help="the release, in progress or ended")
    report.add_argument("--html", metavar="FILE", help="write one self-contained page with plots ('-': print it)")
    replay = _action(
        actions, add_config, "replay", "decide again from the counts in an evidence bundle, and compare", "replay"
    )
    replay.add_argument("bundle", help="a bundle file, or the id of a release in the registry (all its bundles)")


def add_route_parsers(actions: Subparsers, add_config: AddConfig) -> None:
    """Adds every action of `sluice routes`."""
    text = "say which rule, bucket, version and replica a request would get, and why (asks the running gateway)"
    explain = actions.add_parser("explain", help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=_EPILOG)
    add_config(explain)
    explain.add_argument("model")
    explain.add_argument("--sticky-key", metavar="KEY", help="the request's sticky key")
    explain.add_argument("--request-id", metavar="ID", help="decides where there is no sticky key")
    explain.add_argument("--header", action="append", default=[], metavar="NAME=VALUE", help="may be repeated")
    explain.add_argument("--parameter", action="append", default=[], metavar="NAME=VALUE", help="may be repeated")
    explain.add_argument("--version", metavar="N", help="the version that the caller names")
    explain.add_argument("--admin", metavar="HOST:PORT", help="the admin listener, if not the configured one")
    explain.add_argument("--json", action="store_true", help="print what the admin API answers")
    explain.set_defaults(module="gateway.commands.routes_explain")


def _add_start(actions: Subparsers, add_config: AddConfig) -> None:
    start = _action(actions, add_config, "start", "try a version on a share of the traffic", "start")
    start.add_argument("model")
    start.add_argument("--candidate", type=int, metavar="VERSION", help="the version that is tried")
    start.add_argument(
        "--kind", choices=[kind.value for kind in ReleaseKind],
        help="canary (default); shadow: compared on copies only; ab: fixed shares (default with --arm)",
    )  # fmt: skip
    start.add_argument("--steps", metavar="LIST", help=f"shares of the traffic, in order (default {_steps()})")
    start.add_argument("--max-step-time", metavar="TIME",
                       help=f"of a step without enough evidence (default {DEFAULT_MAX_STEP_TIME})")  # fmt: skip
    start.add_argument("--approve", choices=APPROVALS, help="after which steps a person has to say go (default none)")
    start.add_argument("--watch-after", metavar="TIME",
                       help=f"late outcomes may roll back so long (default {DEFAULT_WATCH})")  # fmt: skip
    _add_routing(start)
    _add_criteria(start)
    start.add_argument("--compare", action="append", metavar="OUTPUT=HOW",
                       help="equal: label[:K], close[:ABS[:REL]], cosine[:MIN], bytes")  # fmt: skip
    start.add_argument("--segment-header", metavar="NAME", help="compare by the values of this header too")
    start.add_argument("--shadow-share", metavar="SHARE", help="of stable's traffic, copied at most (default 100%%)")
    start.add_argument("--capture-inputs", action="store_true", default=None,
                       help="keep the inputs of the worst disagreements (they may be private)")  # fmt: skip
    policies = [policy.value for policy in SupersedePolicy]
    start.add_argument("--if-running", choices=policies, help="what to do while another release is in progress")
    start.add_argument("--on-newer", choices=policies, help="what newer releases do while this one is in progress")
    start.add_argument("--retry", action="store_true", default=None, help="although it was rolled back before")
    start.add_argument("--salt", help="the salt of the buckets (default: the release's id)")
    _add_who(start)


def _add_routing(start: argparse.ArgumentParser) -> None:
    start.add_argument("--arm", action="append", dest="arms", metavar="NAME=VERSION:SHARE",
                       help="an arm of an A/B release, such as b=3:20%%; may be repeated")  # fmt: skip
    start.add_argument("--rule", action="append", dest="rules", metavar="RULE",
                       help="before the split, such as 'header x-tester equals yes -> 3'; may be repeated")  # fmt: skip
    start.add_argument("--sticky-header", metavar="NAME", help="the header that keeps a caller on one version")
    start.add_argument("--sticky-parameter", metavar="NAME", help="the OIP parameter that does, without the header")


def _add_criteria(start: argparse.ArgumentParser) -> None:
    group = start.add_argument_group("criteria", "rates such as 2% or 0.02; off leaves one out")
    group.add_argument("--error-rate", metavar="RATE", help="more failures than stable (default 2%%)")
    group.add_argument("--nan-rate", metavar="RATE", help="more NaN or infinite answers (default 0.5%%)")
    group.add_argument("--latency-increase", metavar="RATE", help="slower than stable (default 15%%)")
    group.add_argument("--latency-quantiles", metavar="LIST", help="percentiles to compare (default 50,90)")
    group.add_argument("--disagreement-rate", metavar="RATE", help="answers to copies that differ (default 2%%)")
    group.add_argument("--score-shift", metavar="DISTANCE", help="of the outputs' distributions (default 0.15)")
    group.add_argument("--outcome-loss", metavar="RATE", help="worse by reported outcomes (default 2%%)")
    group.add_argument("--consecutive-failures", metavar="N", help="so many in a row abort at once (default 10)")
    group.add_argument("--alpha", type=float, help="chance to roll back a version that is as good (default 0.01)")
    group.add_argument("--power", type=float, help="chance to find a fault of the stated size (default 0.99)")
    group.add_argument("--tolerance", type=float, help="share of a stated difference that is tolerated (default 0.1)")
    judged = group.add_mutually_exclusive_group()
    judged.add_argument("--judge", dest="judged", action="store_true", default=None, help="judge an A/B release too")
    judged.add_argument("--no-judge", dest="judged", action="store_false", default=None, help="only a person decides")


def _action(actions: Subparsers, add_config: AddConfig, name: str, text: str, module: str) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=_EPILOG)
    add_config(parser)
    parser.add_argument("--registry", metavar="LOCATION", help="a folder or s3://bucket/prefix, if not registry.root")
    parser.add_argument("--admin", metavar="HOST:PORT", help="the admin listener, if not the configured one")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(module=f"gateway.commands.releases_{module}")
    return parser


def _steps() -> str:
    return DEFAULT_STEPS.replace("%", "%%")


def _add_who(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--actor", help="who does this, for the journal (default: your user name)")
    parser.add_argument("--reason", default="", help="why, for the journal")
