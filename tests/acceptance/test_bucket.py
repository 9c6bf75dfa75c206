"""A gateway that serves from a bucket: real S3 server, real gateway, real Triton."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

from gateway.registry.object_store import ObjectStore
from gateway.registry.publishing import PublishOptions, publish_version
from tests.acceptance.test_swaps import answering, serves
from tests.registry_stores import servers
from tests.support.processes import ROOT, Gateway, fetch, until
from tests.support.versions import MODEL, prepare

LOCATION = f"s3://{servers.BUCKET}/acceptance"


def command(server: servers.S3, *arguments: str) -> dict[str, Any]:
    """Runs `sluice models …` with `registry.root` in the bucket, and returns what it printed."""
    line = [sys.executable, "-m", "gateway.cli", "models", *arguments, "--set", f'registry.root="{LOCATION}"', "--json"]
    done = subprocess.run(line, cwd=ROOT, env={**os.environ, **server.environment}, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def ready(gateway: Gateway) -> bool:
    with urllib.request.urlopen(f"http://{gateway.rest}/v2/health/ready", timeout=10) as answer:
        return bool(answer.status == 200)


def test_a_gateway_serves_from_a_bucket_and_without_it(tmp_path: Path) -> None:
    settings = {"registry.root": LOCATION, "registry.poll_interval_ms": 200}
    (tmp_path / "s3").mkdir()
    with servers.seaweedfs(tmp_path / "s3") as server:
        store = ObjectStore(LOCATION, **server.settings)
        first = prepare(tmp_path / "one", 1)
        publish_version(store, first, MODEL, actor="test", options=PublishOptions(serve=True))
        gateway = Gateway(tmp_path / "gateway", None, settings, environment=server.environment)
        try:
            assert answering(gateway) == "1"
            published = command(server, "publish", str(prepare(tmp_path / "two", 2)), "--name", MODEL)
            assert published["version"] == {"model_name": MODEL, "number": 2}
            assert answering(gateway) == "1", "publishing alone changes nothing that is served"
            order = urllib.request.Request(
                f"http://{gateway.admin}/v1/registry/models/{MODEL}/serve",
                b'{"version": 2, "reason": "acceptance"}',
                {"Content-Type": "application/json"},
            )
            with urllib.request.urlopen(order, timeout=30) as answer:
                assert json.load(answer)["generation"] == 2
            serves(gateway, 2)
            assert command(server, "verify", MODEL)["findings"] == []
            assert gateway.metrics()["sluice_registry_alarms"] == 0
        except BaseException:
            gateway.stop()
            raise
    try:
        until(lambda: gateway.metrics()["sluice_registry_age_seconds"] > 2, 30, "the gateway's knowledge grows old")
        assert answering(gateway) == "2"
        assert ready(gateway)
        notes = json.loads(fetch(f"{gateway.admin}/v1/models"))["notes"]
        assert [note for note in notes if "cannot be read" in note], notes
    finally:
        assert gateway.stop() == 0
    gateway = Gateway(tmp_path / "gateway", None, settings, environment=server.environment)
    try:
        assert answering(gateway) == "2"
        assert ready(gateway)
    finally:
        assert gateway.stop() == 0
