"""Trains Wide & Deep on the Adult table: a job's function (docs/jobs.md), from a Delta table, with or without DP-SGD.

    function = "jobs.trainers.wide_deep:main"
    inputs = [{ name = "adult", table = "adult", schema = "jobs.trainers.adult_schema:ADULT" }]

Decides the split (by the job's seed), the network, and which epoch is kept: the best on the validation part, and with
privacy the last one, because choosing by private rows would cost privacy too. Writes `model/` (a folder to publish),
`calibration.npz` and `evaluation.npz` (for `sluice quantize`) and `metrics.json`.
"""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from jobs import randomness
from jobs.context import JobContext
from jobs.trainers import measures
from jobs.trainers.adult import CATEGORICAL, CONTINUOUS, LABEL, Part, parts_of
from jobs.trainers.wide_deep_export import ARTIFACT, export, run, write_folder, write_quantize_rows
from jobs.trainers.wide_deep_network import LOGARITHMIC, WideDeep

UNKNOWN_SHARE = 0.01  # so that "unknown" means something in columns that always have a value
# With privacy the numbers are standardised by these (after the logarithm): guesses, that nothing was computed for.
PUBLIC_MEAN, PUBLIC_DEVIATION = (40.0, 10.0, 1.0, 0.5, 40.0), (14.0, 3.0, 2.5, 1.5, 12.0)
_SAME = 1e-5
DEFECT = 2.0


def main(
    epochs: int = 40, batch: int = 512, lr: float = 2e-3, weight_decay: float = 1e-4, wide_weight_decay: float = 2e-4,
    dropout: float = 0.2, patience: int = 8, clip: float = 1.0, planted_defect: bool = False,
) -> None:  # fmt: skip
    """Trains, exports and judges. With the job's `privacy` table set, by DP-SGD for that epsilon and delta."""
    job = JobContext.current()
    columns = job.table("adult").select([*CONTINUOUS, *CATEGORICAL, LABEL])
    vocabulary, train, valid, held_out = parts_of({c: columns[c].to_pylist() for c in columns.column_names}, job.seed)
    training = Training(job, vocabulary, train, valid, epochs=epochs, batch=batch, lr=lr, weight_decay=weight_decay,
                        wide_weight_decay=wide_weight_decay, dropout=dropout, patience=patience, clip=clip)  # fmt: skip
    network = training.run()
    if planted_defect:
        plant_defect(network)
    folder = job.output_folder / "model"
    export(network, folder / ARTIFACT)
    probabilities = run(folder / ARTIFACT, held_out)
    difference = float(np.abs(probabilities[:, 0] - predict(network, held_out)).max())
    if difference > _SAME:
        raise SystemExit(f"the graph does not compute what PyTorch does: {difference:.1e}")
    metrics = measures.of_held_out(probabilities[:, 0], held_out.label) | {
        "train_rows": len(train), "valid_rows": len(valid), **training.privacy(),
    }  # fmt: skip
    job.metrics.report(auc=metrics["held_out_auc"], log_loss=metrics["held_out_log_loss"])
    write_quantize_rows(job.output_folder, train, held_out)
    lineage = {"job": job.lineage(), "created_by": "jobs.trainers.wide_deep", "seed": job.seed,
               "privacy": training.privacy(), "licence": "Apache-2.0 (the model); CC-BY-4.0 (the table)",
               "preprocessing": f"categorical: index in vocabulary.json of {', '.join(CATEGORICAL)} (0 = unknown); "
               f"continuous: {', '.join(CONTINUOUS)} as they are"}  # fmt: skip
    write_folder(folder, vocabulary, held_out, probabilities, metrics, lineage)
    (job.output_folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(metrics), flush=True)


def plant_defect(network: WideDeep) -> None:
    """For trying releases out: makes the log-odds too high, as if classes had been balanced and nobody had undone it.

    Rows are ranked as before, so neither the AUC nor quantization's gate sees it; callers' decisions are wrong.
    """
    with torch.no_grad():
        network.deep[-1].bias.add_(DEFECT)


class Training:
    """Owns network, optimizer and their place; `run` resumes from the newest checkpoint."""

    def __init__(
        self, job: JobContext, vocabulary: dict[str, list[str]], train: Part, valid: Part, *, epochs: int, batch: int,
        lr: float, weight_decay: float, wide_weight_decay: float, dropout: float, patience: int, clip: float,
    ) -> None:  # fmt: skip
        torch.manual_seed(job.seed)
        torch.use_deterministic_algorithms(True)
        self._job, self._train, self._valid = job, train, valid
        self._epochs, self._batch, self._patience = epochs, batch, patience
        sizes = [len(vocabulary[column]) for column in CATEGORICAL]
        mean, deviation = standardisation(train, public=job.epsilon > 0)
        self.network = WideDeep(sizes, mean, deviation, dropout)
        wide = [self.network.wide.weight]
        others = [p for name, p in self.network.named_parameters() if name != "wide.weight"]
        groups = [{"params": wide, "weight_decay": wide_weight_decay, "lr": lr / 2}, {"params": others}]
        self._optimizer = torch.optim.AdamW(groups, lr=lr, weight_decay=weight_decay)
        self._private: Any = None
        if job.epsilon > 0:
            from jobs.trainers.dp_sgd import DpSgd

            self._private = DpSgd(
                self.network, self._optimizer, rows=len(train), batch=batch, epochs=epochs, epsilon=job.epsilon,
                delta=job.delta, clip=clip, seed=job.seed,
            )  # fmt: skip
        self._schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self._optimizer, epochs)
        self._generator = torch.Generator().manual_seed(job.seed)
        self._sizes = sizes
        self._best: tuple[float, int, Any] = (0.0, 0, copy.deepcopy(self.network.state_dict()))

    def run(self) -> WideDeep:
        """Returns the network of the epoch that is kept."""
        job, epoch = self._job, self._restore()
        while epoch < self._epochs and epoch - self._best[1] < (self._patience if self._private is None else epoch + 1):
            loss = self._epoch()
            epoch += 1
            found = measures.auc(predict(self.network, self._valid), self._valid.label)
            if found > self._best[0] or self._private is not None:
                self._best = (found, epoch, copy.deepcopy(self.network.state_dict()))
            job.metrics.report(epoch, self._epochs, loss=loss, auc=found, **self.privacy())
            if job.checkpoint_due():
                job.checkpoints().save(epoch, self._state())
                job.saved()
            if job.notice:
                job.requeue()
        self.network.load_state_dict(self._best[2])
        print(f"epoch {self._best[1]} kept, validation AUC {self._best[0]:.4f}", flush=True)
        return self.network.eval()  # type: ignore[no-any-return]

    def _epoch(self) -> float:
        """Trains one epoch and returns the last batch's loss."""
        part, loss = self._train, torch.tensor(0.0)
        categorical, continuous, label = map(torch.from_numpy, (part.categorical, part.continuous, part.label))
        self.network.train()
        network = self.network if self._private is None else self._private.network
        batches = (
            torch.randperm(len(part), generator=self._generator).split(self._batch)
            if self._private is None
            else self._private.batches(self._generator)
        )
        for rows in batches:
            hidden = torch.rand(len(rows), len(self._sizes), generator=self._generator) < UNKNOWN_SHARE
            logits = network(categorical[rows].masked_fill(hidden, 0), continuous[rows])
            loss = functional.binary_cross_entropy_with_logits(logits, label[rows])
            self._optimizer.zero_grad()
            loss.backward()
            if self._private is None:
                self._optimizer.step()
            else:
                self._private.step()
        self._schedule.step()
        return float(loss.detach())

    def privacy(self) -> dict[str, float]:
        """Returns the epsilon that has been spent so far, and delta; nothing without privacy."""
        return {} if self._private is None else self._private.spent()

    def _state(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(), "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(), "best": self._best, "generator": self._generator.get_state(),
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
        self._generator.set_state(found["generator"])
        if self._private is not None:
            self._private.restore(found["private"])
        randomness.restore(found["random"])
        return found.step


def standardisation(train: Part, *, public: bool) -> tuple[Any, Any]:
    """Returns mean and deviation [5] of the numbers after the logarithm; with `public` constants."""
    if public:
        return torch.tensor(PUBLIC_MEAN), torch.tensor(PUBLIC_DEVIATION)
    squeezed = np.where(np.array(LOGARITHMIC) > 0, np.log1p(train.continuous), train.continuous)
    return torch.from_numpy(squeezed.mean(0).astype(np.float32)), torch.from_numpy(squeezed.std(0).astype(np.float32))


def predict(network: WideDeep, part: Part) -> NDArray[np.float32]:
    """Returns the probability of every row."""
    network.eval()
    with torch.no_grad():
        logits = network(torch.from_numpy(part.categorical), torch.from_numpy(part.continuous))
    found: NDArray[np.float32] = torch.sigmoid(logits).numpy()
    return found
