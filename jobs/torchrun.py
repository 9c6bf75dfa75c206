"""Starts the ranks of a data-parallel job with torchrun: `python torchrun.py RANKS PROGRAM ARGUMENTS…`.

Decides how the end of the ranks becomes the end of the attempt; the runner's rules do the rest, so a lost rank is
counted and recorded like any other interruption, and the job goes on from its checkpoint:

* all ranks end with 0: success;
* one asks to be queued again (75): 75;
* one was killed by SIGKILL: this process ends the same way, which the runner calls `lost`;
* otherwise: the exit code of the first that failed (128 + number for another signal).

torchrun's own restarts are off: two places that start again would count, and wait, past each other. SIGTERM is handed
on to every rank; how they stop at the same step is `jobs.ranks`' business. A rank ends with this process, however that
ends: each is started through `python torchrun.py --rank PARENT PROGRAM ARGUMENTS…`, which asks the kernel for that.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

_SHUTDOWN_S = 5
_RANK = "--rank"


def main(ranks: int, command: list[str]) -> int:
    """Runs the ranks and returns the exit code."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=ranks, max_restarts=0, run_id=f"sluice-{os.getpid()}",
        rdzv_backend="c10d", rdzv_endpoint="127.0.0.1:0", local_addr="127.0.0.1", signals_to_handle="SIGQUIT",
        shutdown_timeout=_SHUTDOWN_S,
    )  # fmt: skip
    signal.signal(signal.SIGTERM, _hand_on)
    try:
        elastic_launch(config, sys.executable)("-I", "-S", __file__, _RANK, str(os.getpid()), *command)
    except ChildFailedError as error:
        codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
        print(
            f"sluice: ranks ended: {', '.join(f'{rank}: {code}' for rank, code in sorted(codes.items()))}", flush=True
        )
        return exit_code(codes, error.get_first_failure()[0])
    return 0


def become_rank(parent: int, command: list[str]) -> None:
    """Turns this process into a rank's program that the kernel kills when `parent` ends. Does not return."""
    from jobs import processes

    processes.die_with_parent()
    if os.getppid() != parent:  # it ended before the kernel was asked
        os._exit(1)
    os.execvp(command[0], command)


def exit_code(codes: dict[int, int], first: int) -> int:
    """Returns the exit code for ranks that ended so (negative: by a signal); -9 means: end by SIGKILL."""
    from jobs import contract

    if -signal.SIGKILL in codes.values():
        return -signal.SIGKILL
    if contract.EXIT_REQUEUE in codes.values():
        return contract.EXIT_REQUEUE
    code = codes[first]
    return code if code >= 0 else 128 - code


def _hand_on(number: int, _: object) -> None:
    from jobs import processes

    processes.send(processes.living(processes.children_of(os.getpid())), signal.Signals(number))


if __name__ == "__main__":
    # This file's own folder is first on the path of a script; it must not shadow anything.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    if sys.argv[1] == _RANK:
        become_rank(int(sys.argv[2]), sys.argv[3:])
    code = main(int(sys.argv[1]), sys.argv[2:])
    sys.stdout.flush()
    if code < 0:
        os.kill(os.getpid(), -code)
    sys.exit(code)
