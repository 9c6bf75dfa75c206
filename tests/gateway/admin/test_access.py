"""Who may use the admin listener."""

from __future__ import annotations

import base64

import pytest

from gateway.admin.access import Guard


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize("host", ["localhost:8002", "127.0.0.1:8002", "[::1]:8002", "LOCALHOST", "10.0.0.1"])
def test_without_a_token_this_machine_may_ask(peer: str, host: str) -> None:
    assert Guard(None).refusal("/v1/models", peer, host, "") is None


@pytest.mark.parametrize("peer", ["10.0.0.1", "::ffff:10.0.0.1", "2001:db8::1", "", None, "unix"])
def test_without_a_token_nobody_else_may(peer: str | None) -> None:
    refusal = Guard(None).refusal("/v1/models", peer, "localhost", "Bearer x")
    assert refusal is not None
    assert refusal[0] == 403


@pytest.mark.parametrize(
    "host", ["evil.example:8002", "localhost.evil.example", "", "[evil]", "127.0.0.1.evil.example"]
)
def test_a_name_that_somebody_else_controls_is_refused(host: str) -> None:
    refusal = Guard(None).refusal("/v1/config", "127.0.0.1", host, "")
    assert refusal is not None
    assert refusal[0] == 403


@pytest.mark.parametrize("shown", ["Bearer sesame", "bearer  sesame ", basic("anyone", "sesame"), basic("", "sesame")])
def test_the_token_opens_from_everywhere(shown: str) -> None:
    assert Guard("sesame").refusal("/metrics", "10.0.0.1", "gateway.example", shown) is None


@pytest.mark.parametrize(
    "shown",
    [
        "",
        "sesame",
        "Bearer",
        "Bearer sesam",
        "Bearer sesame2",
        "Bearer sésame",
        basic("sesame", ""),
        "Basic !!",
        "Basic",
    ],
)
def test_with_a_token_nothing_else_opens(shown: str) -> None:
    refusal = Guard("sesame").refusal("/metrics", "127.0.0.1", "localhost", shown)
    assert refusal is not None
    assert refusal[0] == 401


@pytest.mark.parametrize("token", [None, "sesame"])
def test_health_is_open_to_all(token: str | None) -> None:
    for path in ("/healthz", "/readyz"):
        assert Guard(token).refusal(path, "10.0.0.1", "gateway.example", "") is None
    for path in ("/", "/healthz/", "/healthz/../v1/config", "//healthz"):
        assert Guard(token).refusal(path, "10.0.0.1", "gateway.example", "") is not None
