"""`triton.mode = "remote"`: Tritons that the gateway does not own, with or without a common folder, early or late."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.bare_triton import BareTriton
from tests.acceptance.clients import rest
from tests.support.processes import ROOT, Gateway, LoadClient, until


@pytest.fixture(scope="module")
def bare_triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BareTriton]:
    """A Triton with an empty repository of its own."""
    bare_triton = BareTriton(tmp_path_factory.mktemp("bare"))
    bare_triton.start()
    yield bare_triton
    bare_triton.stop()


def remote(address: str, source: str) -> dict[str, Any]:
    return {
        "triton.mode": "remote",
        "triton.source": source,
        "triton.addresses": [address],
        "registry.poll_interval_ms": 500,
    }


def all_right(gateway: Gateway, **settings: Any) -> None:
    tally = LoadClient(gateway, clients=6, requests=300, **settings).report()
    assert (tally["wrong"], tally["lost"], tally["errors"], tally["refused"]) == ([], [], {}, 0)
    assert tally["right"] == 300


def test_models_that_triton_has_of_its_own(gateway: Gateway, tmp_path: Path) -> None:
    """What another Triton has loaded is served under the names it has there."""
    front = Gateway(tmp_path, None, remote(gateway.ready["triton_grpc"], "triton"))
    assert front.ready["models"]["add_sub.v1"] == ["1"]
    assert "triton_pid" not in front.ready
    all_right(front, models=["add_sub", "identity"], suffix=".v1")
    assert front.stop() == 0
    assert rest(gateway.rest, "/v2/health/ready").status == 200, "leaving unloaded what was not its own"


def test_models_are_pushed_where_no_folder_is_shared(bare_triton: BareTriton, tmp_path: Path, registry: Path) -> None:
    front = Gateway(tmp_path, registry, remote(bare_triton.grpc, "registry"))
    assert front.ready["failed"] == {}
    assert set(front.ready["models"]) == {"add_sub", "identity", "identity_unbatched", "faulty", "small_net"}
    all_right(front, models=["add_sub", "identity"])
    assert front.stop() == 0


def test_a_triton_that_comes_later_and_goes_and_comes(tmp_path: Path) -> None:
    """The gateway is up without it and says so; what it pushed is pushed again to a Triton that was started anew."""
    late = BareTriton(tmp_path / "late")
    shutil.copytree(ROOT / "tests" / "models" / "add_sub", tmp_path / "models" / "add_sub")
    front = Gateway(tmp_path / "front", tmp_path / "models", remote(late.grpc, "registry"))

    def ready() -> bool:
        return rest(front.rest, "/v2/health/ready").status == 200

    try:
        assert rest(front.rest, "/v2/health/live").status == 200
        assert not ready()
        refusal = rest(front.rest, "/v2/models/add_sub/infer", b'{"inputs":[]}')
        assert refusal.status in (502, 503), refusal
        assert "add_sub" in refusal.message
        late.start()
        until(ready, 40, "ready once Triton is there")
        all_right(front, models=["add_sub"])
        late.stop(signal.SIGKILL)
        until(lambda: not ready(), 20, "readiness says no")
        late.start()
        until(ready, 40, "ready once Triton is back")
        all_right(front, models=["add_sub"])
    finally:
        late.stop()
        assert front.stop() == 0
