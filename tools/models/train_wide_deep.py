"""Trains model_repo/wide_deep/1 on the Adult census table.

    python -m tools.models.train_wide_deep            (environment: tools/models/requirements.txt; a minute on 2 cores)

Seeded. The epoch is chosen on the validation part; the held-out part is only looked at for the manifest's figures.
"""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch.nn import functional

from tools.models import wheels
from tools.models.adult_table import CATEGORICAL, CONTINUOUS, MEMBER, Part, example_rows, load
from tools.models.version_folder import (
    folder_of,
    graph_targets,
    write_golden,
    write_manifest,
    write_npz,
    write_warmup,
)
from tools.models.wheels import ROOT, lineage_entry
from tools.models.wide_deep_network import LOGARITHMIC, Probability, WideDeep

SEED = 20261124
EPOCHS, BATCH, LEARNING_RATE, WEIGHT_DECAY = 40, 512, 2e-3, 1e-4
WIDE_WEIGHT_DECAY = 2e-4
UNKNOWN_SHARE = 0.01  # so that "unknown" means something in columns that always have a value
PATIENCE = 8
SAMPLE_ROWS, EXAMPLE_ROWS = 1_000, 6
ARTIFACT = "artifacts/onnx/model.onnx"


def main() -> None:
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)
    vocabulary, train, valid, held_out = load(SEED)
    network = fit(vocabulary, train, valid)
    folder = folder_of("wide_deep")
    artifact = folder / ARTIFACT
    artifact.parent.mkdir(parents=True, exist_ok=True)
    export(network, artifact)
    probabilities = run(artifact, held_out)
    difference = float(np.abs(probabilities[:, 0] - predict(network, held_out)).max())
    print(f"graph against PyTorch: largest difference {difference:.1e}")
    if difference > 1e-5:
        raise SystemExit("the graph does not compute what PyTorch does")
    metrics = measure(probabilities[:, 0], held_out) | {
        "train_rows": len(train),
        "valid_rows": len(valid),
        "largest_difference_to_pytorch": float(f"{difference:.1e}"),
    }
    print(json.dumps(metrics))
    write_files(folder, vocabulary, held_out, probabilities)
    write_manifest(folder, manifest(metrics))


def fit(vocabulary: dict[str, list[str]], train: Part, valid: Part) -> WideDeep:
    """Returns the network of the epoch with the best AUC on `valid`."""
    sizes = [len(vocabulary[column]) for column in CATEGORICAL]
    squeezed = np.where(np.array(LOGARITHMIC) > 0, np.log1p(train.continuous), train.continuous)
    mean, deviation = squeezed.mean(0).astype(np.float32), squeezed.std(0).astype(np.float32)
    network = WideDeep(sizes, torch.from_numpy(mean), torch.from_numpy(deviation))
    wide = [network.wide.weight]
    others = [p for name, p in network.named_parameters() if name != "wide.weight"]
    optimizer = torch.optim.AdamW(
        [{"params": wide, "weight_decay": WIDE_WEIGHT_DECAY, "lr": LEARNING_RATE / 2}, {"params": others}],
        lr=LEARNING_RATE,
        weight_decay=WEIGHT_DECAY,
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    generator = torch.Generator().manual_seed(SEED)
    categorical, continuous, label = (torch.tensor(a) for a in (train.categorical, train.continuous, train.label))
    best, best_auc, best_epoch = copy.deepcopy(network), 0.0, 0
    for epoch in range(1, EPOCHS + 1):
        network.train()
        for rows in torch.randperm(len(train), generator=generator).split(BATCH):
            hidden = torch.rand(len(rows), len(sizes), generator=generator) < UNKNOWN_SHARE
            logits = network(categorical[rows].masked_fill(hidden, 0), continuous[rows])
            loss = functional.binary_cross_entropy_with_logits(logits, label[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
        found = auc(predict(network, valid), valid.label)
        if found > best_auc:
            best, best_auc, best_epoch = copy.deepcopy(network), found, epoch
        print(f"epoch {epoch}: loss {loss.item():.3f}, validation AUC {found:.4f}", flush=True)
        if epoch - best_epoch >= PATIENCE:
            break
    print(f"epoch {best_epoch} kept")
    return best.eval()


def predict(network: WideDeep, part: Part) -> np.ndarray:
    """Returns the probability of every row."""
    network.eval()
    with torch.no_grad():
        logits = network(torch.from_numpy(part.categorical), torch.from_numpy(part.continuous))
    return torch.sigmoid(logits).numpy()


def auc(score: np.ndarray, label: np.ndarray) -> float:
    """Returns the area under the ROC curve: the share of pairs in the right order, ties counting half."""
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks = (last - (counts - 1) / 2)[inverse]
    positives = int(label.sum())
    return float((ranks[label > 0].sum() - positives * (positives + 1) / 2) / (positives * (len(label) - positives)))


def measure(probability: np.ndarray, part: Part) -> dict[str, Any]:
    clipped = np.clip(probability.astype(np.float64), 1e-7, 1 - 1e-7)
    loss = -np.mean(part.label * np.log(clipped) + (1 - part.label) * np.log(1 - clipped))
    # Hanley and McNeil: how far another held-out part of this size might lie.
    area, positives, negatives = auc(probability, part.label), part.label.sum(), (1 - part.label).sum()
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    spread = area * (1 - area) + (positives - 1) * (q1 - area**2) + (negatives - 1) * (q2 - area**2)
    return {
        "held_out_rows": len(part),
        "held_out_auc": round(area, 4),
        "held_out_auc_standard_error": round(float(np.sqrt(spread / (positives * negatives))), 4),
        "held_out_accuracy": round(float(((probability > 0.5) == (part.label > 0)).mean()), 4),
        "majority_baseline_accuracy": round(float(1 - part.label.mean()), 4),
        "held_out_log_loss": round(float(loss), 4),
    }


def export(network: WideDeep, artifact: Path) -> None:
    sample = (torch.zeros(2, len(CATEGORICAL), dtype=torch.int64), torch.zeros(2, len(CONTINUOUS)))
    rows = {0: torch.export.Dim("rows")}
    program = torch.onnx.export(
        Probability(network).eval(),
        sample,
        dynamo=True,
        opset_version=18,
        input_names=["categorical", "continuous"],
        output_names=["probability"],
        dynamic_shapes=(rows, rows),
        external_data=False,
        verbose=False,
    )
    model = program.model_proto
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, artifact)


def run(artifact: Path, part: Part) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(artifact), providers=["CPUExecutionProvider"])
    feed = {"categorical": part.categorical, "continuous": part.continuous}
    return session.run(["probability"], feed)[0]


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
