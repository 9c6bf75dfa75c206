"""Trains model_repo/wide_deep/1 on the Adult census table.

    python -m tools.models.train_wide_deep            (environment: tools/models/requirements.txt; a minute on 2 cores)

The demo's entry to `jobs.trainers.wide_deep`. Seeded. The epoch is chosen on the validation part; the held-out part is
only looked at for the manifest's figures.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from jobs import contract
from jobs.context import JobContext
from jobs.trainers import measures
from jobs.trainers.adult import CATEGORICAL, CONTINUOUS, Part
from jobs.trainers.wide_deep import Training, predict
from jobs.trainers.wide_deep_export import export, run
from tools.models import wheels
from tools.models.adult_table import MEMBER, example_rows, load
from tools.models.version_folder import (
    folder_of,
    graph_targets,
    write_golden,
    write_manifest,
    write_npz,
    write_warmup,
)
from tools.models.wheels import ROOT, lineage_entry

SEED = 20261124
SAMPLE_ROWS, EXAMPLE_ROWS = 1_000, 6
ARTIFACT = "artifacts/onnx/model.onnx"


def main() -> None:
    vocabulary, train, valid, held_out = load(SEED)
    with tempfile.TemporaryDirectory() as checkpoints:
        job = JobContext({contract.SEED: str(SEED), contract.CHECKPOINT_FOLDER: checkpoints})
        network = Training(
            job, vocabulary, train, valid, epochs=40, batch=512, lr=2e-3, weight_decay=1e-4, wide_weight_decay=2e-4,
            dropout=0.2, patience=8, clip=1.0,
        ).run()  # fmt: skip
    folder = folder_of("wide_deep")
    artifact = folder / ARTIFACT
    artifact.parent.mkdir(parents=True, exist_ok=True)
    export(network, artifact)
    probabilities = run(artifact, held_out)
    difference = float(np.abs(probabilities[:, 0] - predict(network, held_out)).max())
    print(f"graph against PyTorch: largest difference {difference:.1e}")
    if difference > 1e-5:
        raise SystemExit("the graph does not compute what PyTorch does")
    metrics = measures.of_held_out(probabilities[:, 0], held_out.label) | {
        "train_rows": len(train),
        "valid_rows": len(valid),
        "largest_difference_to_pytorch": float(f"{difference:.1e}"),
    }
    print(json.dumps(metrics))
    write_files(folder, vocabulary, held_out, probabilities)
    write_manifest(folder, manifest(metrics))


def write_files(folder: Path, vocabulary: dict[str, list[str]], held_out: Part, probabilities: np.ndarray) -> None:
    document = {"categorical": [{"name": c, "values": vocabulary[c]} for c in CATEGORICAL], "continuous": CONTINUOUS}
    path = folder / "vocabulary.json"
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    shutil.copyfile(path, ROOT / "gateway" / "demo" / "data" / "census_vocabulary.json")
    examples = example_rows(SEED, EXAMPLE_ROWS)
    examples.to_csv(ROOT / "gateway" / "demo" / "data" / "census_rows.csv", index=False, lineterminator="\n")
    inputs = {"categorical": held_out.categorical[:64], "continuous": held_out.continuous[:64]}
    write_golden(folder, inputs, {"probability": probabilities[:64]}, {"probability": {"atol": 1e-4, "rtol": 1e-3}})
    write_warmup(folder, {name: array[:1] for name, array in inputs.items()})
    write_npz(
        folder / "samples" / "held_out.npz",
        {
            "input.categorical": held_out.categorical[:SAMPLE_ROWS].astype(np.int8),
            "input.continuous": held_out.continuous[:SAMPLE_ROWS],
            "label": held_out.label[:SAMPLE_ROWS].astype(np.int8),
        },
    )
    (folder / "NOTICE.md").write_text(
        f"""# Where this version comes from

Trained in this repository (`tools/models/train_wide_deep.py`, seed {SEED}) on the Adult census table: Becker, B. and
Kohavi, R. (1996), "Adult", UCI Machine Learning Repository, https://doi.org/10.24432/C5XW20, licensed CC-BY-4.0
(https://creativecommons.org/licenses/by/4.0/). Taken from PyPI `{wheels.ADULT.package}` {wheels.ADULT.version},
`{MEMBER}`.

`golden/`, `warmup/` and `samples/held_out.npz` ({SAMPLE_ROWS} rows of the held-out part, none of them used in training)
hold rows of that table, changed: column fnlwgt left out, categories replaced by their index in `vocabulary.json`,
doubles removed.

The table is a census of 1994 and holds its society's inequalities; the model is a demonstration and fit for no decision
about people.
""",
        encoding="utf-8",
    )


def manifest(metrics: dict[str, Any]) -> dict[str, Any]:
    return {
        "description": "Wide & Deep on the Adult census table: the probability that a person earns more than 50K.",
        "max_batch_size": 256,
        "inputs": [
            {"name": "categorical", "datatype": "INT64", "shape": [len(CATEGORICAL)]},
            {"name": "continuous", "datatype": "FP32", "shape": [len(CONTINUOUS)]},
        ],
        "outputs": [{"name": "probability", "datatype": "FP32", "shape": [1]}],
        "targets": graph_targets(("onnxruntime", "openvino"), ARTIFACT, {"intra_op_threads": 1}),
        "metrics": metrics,
        "lineage": {
            "source_package": wheels.ADULT.package,
            "source_version": wheels.ADULT.version,
            "source_url": wheels.ADULT.url,
            "licence": "Apache-2.0 (the model); CC-BY-4.0 (the table)",
            "created_by": "tools/models/train_wide_deep.py",
            "seed": SEED,
            "sources": [lineage_entry(wheels.ADULT)],
            "preprocessing": f"categorical: index in vocabulary.json of {', '.join(CATEGORICAL)} (0 = unknown); "
            f"continuous: {', '.join(CONTINUOUS)} as they are",
        },
    }


if __name__ == "__main__":
    main()
