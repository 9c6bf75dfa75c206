"""Short time slices: what the kernel says afterwards, in a process of its own, so that this one stays as it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from gateway.commands import time_slices

_CODE = """
import ctypes, json, os
from gateway.commands.time_slices import _ATTRIBUTES, _SET, take_short_slices
import platform
def read():
    found = ctypes.create_string_buffer(_ATTRIBUTES.size)
    ctypes.CDLL(None).syscall(_SET[platform.machine()] + 1, 0, found, _ATTRIBUTES.size, 0)
    return _ATTRIBUTES.unpack(found.raw)
os.nice(3)
before = read()
taken = take_short_slices(200_000)
mine = read()
child = os.fork()
if not child:
    os._exit(0 if read() == mine else 1)
_, status = os.waitpid(child, 0)
print(json.dumps([before, taken, mine, status]))
"""


def test_the_slice_alone_changes_and_children_have_it_too() -> None:
    ran = subprocess.run([sys.executable, "-c", _CODE], capture_output=True, check=True, text=True)
    before, taken, after, status = json.loads(ran.stdout)
    assert status == 0
    assert before[3] == after[3] == os.nice(0) + 3, "the priority stays"
    assert [*before[:5], *before[6:]] == [*after[:5], *after[6:]]
    # A kernel before 6.12 takes no notice, a sandbox may refuse.
    assert after[5] in ((200_000, before[5]) if taken else (before[5],))


def test_a_machine_of_another_kind_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_slices.platform, "machine", lambda: "riscv64")
    assert not time_slices.take_short_slices()
