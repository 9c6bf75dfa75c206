"""Labelled texts as arrays, and their split.

Invariants: texts with the same tokens are kept once, so that none is both learned and tested, and none has two labels;
the split depends on the seed alone; tokens are BERT's uncased WordPiece with [CLS] and [SEP], cut at `tokens`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

TEXT, LABEL = "text", "label"
VALID_SHARE, HELD_OUT_SHARE = 0.1, 0.3
_LEAST_OF_CLASS = 10


@dataclass(frozen=True, slots=True)
class Texts:
    """Rows: `input_ids` and `attention_mask` INT64 [rows, tokens], `label` INT64 [rows], an index into the classes."""

    input_ids: NDArray[np.int64]
    attention_mask: NDArray[np.int64]
    label: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.label)

    def at(self, rows: NDArray[np.int64]) -> Texts:
        """Returns some of the rows."""
        return Texts(self.input_ids[rows], self.attention_mask[rows], self.label[rows])


def encode(texts: Sequence[str], vocabulary: Path, tokens: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns `input_ids` and `attention_mask`, INT64 [texts, tokens], padded with 0."""
    from tokenizers import BertWordPieceTokenizer

    tokenizer = BertWordPieceTokenizer(str(vocabulary), lowercase=True)
    tokenizer.enable_truncation(tokens)
    ids = np.zeros((len(texts), tokens), np.int64)
    mask = np.zeros_like(ids)
    for row, found in enumerate(tokenizer.encode_batch(list(texts))):
        ids[row, : len(found.ids)] = found.ids
        mask[row, : len(found.ids)] = 1
    return ids, mask


def parts_of(
    texts: Sequence[Any], labels: Sequence[Any], vocabulary: Path, *, tokens: int, most: int, seed: int
) -> tuple[tuple[str, ...], Texts, Texts, Texts]:
    """Returns the classes in order, and the parts to learn from, to choose with and to judge by.

    At most `most` texts are taken, drawn by `seed`. Raises ValueError if there are too few of a class.
    """
    order = np.random.default_rng(seed).permutation(len(texts))[:most]
    ids, mask = encode([str(texts[row]) for row in order], vocabulary, tokens)
    said: dict[bytes, set[str]] = {}
    for row, at in enumerate(order):
        said.setdefault(ids[row].tobytes(), set()).add(str(labels[at]))
    kept, seen = [], set()
    for row in range(len(order)):
        key = ids[row].tobytes()
        if key not in seen and len(said[key]) == 1:
            kept.append(row)
            seen.add(key)
    names = [str(labels[order[row]]) for row in kept]
    classes = tuple(sorted(set(names)))
    if len(classes) < 2:
        raise ValueError(f"texts of one class only ({', '.join(classes) or 'none'}): there is nothing to tell apart")
    for name in classes:
        if names.count(name) < _LEAST_OF_CLASS:
            raise ValueError(f"{names.count(name)} texts of class {name} are too few: {_LEAST_OF_CLASS} at least")
    index = {name: number for number, name in enumerate(classes)}
    rows = np.array(kept)
    every = Texts(ids[rows], mask[rows], np.array([index[name] for name in names], np.int64))
    held_out, valid = int(len(every) * HELD_OUT_SHARE), int(len(every) * VALID_SHARE)
    cuts = np.split(np.arange(len(every)), [held_out, held_out + valid])
    return classes, every.at(cuts[2]), every.at(cuts[1]), every.at(cuts[0])
