from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import resource
soft, hard = map(int, {limits!r})
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
from gateway.commands.open_files import raise_open_files
print(raise_open_files(), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(("soft", "hard"), [(64, 1500), (1500, 1500)])
def test_the_soft_limit_becomes_the_hard_one(soft: int, hard: int) -> None:
    script = SCRIPT.format(limits=(soft, hard))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1500", "1500", "1500"]
