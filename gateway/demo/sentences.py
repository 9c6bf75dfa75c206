"""Turns sentences into the inputs of the sentence embedding model, and embeddings into similarities.

Needs the `tokenizers` package. Invariant: the same sentence gets the same tokens alone and in company; only padding,
which the attention mask hides from the model, differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import BertWordPieceTokenizer

VOCABULARY = Path(__file__).parent / "data" / "vocab.txt"
MAX_TOKENS = 512


class Tokenizer:
    """BERT's uncased WordPiece with [CLS] and [SEP]; sentences are cut at 512 tokens."""

    def __init__(self, vocabulary: Path = VOCABULARY) -> None:
        self._tokenizer = BertWordPieceTokenizer(str(vocabulary), lowercase=True)
        self._tokenizer.enable_truncation(MAX_TOKENS)

    def encode(self, sentences: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Returns `input_ids` and `attention_mask`, both INT64 [sentences, longest], padded with 0."""
        encodings = [self._tokenizer.encode(sentence).ids for sentence in sentences]
        longest = max(len(ids) for ids in encodings)
        input_ids = np.zeros((len(encodings), longest), np.int64)
        attention_mask = np.zeros_like(input_ids)
        for row, ids in enumerate(encodings):
            input_ids[row, : len(ids)] = ids
            attention_mask[row, : len(ids)] = 1
        return input_ids, attention_mask


def cosine_similarities(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns the cosine of every pair of rows: [rows, rows], 1 on the diagonal."""
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    unit = embeddings / np.maximum(lengths, np.finfo(np.float32).tiny)
    return np.asarray(unit @ unit.T, dtype=np.float32)
