"""How a job's function ends: its code, what it left to be done at exit, and nothing after that."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from jobs import call

PROGRAM = """
import atexit, sys, threading, time

def late(file):
    with open(file, "a") as out:
        out.write("thread ")

def at_exit(file):
    with open(file, "a") as out:
        out.write("exit")

class Bomb:
    def __del__(self):
        sys.stderr.write("taken apart")

BOMB = Bomb()

def run(file, how):
    atexit.register(at_exit, file)
    threading.Timer(0.05, late, [file]).start()
    print("said")
    if how == "text":
        sys.exit("why not")
    if how == "raise":
        raise ValueError("no good")
    if how == "exit":
        sys.exit(7)
    return int(how)
"""


@pytest.mark.parametrize(
    ("how", "code", "said"),
    [("0", 0, ""), ("3", 3, ""), ("exit", 7, ""), ("text", 1, "why not"), ("raise", 1, "no good")],
)
def test_ends_as_it_should_and_is_not_taken_apart(tmp_path: Path, how: str, code: int, said: str) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, call.__file__, "program:run", f'{{"file": "{tmp_path}/left", "how": "{how}"}}'],
        cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (code, "said\n")
    assert said in done.stderr
    assert "taken apart" not in done.stderr
    assert (tmp_path / "left").read_text() == "thread exit"
