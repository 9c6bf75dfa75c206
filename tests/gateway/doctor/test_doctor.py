"""The doctor: what it finds, and that every failure says what to do."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway import COMPILED
from gateway.config import (
    Config,
    LimitsConfig,
    ModelConfig,
    RegistryConfig,
    ServerConfig,
    TelemetryConfig,
    TritonConfig,
)
from gateway.doctor import Finding, Status, examine, healthy
from gateway.doctor.machine import existing, machine
from gateway.doctor.models import models
from gateway.doctor.packages import packages
from gateway.doctor.ports import ports
from gateway.doctor.running import _judge, running
from gateway.doctor.triton import triton

ROOT = Path(__file__).resolve().parents[3]


def by_subject(findings: Iterator[Finding]) -> dict[str, Finding]:
    return {finding.subject: finding for finding in findings}


@pytest.fixture
def listener() -> Iterator[int]:
    """A port that something else listens on."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen(1)
        yield held.getsockname()[1]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_packages_of_this_environment_are_fine() -> None:
    found = by_subject(packages(Config()))
    compiled = found.pop("compiled modules")
    assert (compiled.status, bool(compiled.advice)) == ((Status.OK, False) if COMPILED else (Status.WARNING, True))
    assert {finding.status for finding in found.values()} == {Status.OK}
    assert {"Python", "uvloop", "httptools", "ngh2"} <= found.keys()
    assert "grpcio" not in found
    assert "grpcio" in by_subject(packages(Config(server=ServerConfig(grpc_engine="grpcio"))))


def test_a_package_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ngh2", None)
    finding = by_subject(packages(Config()))["ngh2"]
    assert finding.status is Status.FAILED
    assert "make setup" in finding.advice


def test_machine(tmp_path: Path) -> None:
    below = tmp_path / "a" / "b"
    assert existing(below) == tmp_path
    config = Config(triton=TritonConfig(work_folder=str(below)), telemetry=TelemetryConfig(access_log=""))
    found = by_subject(machine(config))
    assert found[f"disk ({tmp_path})"].status is not Status.FAILED
    assert found["memory"].status is not Status.FAILED
    many = replace(config, limits=LimitsConfig(max_connections=1_000_000_000))
    finding = by_subject(machine(many))["open files"]
    assert finding.status is Status.WARNING
    assert "limits.max_connections" in finding.advice


def test_whether_callers_may_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = "callers go first while versions load"
    for permitted, status in ((True, Status.OK), (False, Status.WARNING)):
        monkeypatch.setattr(sys.modules["gateway.doctor.machine"], "permitted", lambda permitted=permitted: permitted)
        finding = by_subject(machine(Config()))[subject]
        assert finding.status is status
        assert permitted or "triton.realtime_swaps" in finding.advice
    off = Config(triton=TritonConfig(realtime_swaps=False))
    assert subject not in by_subject(machine(off))


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may write everywhere
    config = Config(triton=TritonConfig(work_folder=str(tmp_path)), telemetry=TelemetryConfig(access_log="-"))
    finding = by_subject(machine(config))[f"disk ({tmp_path})"]
    assert finding.status is Status.FAILED
    assert "triton.work_folder" in finding.advice


def test_no_triton_environment_says_how_to_get_one(tmp_path: Path) -> None:
    config = Config(triton=TritonConfig(environment=str(tmp_path / "none")))
    (finding,) = triton(config)
    assert finding.status is Status.FAILED
    assert "make setup" in finding.advice


def test_remote_tritons_are_asked(listener: int) -> None:
    config = Config(triton=TritonConfig(mode="remote", addresses=(f"127.0.0.1:{listener}", f"127.0.0.1:{free_port()}")))
    first, second = triton(config)
    assert first.status is Status.OK
    assert second.status is Status.FAILED
    assert "triton.addresses" in second.advice


def test_models_of_a_registry(tmp_path: Path) -> None:
    registry = tmp_path / "repo"
    shutil.copytree(ROOT / "tests" / "models", registry)
    config = Config(registry=RegistryConfig(root=str(registry)), models={"nobody": ModelConfig()})
    found = by_subject(models(config))
    assert found["model identity/1"].status is Status.OK
    assert found["models.nobody"].status is Status.WARNING
    artifact = next(
        path for path in (registry / "identity").rglob("*") if path.is_file() and path.name != "manifest.json"
    )
    artifact.write_bytes(b"changed")
    (registry / "add_sub" / "1" / "manifest.json").write_text("{")
    (registry / "not a name").mkdir()
    found = by_subject(models(config))
    assert found["model identity/1"].status is Status.FAILED
    assert found["model add_sub/1"].status is Status.FAILED
    assert "not a model name" in found["registry"].found
    assert all(finding.advice for finding in found.values() if finding.status is not Status.OK)


def test_a_registry_that_is_not_there_or_empty(tmp_path: Path) -> None:
    (finding,) = models(Config(registry=RegistryConfig(root=str(tmp_path / "none"))))
    assert finding.status is Status.FAILED
    assert "registry.root" in finding.advice
    (finding,) = models(Config(registry=RegistryConfig(root=str(tmp_path))))
    assert finding.status is Status.WARNING
    assert list(models(Config(triton=TritonConfig(mode="remote", source="triton")))) == []


def test_ports_free_taken_and_any(listener: int) -> None:
    server = ServerConfig(rest_port=listener, grpc_port=0, admin_port=free_port())
    config = Config(server=server, triton=TritonConfig(http_port=0, grpc_port=0, metrics_port=0))
    found = list(ports(config))
    assert len(found) == 6
    taken, any_one, free, *_ = found
    assert taken.status is Status.FAILED
    assert f"pid {os.getpid()}" in taken.found
    assert "server.rest_port" in taken.advice
    assert (any_one.status, free.found) == (Status.OK, "free")
    assert len(list(ports(Config(server=server, triton=TritonConfig(mode="remote"))))) == 3


def test_an_address_that_is_not_ours() -> None:
    server = ServerConfig(host="192.0.2.1", rest_port=free_port(), grpc_port=0, admin_port=0)
    finding = next(iter(ports(Config(server=server))))
    assert finding.status is Status.FAILED
    assert "cannot be bound on 192.0.2.1" in finding.found


def test_no_running_gateway_is_no_failure(listener: int) -> None:
    config = Config(server=ServerConfig(admin_port=free_port()))
    (finding,) = running(config)
    assert (finding.status, finding.found[:4]) == (Status.OK, "none")
    (finding,) = running(Config(server=ServerConfig(admin_port=0)))
    assert finding.status is Status.OK


def test_a_running_gateway_is_judged() -> None:
    version = {"version": 2, "state": "failed", "detail": "why"}
    answer = {
        "ready": False, "closing": False, "requests_in_flight": 0, "notes": ["registry: gone"],
        "replicas": [{"name": "r", "available": False}], "models": [{"name": "m", "versions": [version]}],
    }  # fmt: skip
    found = list(_judge(answer))
    assert [finding.status for finding in found] == [Status.FAILED, Status.WARNING, Status.FAILED, Status.FAILED]
    assert "why" in found[-1].found
    assert [f.status for f in _judge(answer | {"closing": True, "models": [], "replicas": [], "notes": []})] == [
        Status.WARNING
    ]
    assert next(_judge(answer | {"ready": True})).status is Status.OK


def test_a_check_that_breaks_is_a_failed_check() -> None:
    def broken(config: Config) -> Iterator[Finding]:
        yield Finding("first", Status.OK, "fine")
        raise RuntimeError("boom")

    found = list(examine(Config(), (broken, packages)))
    assert found[0].status is Status.OK
    assert (found[1].subject, found[1].status) == ("broken", Status.FAILED)
    assert "boom" in found[1].found
    assert len(found) > 3
    assert not healthy(found)
    assert healthy([Finding("a", Status.WARNING, "x", "y")])
