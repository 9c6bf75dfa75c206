"""The text trainer: interrupted and resumed it ends bit for bit as if nothing had happened, with privacy too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs import contract
from jobs.context import JobContext
from jobs.job_loading import input_variable
from jobs.trainers import text_head
from jobs.trainers.text_encoder import Encoder, NotAnEncoder
from jobs.trainers.text_head import Training, predict
from jobs.trainers.text_head_export import ARTIFACT, export, run
from jobs.trainers.texts import Texts, encode, made_up, parts_of
from tools.models.wheels import ROOT

MINILM = ROOT / "model_repo" / "minilm" / "1"
ENCODER, VOCABULARY, EMBEDDING = MINILM / "artifacts/onnx/model.onnx", MINILM / "vocab.txt", "461"
EPOCHS, WIDTH, CLASSES = 4, 16, 3
FOOD = ("soup", "bread", "cheese", "apples", "rice", "noodles", "salad", "cake")
WEATHER = ("rain", "snow", "wind", "fog", "hail", "sunshine", "thunder", "frost")
ASKED = ("We had {} for {} today.", "Nothing but {} since {}.", "I like {} more than {}.", "First {}, later {}.")


def sentences() -> tuple[list[str], list[str]]:
    """256 sentences about food and about the weather."""
    texts, labels = [], []
    for name, words in (("food", FOOD), ("weather", WEATHER)):
        for frame in ASKED:
            for one in words:
                texts += [frame.format(one, other) for other in words]
                labels += [name] * len(words)
    return texts, labels


def vectors(rows: int, seed: int) -> tuple[Any, Any]:
    random = np.random.default_rng(seed)
    label = random.integers(0, CLASSES, rows)
    found = random.normal(size=(rows, WIDTH)) + 2 * np.eye(WIDTH)[label]
    return found.astype(np.float32), label


def training(folder: Path, epsilon: float) -> tuple[JobContext, Training]:
    job = JobContext(
        {
            contract.SEED: "7", contract.CHECKPOINT_FOLDER: str(folder / "checkpoints"),
            contract.NOTICE_FILE: str(folder / "notice"), contract.EPSILON: str(epsilon), contract.DELTA: "1e-5",
        }
    )  # fmt: skip
    return job, Training(
        job, CLASSES, vectors(600, 1), vectors(200, 2), epochs=EPOCHS, batch=64, lr=1e-2, weight_decay=1e-3,
        patience=EPOCHS, clip=1.0,
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("epsilon", [0.0, 4.0])
def test_interrupted_as_if_nothing_had_happened(tmp_path: Path, epsilon: float) -> None:
    _, whole = training(tmp_path / "a", epsilon)
    expected = whole.run().state_dict()
    job, first = training(tmp_path / "b", epsilon)
    (tmp_path / "b").mkdir(exist_ok=True)
    report = job.metrics.report

    def told(step: int | None = None, total: int | None = None, **values: Any) -> None:
        report(step, total, **values)
        if step == 2:
            (tmp_path / "b" / "notice").touch()

    job.metrics.report = told  # type: ignore[method-assign]
    with pytest.raises(SystemExit) as ended:
        first.run()
    assert ended.value.code == contract.EXIT_REQUEUE
    (tmp_path / "b" / "notice").unlink()
    _, second = training(tmp_path / "b", epsilon)
    found = second.run().state_dict()
    for name, value in expected.items():
        assert value.numpy().tobytes() == found[name].numpy().tobytes(), name
    assert second.privacy() == whole.privacy()
    if epsilon:
        assert 3.5 < whole.privacy()["epsilon"] <= epsilon
    held_out = vectors(300, 3)
    assert (predict(whole.network, held_out[0]).argmax(1) == held_out[1]).mean() > 0.7


def test_a_head_on_minilm_learns_and_its_folder_is_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow as pa

    texts, labels = sentences()
    environ = {contract.OUTPUT_FOLDER: str(tmp_path / "out"), contract.CHECKPOINT_FOLDER: str(tmp_path / "checkpoints"),
               input_variable("encoder"): str(ENCODER), input_variable("vocabulary"): str(VOCABULARY)}  # fmt: skip
    job = JobContext(environ)
    monkeypatch.setattr(job, "table", lambda name: pa.table({"text": texts, "label": labels}))
    monkeypatch.setattr(JobContext, "current", lambda: job)
    text_head.main(embedding=EMBEDDING, tokens=16, epochs=20)
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    assert metrics["held_out_accuracy"] > 0.95 > metrics["majority_baseline_accuracy"]
    folder = tmp_path / "out/model"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["outputs"] == [{"name": "logits", "datatype": "FP32", "shape": [2]}]
    assert json.loads((folder / "classes.json").read_text()) == ["food", "weather"]
    with np.load(folder / "golden/cases.npz") as golden:
        asked = Texts(golden["input.input_ids"], golden["input.attention_mask"], np.zeros(16, np.int64))
        assert np.allclose(run(folder / ARTIFACT, asked), golden["output.logits"], atol=1e-3)
    with np.load(tmp_path / "out/calibration.npz") as known, np.load(tmp_path / "out/evaluation.npz") as judged:
        learned = {row.tobytes() for row in known["input_ids"]}
        assert learned.isdisjoint(row.tobytes() for row in judged["input_ids"])
        assert len(judged["label"]) == metrics["held_out_rows"]


def test_the_same_texts_give_the_same_graph(tmp_path: Path) -> None:
    _, made = training(tmp_path, 0.0)
    head = made.run()
    small = encoder_of(tmp_path / "encoder.onnx", ("embedding",))
    for name in ("a", "b"):
        export(small, "embedding", head, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_padding_and_company_change_nothing() -> None:
    ids, mask = encode(["rain", "a long sentence about nothing in particular " * 3], VOCABULARY, 64)
    both = Encoder(ENCODER, EMBEDDING).embed(Texts(ids, mask, np.zeros(2, np.int64)))
    alone = Encoder(ENCODER, EMBEDDING).embed(Texts(ids[:1], mask[:1], np.zeros(1, np.int64)))
    assert np.abs(both[:1] - alone).max() < 1e-5


def test_a_notice_while_texts_are_encoded_ends_the_job(tmp_path: Path) -> None:
    (tmp_path / "notice").touch()
    job = JobContext({contract.NOTICE_FILE: str(tmp_path / "notice")})
    small = Encoder(encoder_of(tmp_path / "encoder.onnx", ("embedding",)))
    rows = np.ones((3, 4), np.int64)
    with pytest.raises(SystemExit) as ended:
        text_head.embedded(job, small, Texts(rows, rows, rows[:, 0]), "train")
    assert ended.value.code == contract.EXIT_REQUEUE


def test_texts_are_split_once_and_those_with_two_labels_left_out() -> None:
    texts, labels = sentences()
    twice = [*texts, *texts[:40], *texts[-5:]], [*labels, *labels[:40], *["food"] * 5]
    classes, *parts = parts_of(*twice, VOCABULARY, tokens=16, most=10_000, seed=1)
    assert classes == ("food", "weather")
    rows = [ids.tobytes() for part in parts for ids in part.input_ids]
    assert len(rows) == len(set(rows)) == len(texts) - 5
    again = parts_of(*twice, VOCABULARY, tokens=16, most=10_000, seed=1)
    assert (again[1].input_ids == parts[0].input_ids).all()
    assert abs(len(parts[2]) - 0.3 * len(rows)) < 2, "class by class, so rounded twice"


@pytest.mark.parametrize(
    ("labels", "message"), [(["a"] * 60, "one class only"), (["a"] * 55 + ["b"] * 5, "5 texts of class b are too few")]
)
def test_too_few_texts_are_refused(labels: list[str], message: str) -> None:
    texts = sentences()[0][:60]
    with pytest.raises(ValueError, match=message):
        parts_of(texts, labels, VOCABULARY, tokens=16, most=100, seed=0)


@pytest.mark.parametrize("row", [("", "a"), ("  ", "a"), (None, "a"), ("good", None)])
def test_a_row_without_text_or_label_is_named(row: tuple[str | None, str | None]) -> None:
    texts, labels = ["fine"] * 3 + [row[0]], ["a"] * 3 + [row[1]]
    with pytest.raises(ValueError, match=r"row 3: no (text|label)"):
        parts_of(texts, labels, VOCABULARY, tokens=16, most=100, seed=0)


@pytest.mark.parametrize("seed", range(20))
def test_every_class_is_in_every_part(seed: int) -> None:
    texts = [f"word {n} of {m}" for n in range(20) for m in range(10)]
    labels = ["rare" if n < 10 else "common" for n in range(200)]
    _, *parts = parts_of(texts, labels, VOCABULARY, tokens=16, most=1000, seed=seed)
    assert [sorted(set(part.label.tolist())) for part in parts] == [[0, 1]] * 3


def test_what_is_shown_of_private_texts_is_made_up() -> None:
    shown = made_up(VOCABULARY, tokens=16, seed=3, rows=16)
    assert len(shown) == 16
    assert shown.attention_mask.sum(1).min() >= 3
    assert (shown.input_ids == made_up(VOCABULARY, tokens=16, seed=3, rows=16).input_ids).all()


def test_a_graph_that_is_no_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotAnEncoder, match="name the embedding among its outputs: one, two"):
        Encoder(encoder_of(tmp_path / "two.onnx", ("one", "two")))
    with pytest.raises(NotAnEncoder, match="inputs are"):
        Encoder(ROOT / "model_repo/wide_deep/1/artifacts/onnx/model.onnx")
    encoder = Encoder(encoder_of(tmp_path / "flat.onnx", ("embedding",), flat=False))
    rows = np.ones((2, 4), np.int64)
    with pytest.raises(NotAnEncoder, match="is not one finite vector a text"):
        encoder.embed(Texts(rows, rows, rows[:, 0]))
    several = np.tri(80, 6, dtype=np.int64)  # batches of different lengths
    with pytest.raises(NotAnEncoder, match="is not one finite vector a text"):
        encoder.embed(Texts(several, several, several[:, 0]))


def encoder_of(path: Path, outputs: tuple[str, ...], *, flat: bool = True) -> Path:
    """Writes a graph of the right inputs whose outputs are the tokens as numbers."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    inputs = [helper.make_tensor_value_info(n, TensorProto.INT64, ["r", "t"]) for n in ("input_ids", "attention_mask")]
    nodes = [helper.make_node("Mul", ["input_ids", "attention_mask"], ["kept"]),
             helper.make_node("Cast", ["kept"], ["numbers"], to=TensorProto.FLOAT),
             helper.make_node("Unsqueeze", ["numbers", "last"], ["tokens"])]  # fmt: skip
    for name in outputs:
        if flat:
            nodes.append(helper.make_node("ReduceSum", ["tokens", "middle"], [name], keepdims=0))
        else:
            nodes.append(helper.make_node("Identity", ["tokens"], [name]))
    found = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs]
    axes = [numpy_helper.from_array(np.array([2]), "last"), numpy_helper.from_array(np.array([1]), "middle")]
    model = helper.make_model(
        helper.make_graph(nodes, "encoder", inputs, found, axes), opset_imports=[helper.make_opsetid("", 17)]
    )
    model.ir_version = 8
    onnx.save(model, str(path))
    return path
