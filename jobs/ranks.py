"""What a data-parallel job's program needs so that its ranks act as one: join, share batches, stop at the same step.

    with Ranks() as ranks:                          # gloo; also without torchrun, as one rank alone
        network = ranks.parallel(network)
        rows = ranks.part(sampler.next())           # every rank draws the same batch and takes its part
        …
        due, told = ranks.agree(job.checkpoint_due(), job.notice)
        if due:
            if ranks.first: checkpoints.save(step, {…})
            ranks.wait(); job.saved()
        if told: job.requeue()

Decides nothing alone: whether to save or to stop is the same on all ranks, because a rank that stopped a step earlier
would leave the others waiting in a collective. Invariants: the parts of a batch are disjoint and together the batch;
rank 0 saves and reports; a rank that is lost fails the collective of the others within `timeout_s`: none waits for
ever.
"""

from __future__ import annotations

import ctypes
import os
from datetime import timedelta
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import distributed


class Ranks:
    """This process's place among the ranks of its job, and the group they make while the context is open."""

    def __init__(self, timeout_s: float = 60.0) -> None:
        self.rank = int(os.environ.get("RANK", "0"))
        self.count = int(os.environ.get("WORLD_SIZE", "1"))
        self._timeout = timedelta(seconds=timeout_s)

    @property
    def first(self) -> bool:
        return self.rank == 0

    def __enter__(self) -> Ranks:
        if self.count > 1:
            distributed.init_process_group("gloo", timeout=self._timeout)
            _never_destroy(distributed.group.WORLD)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # After a failure the others may be gone: taking the group apart in good order would wait for them.
        if self.count > 1 and (kind is None or kind is SystemExit):
            distributed.destroy_process_group()

    def parallel(self, network: Any) -> Any:
        """Returns the network with its gradients averaged over the ranks."""
        if self.count == 1:
            return network
        parallel = torch.nn.parallel.DistributedDataParallel(network)
        _never_destroy(parallel.reducer)
        return parallel

    def part(self, batch: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Returns this rank's share of a batch's row numbers. Equal shares keep the averaged gradient the batch's."""
        return batch[self.rank :: self.count]

    def agree(self, *flags: bool) -> tuple[bool, ...]:
        """Returns for each flag whether it is set on any rank. Every rank has to ask at the same step."""
        if self.count == 1:
            return flags
        shared = torch.tensor(flags, dtype=torch.uint8)
        distributed.all_reduce(shared, op=distributed.ReduceOp.MAX)
        return tuple(bool(flag) for flag in shared)

    def wait(self) -> None:
        """Returns when every rank is here."""
        if self.count > 1:
            distributed.barrier()


def _never_destroy(thing: Any) -> None:
    """Keeps one reference for good.

    torch 2.13 joins gloo's thread in the destructor of the group (and of the reducer, which holds it) without giving up
    the GIL, and that thread may be waiting for the GIL: some runs in ten hung at their end.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))
