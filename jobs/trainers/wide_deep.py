"""Trains Wide & Deep on the Adult table: a job's function (docs/jobs.md), from a Delta table, with or without DP-SGD.

    function = "jobs.trainers.wide_deep:main"
    inputs = [{ name = "adult", table = "adult", schema = "jobs.trainers.adult_schema:ADULT" }]

Decides the split (by the job's seed) and the network; which epoch is kept, `jobs.trainers.epochs` says. Writes `model/`
(a folder to publish), `calibration.npz` and `evaluation.npz` (for `sluice quantize`) and `metrics.json`.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from jobs.context import JobContext
from jobs.trainers import measures
from jobs.trainers.adult import CATEGORICAL, CONTINUOUS, LABEL, Part, parts_of
from jobs.trainers.epochs import EpochTraining, seed
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


class Training(EpochTraining[WideDeep]):
    """Wide & Deep on one split of the table."""

    score_name = "auc"

    def __init__(
        self, job: JobContext, vocabulary: dict[str, list[str]], train: Part, valid: Part, *, epochs: int, batch: int,
        lr: float, weight_decay: float, wide_weight_decay: float, dropout: float, patience: int, clip: float,
    ) -> None:  # fmt: skip
        seed(job)
        self._train, self._valid = train, valid
        self._sizes = [len(vocabulary[column]) for column in CATEGORICAL]
        mean, deviation = standardisation(train, public=job.epsilon > 0)
        network = WideDeep(self._sizes, mean, deviation, dropout)
        wide = [network.wide.weight]
        others = [p for name, p in network.named_parameters() if name != "wide.weight"]
        groups = [{"params": wide, "weight_decay": wide_weight_decay, "lr": lr / 2}, {"params": others}]
        optimizer = torch.optim.AdamW(groups, lr=lr, weight_decay=weight_decay)
        super().__init__(
            job, network, optimizer, rows=len(train), epochs=epochs, batch=batch, patience=patience, clip=clip
        )
        self._tensors = tuple(map(torch.from_numpy, (train.categorical, train.continuous, train.label)))

    def loss(self, network: Any, rows: Any) -> Any:
        categorical, continuous, label = self._tensors
        hidden = torch.rand(len(rows), len(self._sizes), generator=self.generator) < UNKNOWN_SHARE
        logits = network(categorical[rows].masked_fill(hidden, 0), continuous[rows])
        return functional.binary_cross_entropy_with_logits(logits, label[rows])

    def score(self) -> float:
        return measures.auc(predict(self.network, self._valid), self._valid.label)


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
