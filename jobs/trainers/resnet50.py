"""Trains ResNet-50 on Fashion-MNIST at 224x224, and exports it as ONNX.

    python -m jobs.trainers.resnet50 --data FOLDER --minutes 12                      a CPU: a shortened training
    python -m jobs.trainers.resnet50 --data FOLDER --epochs 20 --device cuda \\
        --precision bf16 --stages 112:256:0.4,224:256:0.6 --rate 0.002               a GPU

Pictures grow while it trains (progressive resizing, Howard et al., fast.ai 2018): most steps see small ones, which cost
a fiftieth of the large ones; the last stage sees what is served. Decides by progress alone, which is the share of the
time (`--minutes`) or of the pictures (`--epochs`) that is used up: the stage, and the learning rate (linear warm-up,
then a half cosine). AdamW. At the end the statistics of the batch norms are taken anew at 224.

A job like any other (docs/jobs.md): checkpoints when they are due, resumes from the newest, gives notice its due.
Writes into the output folder: resnet50.pth (torchvision's names), resnet50.onnx, resnet50.json (what was reached).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jobs import randomness
from jobs.clock import now
from jobs.context import JobContext
from jobs.trainers import fashion_mnist
from jobs.trainers.resnet50_network import ResNet50

SIDE = 224
WARM_UP = 0.05
RECALIBRATE_ROWS = 256
OPSET = 17


@dataclass(frozen=True, slots=True)
class Stage:
    """`share` of the progress is spent on pictures of side by side, `batch` at a time."""

    side: int
    batch: int
    share: float


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 for bad arguments or data."""
    options = parser().parse_args(arguments)
    try:
        stages = parse_stages(options.stages)
        train = fashion_mnist.load(options.data, "train")
        test = fashion_mnist.load(options.data, "test")
    except (fashion_mnist.NotTheData, ValueError) as error:
        print(f"resnet50: {error}", file=sys.stderr)
        return 2
    if options.threads:
        torch.set_num_threads(options.threads)
    job = JobContext.current()
    training = Training(job, options, stages, train)
    training.run()
    print("batch norms at 224, then the test pictures", flush=True)
    training.recalibrate()
    rows = min(options.test_rows, len(test[1]))
    right = training.correct(test, rows)
    write(job.output_folder, training, right, rows, options)
    return 0


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="jobs.trainers.resnet50", description="ResNet-50 on Fashion-MNIST")
    found.add_argument("--data", type=Path, required=True, help="folder with the four IDX files")
    length = found.add_mutually_exclusive_group(required=True)
    length.add_argument("--minutes", type=float, help="stop training after this time")
    length.add_argument("--epochs", type=float, help="stop training after so many passes over the 60,000 pictures")
    found.add_argument("--stages", default="32:64:0.55,64:64:0.2,128:32:0.15,224:16:0.1", help="SIDE:BATCH:SHARE,…")
    found.add_argument("--rate", type=float, default=0.001, help="highest learning rate (AdamW)")
    found.add_argument("--decay", type=float, default=0.05, help="weight decay")
    found.add_argument("--device", default="cpu", help="cpu or cuda")
    found.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="bf16: autocast")
    found.add_argument("--threads", type=int, default=0, help="0: torch decides")
    found.add_argument("--test-rows", type=int, default=10_000, help="judge with the first so many test pictures")
    return found


def parse_stages(text: str) -> tuple[Stage, ...]:
    """Returns the stages, whose shares add up to 1. Raises ValueError."""
    try:
        parts = [part.split(":") for part in text.split(",")]
        found = tuple(Stage(int(side), int(batch), float(share)) for side, batch, share in parts)
    except ValueError:
        raise ValueError(f"--stages {text}: must be SIDE:BATCH:SHARE,…") from None
    if any(stage.side < 32 or stage.batch < 2 or not stage.share > 0 for stage in found):
        raise ValueError("--stages: sides from 32, batches from 2, shares above 0")
    if abs(sum(stage.share for stage in found) - 1) > 1e-6:
        raise ValueError("--stages: the shares must add up to 1")
    return found


def stage_at(stages: tuple[Stage, ...], progress: float) -> Stage:
    """Returns the stage at a progress from 0 to 1."""
    passed = 0.0
    for stage in stages:
        passed += stage.share
        if progress < passed:
            return stage
    return stages[-1]


def rate_at(progress: float, highest: float) -> float:
    """Returns the learning rate: up in a line, down in half a cosine to a hundredth."""
    if progress < WARM_UP:
        return highest * max(progress / WARM_UP, 0.01)
    done = (progress - WARM_UP) / (1 - WARM_UP)
    return highest * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))


class Training:
    """Owns network, optimizer and position; everything of it is in a checkpoint."""

    def __init__(self, job: JobContext, options: argparse.Namespace, stages: tuple[Stage, ...], data: Any) -> None:
        self._job, self._options, self._stages = job, options, stages
        torch.manual_seed(job.seed)
        self._rng = np.random.default_rng(job.seed)
        self._device = torch.device(options.device)
        # All 47 MB lie where they are scaled up: a GPU waits for nothing from here but the numbers of the rows.
        self._pictures = torch.from_numpy(data[0].copy()).to(self._device)
        self._labels = torch.from_numpy(data[1]).to(self._device)
        network = ResNet50(len(fashion_mnist.CLASSES)).to(self._device, memory_format=torch.channels_last)
        self.network = network
        decayed = [p for p in network.parameters() if p.ndim > 1]
        rest = [p for p in network.parameters() if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": options.decay}, {"params": rest, "weight_decay": 0.0}]
        self._optimizer = torch.optim.AdamW(groups, lr=options.rate)
        self.steps = self.seen = 0
        self.seconds: float = 0.0
        self._order = np.zeros(0, np.int64)
        self._began = now()
        self._resume()

    def run(self) -> None:
        """Trains until the progress is 1; ends the program on notice."""
        self.network.train()
        while (progress := self._progress()) < 1:
            stage = stage_at(self._stages, progress)
            loss, hits = self._step(stage, rate_at(progress, self._options.rate))
            self.steps += 1
            self.seen += stage.batch
            if self.steps % 10 == 0:
                share = int(1000 * progress)
                figures = {"loss": float(loss), "accuracy": float(hits), "side": stage.side, "pictures": self.seen}
                self._job.metrics.report(share, 1000, **figures)
            if self.steps % 50 == 0:
                print(f"{progress:6.1%}  {self._seconds():6.0f} s  side {stage.side:3}  {self.seen:7} pictures  "
                      f"loss {float(loss):.3f}  right {float(hits):.2f}", flush=True)  # fmt: skip
            if self._job.checkpoint_due():
                self._save()
            if self._job.notice:
                self._job.requeue()
        self.seconds = self._seconds()

    def recalibrate(self) -> None:
        """Takes the batch norms' statistics anew: those of a moving average are partly of smaller pictures."""
        norms = [m for m in self.network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain average
        self.network.train()
        with torch.no_grad():
            count = RECALIBRATE_ROWS if self._device.type == "cpu" else 16 * RECALIBRATE_ROWS
            for rows in np.split(self._rng.choice(len(self._labels), count, replace=False), 16):
                self.network(self._prepare(self._pictures[rows], SIDE))
        for norm in norms:
            norm.momentum = 0.1
        self.network.eval()

    def correct(self, data: Any, rows: int) -> int:
        """Returns how many of the first rows of `data` are classified rightly at 224."""
        right = 0
        with torch.inference_mode():
            for start in range(0, rows, 50):
                answers = self.network(self._prepare(torch.from_numpy(data[0][start : start + 50].copy()), SIDE))
                right += int((answers.argmax(1).cpu().numpy() == data[1][start : start + 50]).sum())
        return right

    def _step(self, stage: Stage, rate: float) -> tuple[Any, Any]:
        """Returns the loss and the share of right answers, on the device: reading them waits for it."""
        rows = self._next_rows(stage.batch)
        pictures = self._prepare(self._pictures[rows], stage.side)
        if self._rng.random() < 0.5:
            pictures = pictures.flip(3)
        labels = self._labels[rows]
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._options.precision == "bf16"):
            logits = self.network(pictures)
            loss = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.05)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()
        return loss.detach(), (logits.detach().argmax(1) == labels).float().mean()

    def _prepare(self, pictures: Any, side: int) -> Any:
        return fashion_mnist.prepared(torch, pictures.to(self._device), side)

    def _next_rows(self, count: int) -> Any:
        """Returns the next rows of a shuffled pass; a new pass begins where the old one has too few left."""
        if len(self._order) < count:
            self._order = self._rng.permutation(len(self._labels))
        rows, self._order = self._order[:count], self._order[count:]
        return torch.from_numpy(rows)

    def _progress(self) -> float:
        if self._options.minutes is not None:
            return self._seconds() / (60 * float(self._options.minutes))
        return self.seen / (float(self._options.epochs) * len(self._labels))

    def _seconds(self) -> float:
        return self.seconds + float(now() - self._began)

    def _save(self) -> None:
        state = {"network": self.network.state_dict(), "optimizer": self._optimizer.state_dict(), "order": self._order,
                 "random": randomness.capture({"rows": self._rng}),
                 "position": {"steps": self.steps, "seen": self.seen, "seconds": self._seconds()}}  # fmt: skip
        self._job.checkpoints().save(self.steps, state)
        self._job.saved()

    def _resume(self) -> None:
        found = self._job.checkpoints().load()
        if found is None:
            return
        self.network.load_state_dict(found["network"])
        self._optimizer.load_state_dict(found["optimizer"])
        self._order = found["order"]
        randomness.restore(found["random"], {"rows": self._rng})
        position = found["position"]
        self.steps, self.seen, self.seconds = position["steps"], position["seen"], float(position["seconds"])
        print(f"resumed after {self.steps} steps, {self.seconds:.0f} s", flush=True)


def interval(right: int, rows: int) -> tuple[float, float]:
    """Returns the 95 % interval of a share (Wilson, 1927)."""
    z, share = 1.96, right / rows
    middle, width = share + z * z / (2 * rows), z * math.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows))
    return (middle - width) / (1 + z * z / rows), (middle + width) / (1 + z * z / rows)


def write(folder: Path, training: Training, right: int, rows: int, options: argparse.Namespace) -> None:
    """Writes weights, graph and figures; each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    network = training.network.cpu().eval()
    low, high = interval(right, rows)
    figures = {
        "accuracy": right / rows, "interval95": [round(low, 4), round(high, 4)], "test_rows": rows,
        "train_pictures_seen": training.seen, "steps": training.steps, "train_seconds": round(training.seconds, 1),
        "device": options.device, "precision": options.precision, "threads": torch.get_num_threads(),
        "stages": options.stages, "rate": options.rate, "torch": str(torch.__version__),
    }  # fmt: skip
    _put(folder / "resnet50.pth", lambda path: torch.save(network.state_dict(), path))
    _put(folder / "resnet50.onnx", lambda path: _export(network, path))
    _put(folder / "resnet50.json", lambda path: path.write_text(json.dumps(figures, indent=2) + "\n"))
    print(json.dumps(figures), flush=True)


def _export(network: Any, path: Path) -> None:
    names: dict[str, Any] = {"input_names": ["image"], "output_names": ["logits"]}
    axes = {"image": {0: "rows"}, "logits": {0: "rows"}}
    with warnings.catch_warnings():
        # The new exporter needs onnxscript and writes another graph every other release.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            network, (torch.zeros(2, 3, SIDE, SIDE),), str(path), opset_version=OPSET, dynamic_axes=axes, dynamo=False,
            **names,
        )  # fmt: skip


def _put(path: Path, make: Any) -> None:
    part = path.with_name(f".{path.name}.part")
    make(part)
    os.replace(part, path)


if __name__ == "__main__":
    sys.exit(main())
