"""Work ahead of its turn: in order, bounded, and nobody waits for what hangs."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from gateway.registry.ahead import ahead

HANGS = """
import threading
from gateway.registry.ahead import ahead

parts = ahead(lambda item: threading.Event().wait() if item else "first", range(3), 2)
print(next(parts))
"""


def test_in_order_and_never_more_than_allowed_at_once() -> None:
    lock, running, most = threading.Lock(), 0, 0
    begun: list[int] = []

    def work(item: int) -> int:
        nonlocal running, most
        with lock:
            begun.append(item)
            running += 1
            most = max(most, running)
        with lock:
            running -= 1
        return item * item

    results = ahead(work, range(50), 4)
    assert next(results) == 0
    assert max(begun) <= 4
    assert list(results) == [item * item for item in range(1, 50)]
    assert most <= 4


def test_a_failure_comes_at_its_turn() -> None:
    def work(item: int) -> int:
        return 1 // (item - 1)

    results = ahead(work, range(3), 3)
    assert next(results) == -1
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_what_hangs_does_not_keep_the_process_from_ending() -> None:
    ended = subprocess.run([sys.executable, "-c", HANGS], timeout=60, check=False, stdout=subprocess.PIPE)
    assert (ended.returncode, ended.stdout) == (0, b"first\n")
