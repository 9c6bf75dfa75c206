"""Training a network epoch by epoch: checkpoints when they are due, resumes from the newest, gives notice its due.

Decides which epoch is kept: the best on the validation part, and with privacy the last one, because choosing by private
rows would cost privacy too. Interrupted and resumed it ends bit for bit as if nothing had happened.
"""

from __future__ import annotations

import abc
import copy
from typing import Any, Generic, TypeVar

import torch

from jobs import randomness
from jobs.context import JobContext

N = TypeVar("N", bound=torch.nn.Module)


class EpochTraining(abc.ABC, Generic[N]):
    """Owns network, optimizer and their place. `score_name` is what `score` is called in metrics."""

    score_name = "score"

    def __init__(
        self, job: JobContext, network: N, optimizer: Any, *, rows: int, epochs: int, batch: int, patience: int,
        clip: float,
    ) -> None:  # fmt: skip
        """`clip` is DP-SGD's, with the job's `privacy` table. The network was made after `seed(job)`."""
        self.network = network
        self.generator = torch.Generator()
        self._job, self._optimizer = job, optimizer
        self._rows, self._epochs, self._batch, self._patience = rows, epochs, batch, patience
        self._private: Any = None
        if job.epsilon > 0:
            from jobs.trainers.dp_sgd import DpSgd

            self._private = DpSgd(
                network, optimizer, rows=rows, batch=batch, epochs=epochs, epsilon=job.epsilon, delta=job.delta,
                clip=clip, seed=job.seed,
            )  # fmt: skip
        self._schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
        self.generator.manual_seed(job.seed)
        self._best: tuple[float, int, Any] = (0.0, 0, copy.deepcopy(network.state_dict()))

    @abc.abstractmethod
    def loss(self, network: Any, rows: Any) -> Any:
        """Returns the loss of `network` (with privacy the one that keeps per-row gradients) on these rows."""

    @abc.abstractmethod
    def score(self) -> float:
        """Returns how good the network is on the validation part; more is better."""

    def run(self) -> N:
        """Returns the network of the epoch that is kept."""
        job, epoch = self._job, self._restore()
        while epoch < self._epochs and epoch - self._best[1] < (self._patience if self._private is None else epoch + 1):
            loss = self._epoch()
            epoch += 1
            found = self.score()
            if found > self._best[0] or self._private is not None:
                self._best = (found, epoch, copy.deepcopy(self.network.state_dict()))
            job.metrics.report(epoch, self._epochs, loss=loss, **{self.score_name: found}, **self.privacy())
            if job.checkpoint_due():
                job.checkpoints().save(epoch, self._state())
                job.saved()
            if job.notice:
                job.requeue()
        self.network.load_state_dict(self._best[2])
        print(f"epoch {self._best[1]} kept, validation {self.score_name} {self._best[0]:.4f}", flush=True)
        self.network.eval()
        return self.network

    def privacy(self) -> dict[str, float]:
        """Returns the epsilon that has been spent so far, and delta; nothing without privacy."""
        return {} if self._private is None else self._private.spent()

    def _epoch(self) -> float:
        """Trains one epoch and returns the last batch's loss."""
        loss = torch.tensor(0.0)
        self.network.train()
        network = self.network if self._private is None else self._private.network
        batches = (
            torch.randperm(self._rows, generator=self.generator).split(self._batch)
            if self._private is None
            else self._private.batches(self.generator)
        )
        for rows in batches:
            loss = self.loss(network, rows)
            self._optimizer.zero_grad()
            loss.backward()
            if self._private is None:
                self._optimizer.step()
            else:
                self._private.step()
        self._schedule.step()
        return float(loss.detach())

    def _state(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(), "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(), "best": self._best, "generator": self.generator.get_state(),
            "private": None if self._private is None else self._private.state(), "random": randomness.capture(),
        }  # fmt: skip

    def _restore(self) -> int:
        """Returns the epoch after which to go on."""
        found = self._job.checkpoints().load()
        if found is None:
            return 0
        self.network.load_state_dict(found["network"])
        self._optimizer.load_state_dict(found["optimizer"])
        self._schedule.load_state_dict(found["schedule"])
        self._best = found["best"]
        self.generator.set_state(found["generator"])
        if self._private is not None:
            self._private.restore(found["private"])
        randomness.restore(found["random"])
        return found.step


def seed(job: JobContext) -> None:
    """Makes what follows depend on the job's seed alone."""
    torch.manual_seed(job.seed)
    torch.use_deterministic_algorithms(True)
