"""A small seeded training that keeps the preemption contract: logistic regression with momentum, noise and a ledger."""

from __future__ import annotations

import numpy as np

from jobs import randomness
from jobs.context import JobContext
from jobs.sampler import Sampler

ROWS, FEATURES, BATCH = 2560, 256, 256


def main(steps: int, every: int) -> None:
    job = JobContext.current()
    checkpoints, noise = job.checkpoints(), np.random.Generator(np.random.PCG64(job.seed))
    data = np.random.Generator(np.random.PCG64(99))
    x = data.standard_normal((ROWS, FEATURES))
    y = (x @ data.standard_normal(FEATURES) > 0).astype(np.float64)
    sampler = Sampler(ROWS, BATCH, job.seed)
    w, momentum, ledger, done = np.zeros(FEATURES), np.zeros(FEATURES), np.zeros(0, np.int64), 0
    if (found := checkpoints.load()) is not None:
        done, w, momentum, ledger = found.step, found["model"]["w"], found["optimizer"]["momentum"], found["ledger"]
        sampler.restore(found["sampler"])
        randomness.restore(found["random"], {"noise": noise})
    while done < steps:
        rows = sampler.next()
        batch = x[rows] + 0.01 * noise.standard_normal((len(rows), FEATURES))
        gradient = batch.T @ (1 / (1 + np.exp(-batch @ w)) - y[rows]) / len(rows)
        momentum = 0.9 * momentum + gradient
        w = w - 0.1 * momentum
        ledger = np.append(ledger, rows)
        done += 1
        job.metrics.report(done, steps, norm=float(np.linalg.norm(w)))
        if done % every == 0 or job.checkpoint_due():
            state = {"model": {"w": w}, "optimizer": {"momentum": momentum}, "ledger": ledger}
            state |= {"sampler": sampler.state(), "random": randomness.capture({"noise": noise})}
            checkpoints.save(done, state)
            job.saved()
        if job.notice:
            job.requeue()
    np.savez(job.output_folder / "model.npz", w=w, momentum=momentum, ledger=ledger)
