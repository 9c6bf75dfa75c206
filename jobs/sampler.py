"""A batch sampler whose place can be saved: after a resume every batch comes exactly once.

Decides the order: each epoch's permutation depends on the seed and the epoch alone, so the place (epoch, position) is
all there is to save, and a resumed run goes on with exactly the batch that came next.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


class Sampler:
    """Yields batches of row numbers, epoch after epoch, without end."""

    def __init__(self, rows: int, batch_rows: int, seed: int, *, shuffle: bool = True, drop_last: bool = False) -> None:
        if rows < 1 or batch_rows < 1 or (drop_last and batch_rows > rows):
            raise ValueError(f"{rows} rows in batches of {batch_rows} make no batch")
        self._rows = rows
        self._batch_rows = batch_rows
        self._seed = seed
        self._shuffle = shuffle
        self._last = rows - rows % batch_rows if drop_last else rows
        self._order: npt.NDArray[np.int64] | None = None
        self.epoch = 0
        self.position = 0

    @property
    def batches_per_epoch(self) -> int:
        return -(-self._last // self._batch_rows)

    def next(self) -> npt.NDArray[np.int64]:
        """Returns the row numbers of the next batch and moves on."""
        if self._order is None:
            self._order = np.arange(self._rows, dtype=np.int64)
            if self._shuffle:
                self._order = np.random.Generator(np.random.PCG64([self._seed, self.epoch])).permutation(self._rows)
        batch = self._order[self.position : min(self.position + self._batch_rows, self._last)]
        self.position += len(batch)
        if self.position >= self._last:
            self.epoch, self.position, self._order = self.epoch + 1, 0, None
        return batch

    def state(self) -> dict[str, Any]:
        """Returns the place, for a checkpoint."""
        made_of = [self._rows, self._batch_rows, self._seed, self._shuffle, self._last]
        return {"epoch": self.epoch, "position": self.position, "made_of": made_of}

    def restore(self, state: dict[str, Any]) -> None:
        """Goes to the saved place. Raises ValueError if it is one in a different order of rows."""
        made_of = [self._rows, self._batch_rows, self._seed, self._shuffle, self._last]
        if state["made_of"] != made_of:
            raise ValueError(f"the place was saved by another sampler: {state['made_of']}, this one is {made_of}")
        self.epoch, self.position, self._order = state["epoch"], state["position"], None
