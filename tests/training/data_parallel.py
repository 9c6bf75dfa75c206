"""A seeded data-parallel training that keeps the preemption contract, with a ledger of every row it used."""

from __future__ import annotations

import numpy as np
import torch

from jobs import randomness
from jobs.context import JobContext
from jobs.ranks import Ranks
from jobs.sampler import Sampler

ROWS, FEATURES, BATCH = 2048, 64, 64


def main(steps: int, every: int) -> None:
    job = JobContext.current()
    checkpoints = job.checkpoints()
    torch.set_num_threads(1)
    torch.manual_seed(job.seed)
    data = np.random.Generator(np.random.PCG64(99))
    x = torch.from_numpy(data.standard_normal((ROWS, FEATURES)).astype(np.float32))
    y = (x @ torch.from_numpy(data.standard_normal(FEATURES).astype(np.float32)) > 0).float()
    network = torch.nn.Sequential(torch.nn.Linear(FEATURES, 32), torch.nn.ReLU(), torch.nn.Linear(32, 1))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    sampler, ledger, done = Sampler(ROWS, BATCH, job.seed), np.zeros(0, np.int64), 0
    if (found := checkpoints.load()) is not None:
        done, ledger = found.step, found["ledger"]
        network.load_state_dict(found["model"])
        optimizer.load_state_dict(found["optimizer"])
        sampler.restore(found["sampler"])
        randomness.restore(found["random"])
    with Ranks(timeout_s=20) as ranks:
        parallel = ranks.parallel(network)
        while done < steps:
            batch = sampler.next()
            rows = torch.from_numpy(ranks.part(batch))
            loss = torch.nn.functional.binary_cross_entropy_with_logits(parallel(x[rows]).squeeze(1), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            ledger, done = np.append(ledger, batch), done + 1
            job.metrics.report(done, steps, loss=float(loss.detach()))
            due, told = ranks.agree(job.checkpoint_due() or done % every == 0, job.notice)
            if due:
                if ranks.first:
                    state = {"model": network.state_dict(), "optimizer": optimizer.state_dict(), "ledger": ledger}
                    checkpoints.save(done, state | {"sampler": sampler.state(), "random": randomness.capture()})
                ranks.wait()
                job.saved()
            if told:
                job.requeue()
        if ranks.first:
            weights = {name: value.numpy() for name, value in network.state_dict().items()}
            np.savez(job.output_folder / "model.npz", ledger=ledger, **weights)
