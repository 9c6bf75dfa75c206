"""The running gateway, if there is one: does it answer, is everything it should serve ready?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gateway.commands.admin_client import AdminUnreachable, ask
from gateway.config import Config
from gateway.config_loading import ConfigError, admin_token
from gateway.doctor.finding import Finding, failed, ok, warning


def running(config: Config) -> Iterator[Finding]:
    """Asks the admin listener. That no gateway runs is no failure: one may look before the start."""
    if config.server.admin_port == 0:
        yield ok("running gateway", "not asked (server.admin_port is 0)")
        return
    try:
        answer = ask(config.admin_host, config.server.admin_port, "/v1/models", admin_token(config))
    except ConfigError as error:
        yield failed("admin token", "; ".join(error.problems), "make the file readable, or unset it")
        return
    except AdminUnreachable as error:
        yield ok("running gateway", f"none ({error})")
        return
    yield from _judge(answer)


def _judge(answer: dict[str, Any]) -> Iterator[Finding]:
    if answer["ready"]:
        yield ok("running gateway", f"ready, {answer['requests_in_flight']} requests in flight")
    elif answer["closing"]:
        yield warning("running gateway", "shutting down", "wait until it has stopped")
    else:
        yield failed("running gateway", "not ready", "see the versions and replicas below, and its log")
    for note in answer["notes"]:
        yield warning("running gateway", note, "see its log")
    for replica in answer["replicas"]:
        if not replica["available"]:
            yield failed(f"replica {replica['name']}", "no connection", "see Triton's log; is it running?")
    for model in answer["models"]:
        for version in model["versions"]:
            if version["state"] == "failed":
                yield failed(f"served {model['name']}/{version['version']}", version["detail"], "see Triton's log")
