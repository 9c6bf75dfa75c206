"""Trains a text classifier, a linear head on a frozen sentence encoder: a job's function (docs/jobs.md).

    function = "jobs.trainers.text_head:main"
    parameters = { embedding = "461" }
    inputs = [{ name = "texts", table = "reviews", schema = "jobs.trainers.texts_schema:TEXTS" },
              { name = "encoder", path = "model_repo/minilm/1/artifacts/onnx/model.onnx" },
              { name = "vocabulary", path = "model_repo/minilm/1/vocab.txt" }]

Texts pass through the encoder once; the head (multinomial logistic regression, AdamW) learns from the embeddings, with
DP-SGD where the job has a `privacy` table; which epoch is kept, `jobs.trainers.epochs` says. Writes `model/`
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
from jobs.trainers.epochs import EpochTraining, seed
from jobs.trainers.text_encoder import Encoder
from jobs.trainers.text_head_export import ARTIFACT, GOLDEN_ROWS, export, run, write_folder, write_quantize_rows
from jobs.trainers.texts import LABEL, TEXT, Texts, made_up, parts_of

_SAME = 1e-3


def main(
    embedding: str = "", tokens: int = 64, most: int = 6_000, epochs: int = 60, batch: int = 64, lr: float = 1e-2,
    weight_decay: float = 1e-2, patience: int = 10, clip: float = 1.0,
) -> None:  # fmt: skip
    """Trains, exports and judges. `tokens` a text at most, `most` texts; `embedding` names the encoder's output."""
    job = JobContext.current()
    columns = job.table("texts").select([TEXT, LABEL])
    classes, *parts = parts_of(
        columns[TEXT].to_pylist(), columns[LABEL].to_pylist(), job.file("vocabulary"), tokens=tokens, most=most,
        seed=job.seed,
    )  # fmt: skip
    train, valid, held_out = parts
    encoder = Encoder(job.file("encoder"), embedding)
    vectors = [embedded(job, encoder, part, name) for part, name in zip(parts, ("train", "valid", "test"), strict=True)]
    training = Training(job, len(classes), (vectors[0], train.label), (vectors[1], valid.label), epochs=epochs,
                        batch=batch, lr=lr, weight_decay=weight_decay, patience=patience, clip=clip)  # fmt: skip
    head = training.run()
    folder = job.output_folder / "model"
    export(job.file("encoder"), encoder.output, head, folder / ARTIFACT)
    logits = run(folder / ARTIFACT, held_out)
    difference = float(np.abs(logits - predict(head, vectors[2])).max())
    if difference > _SAME * max(1.0, float(np.abs(logits).max())):
        raise SystemExit(f"the graph does not compute what PyTorch does: {difference:.1e}")
    metrics = judged(logits, held_out, len(classes)) | {
        "classes": len(classes), "train_rows": len(train), "valid_rows": len(valid), **training.privacy(),
    }  # fmt: skip
    job.metrics.report(accuracy=metrics["held_out_accuracy"], log_loss=metrics["held_out_log_loss"])
    write_quantize_rows(job.output_folder, train, held_out)
    lineage = {"job": job.lineage(), "created_by": "jobs.trainers.text_head", "seed": job.seed,
               "privacy": training.privacy(), "preprocessing": "BERT uncased WordPiece (vocab.txt) with [CLS] and "
               f"[SEP], at most {tokens} tokens, padded with 0"}  # fmt: skip
    shown = held_out
    if training.privacy():  # what is published is not of the private texts
        shown = made_up(job.file("vocabulary"), tokens=tokens, seed=job.seed, rows=GOLDEN_ROWS)
        logits = run(folder / ARTIFACT, shown)
    write_folder(folder, job.file("vocabulary"), classes, shown, logits, metrics, lineage)
    (job.output_folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(metrics), flush=True)


def embedded(job: JobContext, encoder: Encoder, part: Texts, name: str) -> NDArray[np.float32]:
    """Returns the embeddings of a part; a notice ends the job, which begins the embedding anew when it comes back."""

    def each(done: int) -> None:
        if job.notice:
            job.requeue()
        if done % 960 == 0 or done == len(part):
            print(f"{name}: {done} of {len(part)} texts encoded", flush=True)

    return encoder.embed(part, each)


class Training(EpochTraining[torch.nn.Linear]):
    """The head. `train` and `valid` are embeddings [rows, width] with labels [rows]."""

    score_name = "accuracy"

    def __init__(
        self, job: JobContext, classes: int, train: tuple[Any, Any], valid: tuple[Any, Any], *, epochs: int, batch: int,
        lr: float, weight_decay: float, patience: int, clip: float,
    ) -> None:  # fmt: skip
        seed(job)
        self._vectors, self._labels = torch.from_numpy(train[0]), torch.from_numpy(train[1])
        self._valid = valid
        head = torch.nn.Linear(train[0].shape[1], classes)
        optimizer = torch.optim.AdamW(head.parameters(), lr=lr, weight_decay=weight_decay)
        rows = len(train[1])
        super().__init__(job, head, optimizer, rows=rows, epochs=epochs, batch=batch, patience=patience, clip=clip)

    def loss(self, network: Any, rows: Any) -> Any:
        return functional.cross_entropy(network(self._vectors[rows]), self._labels[rows])

    def score(self) -> float:
        return float((predict(self.network, self._valid[0]).argmax(1) == self._valid[1]).mean())


def predict(head: torch.nn.Linear, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns the logits of every row."""
    with torch.no_grad():
        found: NDArray[np.float32] = head(torch.from_numpy(vectors)).numpy()
    return found


def judged(logits: NDArray[np.float32], held_out: Texts, classes: int) -> dict[str, Any]:
    """Returns accuracy with its standard error, the majority's share, and the logarithmic loss on the held-out part."""
    label, rows = held_out.label, len(held_out)
    accuracy = float((logits.argmax(1) == label).mean())
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    loss = np.log(np.exp(shifted).sum(1)) - shifted[np.arange(rows), label]
    return {
        "held_out_rows": rows,
        "held_out_accuracy": round(accuracy, 4),
        "held_out_accuracy_standard_error": round(float(np.sqrt(accuracy * (1 - accuracy) / rows)), 4),
        "majority_baseline_accuracy": round(float(np.bincount(label, minlength=classes).max() / rows), 4),
        "held_out_log_loss": round(float(loss.mean()), 4),
    }
