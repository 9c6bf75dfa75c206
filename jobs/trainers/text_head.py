"""Trains a text classifier, a linear head on a frozen sentence encoder: a job's function (docs/jobs.md).

    function = "jobs.trainers.text_head:main"
    parameters = { embedding = "461" }
    inputs = [{ name = "texts", table = "reviews", schema = "jobs.trainers.texts_schema:TEXTS" },
              { name = "encoder", path = "model_repo/minilm/1/artifacts/onnx/model.onnx" },
              { name = "vocabulary", path = "model_repo/minilm/1/vocab.txt" }]

Texts pass through the encoder once; the head (multinomial logistic regression, AdamW) learns from the embeddings, with
DP-SGD where the job has a `privacy` table. Keeps the epoch that is best on the validation part, and with privacy the
last one, because choosing by private rows would cost privacy too. Writes `model/` (a folder to publish),
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
from jobs.trainers.text_encoder import Encoder
from jobs.trainers.text_head_export import ARTIFACT, export, run, write_folder, write_quantize_rows
from jobs.trainers.texts import LABEL, TEXT, Texts, parts_of

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
    write_folder(folder, job.file("vocabulary"), classes, held_out, logits, metrics, lineage)
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


class Training:
    """Owns head, optimizer and their place; `run` resumes from the newest checkpoint.

    `train` and `valid` are embeddings [rows, width] with labels [rows].
    """

    def __init__(
        self, job: JobContext, classes: int, train: tuple[Any, Any], valid: tuple[Any, Any], *, epochs: int, batch: int,
        lr: float, weight_decay: float, patience: int, clip: float,
    ) -> None:  # fmt: skip
        torch.manual_seed(job.seed)
        torch.use_deterministic_algorithms(True)
        self._job, self._epochs, self._batch, self._patience = job, epochs, batch, patience
        self._vectors, self._labels = torch.from_numpy(train[0]), torch.from_numpy(train[1])
        self._valid = valid
        self.head = torch.nn.Linear(train[0].shape[1], classes)
        self._optimizer = torch.optim.AdamW(self.head.parameters(), lr=lr, weight_decay=weight_decay)
        self._private: Any = None
        if job.epsilon > 0:
            from jobs.trainers.dp_sgd import DpSgd

            self._private = DpSgd(
                self.head, self._optimizer, rows=len(train[1]), batch=batch, epochs=epochs, epsilon=job.epsilon,
                delta=job.delta, clip=clip, seed=job.seed,
            )  # fmt: skip
        self._schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self._optimizer, epochs)
        self._generator = torch.Generator().manual_seed(job.seed)
        self._best: tuple[float, int, Any] = (0.0, 0, copy.deepcopy(self.head.state_dict()))

    def run(self) -> torch.nn.Linear:
        """Returns the head of the epoch that is kept."""
        job, epoch = self._job, self._restore()
        while epoch < self._epochs and epoch - self._best[1] < (self._patience if self._private is None else epoch + 1):
            loss = self._epoch()
            epoch += 1
            found = float((predict(self.head, self._valid[0]).argmax(1) == self._valid[1]).mean())
            if found > self._best[0] or self._private is not None:
                self._best = (found, epoch, copy.deepcopy(self.head.state_dict()))
            job.metrics.report(epoch, self._epochs, loss=loss, accuracy=found, **self.privacy())
            if job.checkpoint_due():
                job.checkpoints().save(epoch, self._state())
                job.saved()
            if job.notice:
                job.requeue()
        self.head.load_state_dict(self._best[2])
        print(f"epoch {self._best[1]} kept, validation accuracy {self._best[0]:.4f}", flush=True)
        return self.head.eval()

    def _epoch(self) -> float:
        """Trains one epoch and returns the last batch's loss."""
        loss = torch.tensor(0.0)
        network = self.head if self._private is None else self._private.network
        batches = (
            torch.randperm(len(self._labels), generator=self._generator).split(self._batch)
            if self._private is None
            else self._private.batches(self._generator)
        )
        for rows in batches:
            loss = functional.cross_entropy(network(self._vectors[rows]), self._labels[rows])
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
            "head": self.head.state_dict(), "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(), "best": self._best, "generator": self._generator.get_state(),
            "private": None if self._private is None else self._private.state(), "random": randomness.capture(),
        }  # fmt: skip

    def _restore(self) -> int:
        """Returns the epoch after which to go on."""
        found = self._job.checkpoints().load()
        if found is None:
            return 0
        self.head.load_state_dict(found["head"])
        self._optimizer.load_state_dict(found["optimizer"])
        self._schedule.load_state_dict(found["schedule"])
        self._best = found["best"]
        self._generator.set_state(found["generator"])
        if self._private is not None:
            self._private.restore(found["private"])
        randomness.restore(found["random"])
        return found.step


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
