"""A network on its device, one call for a whole batch: FP16 and recorded graphs on CUDA. Imports torch.

Called eagerly, each of a network's kernels costs microseconds of CPU time, more than a small batch costs on the device.
A CUDA graph replays all of them with one call, for the one shape that it was recorded with.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks.gpu.networks import example, halve, network

AGREES = 5e-4
"""Of the largest value in an answer: half of what `sluice bench` lets answers differ by."""


class Runner:
    """Answers batches of up to `most` rows. The answer is overwritten by the next call.

    On CUDA a batch is filled up, with rows of older batches whose answers nobody sees, to the next size with a graph.
    Sizes whose answers differ from those of the largest by more than AGREES get no graph; one seeded batch tells.
    """

    def __init__(self, name: str, size: str, device: str, most: int) -> None:
        self._device = device
        self._network = network(name, size).to(device)
        self._graphs: dict[int, tuple[torch.cuda.CUDAGraph, tuple[Tensor, ...], Tensor]] = {}
        if device == "cuda":
            torch.set_num_threads(1)  # what is left to the CPU are small copies
            # Sums split in FP16 differ more from one batch size to another.
            torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
            self._network = halve(self._network)
            with torch.inference_mode():
                for rows in sorted({1 << (n - 1).bit_length() for n in range(1, most + 1)}):
                    self._graphs[rows] = self._record(example(name, size, rows, device, True))
                self._keep_agreeing()

    @property
    def sizes(self) -> list[int]:
        """Batch sizes that have a graph."""
        return sorted(self._graphs)

    def __call__(self, inputs: Sequence[Tensor]) -> Tensor:
        """Returns the answers [rows, …], on the device; `inputs` may be elsewhere."""
        with torch.inference_mode():
            rows = inputs[0].shape[0]
            size = next((size for size in self.sizes if size >= rows), None)
            if size is not None:
                graph, fixed, answers = self._graphs[size]
                if all(a.shape[1:] == b.shape[1:] for a, b in zip(fixed, inputs, strict=True)):
                    for into, value in zip(fixed, inputs, strict=True):
                        into[:rows].copy_(value)
                    graph.replay()
                    return answers[:rows]
            made: Tensor = self._network(*(self._placed(value) for value in inputs))
            return made

    def _record(self, fixed: tuple[Tensor, ...]) -> tuple[torch.cuda.CUDAGraph, tuple[Tensor, ...], Tensor]:
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(3):  # libraries choose kernels and take memory at first use, which cannot be recorded
                self._network(*fixed)
        torch.cuda.current_stream().wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            answers = self._network(*fixed)
        return graph, fixed, answers

    def _keep_agreeing(self) -> None:
        """Drops the sizes that answer otherwise than the largest: libraries take other kernels for small batches."""
        largest = self.sizes[-1]
        whole = [value.clone() for value in self._graphs[largest][1]]
        wanted = self(whole).clone()
        for size in self.sizes[:-1]:
            found = self([value[:size] for value in whole])
            if not float((found - wanted[:size]).abs().max()) <= AGREES * float(wanted[:size].abs().max()):
                del self._graphs[size]

    def _placed(self, value: Tensor) -> Tensor:
        value = value.to(self._device)
        return value.half() if self._device == "cuda" and value.is_floating_point() else value
