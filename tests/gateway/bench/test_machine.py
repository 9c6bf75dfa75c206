"""What the operating system says about processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

from gateway.bench.machine import CpuWatch, cpu_jiffies, cpu_seconds, description, family, listener_of


def test_cpu_time_of_ourselves_rises() -> None:
    before = cpu_seconds(os.getpid())
    assert before is not None
    while True:
        now = cpu_seconds(os.getpid())
        assert now is not None
        if now > before:
            break
    assert cpu_seconds(2**22 + 1) is None


def test_the_family_of_a_process_includes_its_children() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert child.pid in family(os.getpid())
        watch = CpuWatch({"tests": os.getpid()})
        watch.start()
        assert "tests" in watch.used()
    finally:
        child.communicate(b"\n")
    assert family(2**22 + 1) == {}


def test_the_listener_of_a_port_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert listener_of(port) == os.getpid()
    assert listener_of(port) is None


def test_the_machine_is_described() -> None:
    total, stolen = cpu_jiffies()
    assert total > stolen >= 0
    assert description()["cores"] == os.cpu_count()
