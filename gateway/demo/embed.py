"""`sluice demo embed TEXT…`: how alike sentences are in meaning."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gateway.demo.client import BAD_INPUT, REFUSED, DemoError, InferClient, connect
from gateway.demo.reporting import report_errors, say

MODEL, OUTPUT, WIDTH = "minilm", "sentence_embedding", 384
MOST_SENTENCES = 32
EXAMPLES = ("A man is eating food.", "Someone is having a meal.", "The stock market fell sharply today.")


@report_errors
def run_embed(arguments: argparse.Namespace) -> int:
    """Prints the cosine similarity of every two sentences. Returns the exit code."""
    sentences = arguments.texts or list(EXAMPLES)
    if len(sentences) > MOST_SENTENCES:
        raise DemoError(BAD_INPUT, f"{len(sentences)} sentences: at most {MOST_SENTENCES} go into one request")
    if blank := [number for number, text in enumerate(sentences, 1) if not text.strip()]:
        raise DemoError(BAD_INPUT, f"sentence {blank[0]} is empty")
    try:
        from gateway.demo.sentences import Tokenizer, cosine_similarities
    except ModuleNotFoundError as error:
        raise DemoError(BAD_INPUT, "sentences need the tokenizers package: pip install 'sluice[demo]'") from error
    input_ids, attention_mask = Tokenizer().encode(sentences)
    client = connect(arguments)
    try:
        version, embeddings = embed(client, input_ids, attention_mask)
    finally:
        client.close()
    similarities = cosine_similarities(embeddings)
    if arguments.json:
        document = {
            "model": MODEL,
            "model_version": version,
            "sentences": sentences,
            "cosine_similarities": similarities.tolist(),
            "embeddings": embeddings.tolist(),
        }
        say(json.dumps(document, indent=2))
        return 0
    say(f"cosine similarity  ({MODEL}, version {version})")
    say(matrix_text(sentences, similarities))
    return 0


def embed(
    client: InferClient, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]
) -> tuple[str, NDArray[np.float32]]:
    """Returns the version that answered and the embeddings, FP32 [sentences, 384]."""
    answer = client.infer(MODEL, {"input_ids": input_ids, "attention_mask": attention_mask}, [OUTPUT], {})
    embeddings = answer.outputs.get(OUTPUT)
    if embeddings is None or embeddings.shape != (len(input_ids), WIDTH):
        raise DemoError(REFUSED, f"the gateway's answer is not understood: no {OUTPUT} of the right shape")
    return answer.model_version, np.asarray(embeddings, dtype=np.float32)


def matrix_text(sentences: Sequence[str], similarities: NDArray[np.float32]) -> str:
    """Returns the matrix as a table with the numbered sentences at its right."""
    numbers = range(1, len(sentences) + 1)
    lines = ["     " + "".join(f"{number:7d}" for number in numbers)]
    for number, sentence, row in zip(numbers, sentences, similarities, strict=True):
        lines.append(f"{number:5d}" + "".join(f"{value:7.2f}" for value in row) + f"   {sentence}")
    return "\n".join(lines)
