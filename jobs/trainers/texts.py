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
_FEWEST_TOKENS = 3


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


def made_up(vocabulary: Path, *, tokens: int, seed: int, rows: int) -> Texts:
    """Returns rows of random tokens, which are nobody's text; every label is 0."""
    words = [line for line in vocabulary.read_text(encoding="utf-8").splitlines() if line.isalpha() and line.islower()]
    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice(words, rng.integers(1, max(2, tokens - 2)))) for _ in range(rows)]
    ids, mask = encode(texts, vocabulary, tokens)
    return Texts(ids, mask, np.zeros(rows, np.int64))


def parts_of(
    texts: Sequence[Any], labels: Sequence[Any], vocabulary: Path, *, tokens: int, most: int, seed: int
) -> tuple[tuple[str, ...], Texts, Texts, Texts]:
    """Returns the classes in order, and the parts to learn from, to choose with and to judge by.

    At most `most` texts are taken, drawn by `seed`; each class is split by itself, so that it is in every part.

    Raises:
        ValueError: a row has no text or no label, or there are too few of a class; says which.
    """
    if tokens < _FEWEST_TOKENS:
        raise ValueError(f"tokens = {tokens}: {_FEWEST_TOKENS} at least, [CLS] and [SEP] included")
    for row, (text, label) in enumerate(zip(texts, labels, strict=True)):
        if not isinstance(text, str) or not text.strip() or label is None:
            raise ValueError(f"row {row}: {'no label' if isinstance(text, str) and text.strip() else 'no text'}")
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
            raise ValueError(
                f"{names.count(name)} texts of class {name} are too few: {_LEAST_OF_CLASS} at least, of {len(order)} "
                "that were drawn and without those that are there twice or with two labels"
            )
    index = {name: number for number, name in enumerate(classes)}
    rows = np.array(kept)
    every = Texts(ids[rows], mask[rows], np.array([index[name] for name in names], np.int64))
    parts: tuple[list[int], ...] = ([], [], [])
    for number in range(len(classes)):
        own = np.flatnonzero(every.label == number)
        held_out, valid = int(len(own) * HELD_OUT_SHARE), int(len(own) * VALID_SHARE)
        for part, chosen in zip(parts, np.split(own, [held_out, held_out + valid]), strict=True):
            part += chosen.tolist()
    judged, chosen_by, learned = (np.array(sorted(part)) for part in parts)
    return classes, every.at(learned), every.at(chosen_by), every.at(judged)
