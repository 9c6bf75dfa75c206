"""The command line: `sluice <command>`.

Decides names, options and exit codes; the work is done by `gateway.commands`, imported only when it is asked for, so
that `sluice --help` is quick. Exit codes: 0 all is well; 1 the answer is "no" (a check failed, nothing is running);
2 the command line or the configuration is wrong; 3 the gateway cannot start; 130 interrupted before it did.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from gateway import __version__

OK, NO, BAD_USAGE, CANNOT_START, INTERRUPTED = 0, 1, 2, 3, 130

_EPILOG = "exit codes: 0 ok, 1 a check failed or nothing is running, 2 bad usage or configuration, 3 cannot start"
_MODELS_COMMANDS = (
    "What the running gateway serves, and what the registry holds: publish, serve, retire, verify, collect."
)
_ROUTES = "say which version would answer a request, and why"
_JOBS = "run training and other batch jobs: queue, slots, checkpoints, preemption"
_DEMO_COMMANDS = "classify a picture, embed sentences, score table rows with the demo models of the running gateway"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns the process's exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    parser = _parser(given)
    parsed = parser.parse_args(given)
    try:
        run = parsed.run if parsed.module is None else importlib.import_module(parsed.module).run
        code: int = run(parsed)
    except KeyboardInterrupt:
        print("sluice: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone (`sluice … | head`); nothing is left to say, also not at exit.
        sys.stderr.close()
        return OK
    return code


def _parser(given: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sluice", description="An inference serving gateway in front of NVIDIA Triton.", epilog=_EPILOG
    )
    parser.add_argument("--version", action="version", version=f"sluice {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_serve(commands)
    _add_doctor(commands)
    _add_demo(commands, given)
    _add_models(commands, given)
    _add_releases(commands, given)
    _add_bench(commands, given)
    _add_jobs(commands, given)
    _add_quantize(commands, given)
    version = commands.add_parser("version", help="print the version")
    version.set_defaults(module=None, run=_version)
    return parser


def _add_serve(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    serve = commands.add_parser(
        "serve",
        help="run the gateway",
        description="Runs the gateway in the foreground until Ctrl-C or SIGTERM; a second one ends the drain.",
        epilog=_EPILOG,
    )
    add_config_options(serve)
    serve.add_argument("--check", action="store_true", help="validate the configuration, print it, and do not start")
    serve.add_argument("--demo", action="store_true", help="print a ready-to-paste request for each demo model")
    serve.add_argument("--json", action="store_true", help="print JSON (the addresses, or with --check the result)")
    serve.set_defaults(module="gateway.commands.serve")


def _add_doctor(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    doctor = commands.add_parser(
        "doctor",
        help="check the environment, ports, Triton and models",
        description="Checks what the gateway needs and says what to do about what is missing. Exit code 1 if anything "
        "failed.",
    )
    add_config_options(doctor)
    doctor.add_argument("--json", action="store_true", help="print JSON")
    doctor.set_defaults(module="gateway.commands.doctor")


def _add_demo(commands: argparse._SubParsersAction[argparse.ArgumentParser], given: Sequence[str]) -> None:
    demo = commands.add_parser("demo", help=_DEMO_COMMANDS, description=_DEMO_COMMANDS)
    demo.set_defaults(module=None)
    if "demo" in given[:1]:
        # The demo's own options are known to the demo; it is imported only for its own command line.
        tasks = demo.add_subparsers(title="tasks", metavar="TASK", required=True)
        importlib.import_module("gateway.demo.commands").add_demo_parsers(tasks)


def _add_models(commands: argparse._SubParsersAction[argparse.ArgumentParser], given: Sequence[str]) -> None:
    models = commands.add_parser(
        "models", help="list, publish, serve, retire and check model versions", description=_MODELS_COMMANDS
    )
    models.set_defaults(module=None)
    if "models" in given[:1]:
        # Imported only for its own command line.
        actions = models.add_subparsers(title="actions", metavar="ACTION", required=True)
        importlib.import_module("gateway.commands.models_arguments").add_model_parsers(actions, add_config_options)


def _add_releases(commands: argparse._SubParsersAction[argparse.ArgumentParser], given: Sequence[str]) -> None:
    about = "try a version on a share of the traffic, judged by evidence: canary, A/B, shadow"
    releases = commands.add_parser("releases", help=about, description=f"{about[0].upper()}{about[1:]}.")
    releases.set_defaults(module=None)
    routes = commands.add_parser("routes", help=_ROUTES, description=_ROUTES[0].upper() + _ROUTES[1:] + ".")
    routes.set_defaults(module=None)
    if given[:1] in (["releases"], ["routes"]):
        # Imported only for their own command lines.
        arguments = importlib.import_module("gateway.commands.releases_arguments")
        actions = releases.add_subparsers(title="actions", metavar="ACTION", required=True)
        arguments.add_release_parsers(actions, add_config_options)
        actions = routes.add_subparsers(title="actions", metavar="ACTION", required=True)
        arguments.add_route_parsers(actions, add_config_options)


def _add_bench(commands: argparse._SubParsersAction[argparse.ArgumentParser], given: Sequence[str]) -> None:
    about = "send open-loop load to a server of the Open Inference Protocol and judge it"
    bench = commands.add_parser("bench", help=about, description=about)
    bench.set_defaults(module="gateway.commands.bench")
    if "bench" in given[:1]:
        # As with the demo: what only this command needs is imported for its own command line alone.
        command = importlib.import_module("gateway.commands.bench")
        command.add_options(bench)
        bench.epilog = command.EPILOG


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """Adds --config and --set."""
    parser.add_argument(
        "--config", metavar="FILE", help="the configuration (TOML); default: ./gateway.toml if there is one"
    )
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        dest="overrides",
        help="override one setting, such as server.rest_port=9000; may be repeated",
    )


def _add_jobs(commands: argparse._SubParsersAction[argparse.ArgumentParser], given: Sequence[str]) -> None:
    jobs = commands.add_parser("jobs", help=_JOBS, description=_JOBS[0].upper() + _JOBS[1:] + ".")
    jobs.set_defaults(module="gateway.commands.jobs")
    if "jobs" in given[:1]:
        # The runner's own options are known to the runner; imported only for its own command line.
        actions = jobs.add_subparsers(title="actions", metavar="ACTION", required=True)
        importlib.import_module("jobs.cli").add_job_parsers(actions)


def _add_quantize(commands: argparse._SubParsersAction[argparse.ArgumentParser], given: Sequence[str]) -> None:
    about = "turn an FP32 model into INT8, prove it on labelled rows, and publish it, or refuse"
    quantize = commands.add_parser("quantize", help=about, description=about)
    quantize.set_defaults(module="gateway.commands.quantize")
    if "quantize" in given[:1]:
        # As with the others: its options live with it. Its engines are imported later still, when an action runs.
        importlib.import_module("quantize.arguments").add_actions(quantize)


def _version(_: argparse.Namespace) -> int:
    print(f"sluice {__version__}")
    return OK


if __name__ == "__main__":
    sys.exit(main())
