"""Pictures, sentences and census rows become the tensors that the models were made for."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from gateway.demo import census, requests
from gateway.demo.census import CensusError, Vocabulary, read_rows
from gateway.demo.pictures import prepare
from gateway.demo.rest_client import encode_request
from gateway.demo.sentences import MAX_TOKENS, VOCABULARY, Tokenizer, cosine_similarities
from tests.support.golden import MODEL_REPO, golden_case

HEADING = (
    "age,workclass,education,educational-num,marital-status,occupation,relationship,race,gender,"
    "capital-gain,capital-loss,hours-per-week,native-country"
)
PERSON = "44,Private,Masters,14,Married-civ-spouse,Exec-managerial,Wife,White,Female,0,0,50,United-States"


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return Vocabulary()


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer()


def test_the_shipped_pictures_are_the_golden_ones() -> None:
    golden = golden_case("efficientnet_lite0").inputs["image"]
    for row, name in enumerate(("chelsea.png", "coffee.png")):
        with Image.open(requests.DATA / name) as picture:
            # Other versions of the resizing library may round the last bit differently.
            assert np.abs(prepare(picture).astype(int) - golden[row]).max() <= 1


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I", "I;16", "F", "HSV", "YCbCr"])
@pytest.mark.parametrize("size", [(1, 1), (1000, 3), (224, 224), (37, 300)])
def test_any_picture_becomes_the_right_shape(mode: str, size: tuple[int, int]) -> None:
    image = prepare(Image.new(mode, size))
    assert image.shape == (224, 224, 3)
    assert image.dtype == np.uint8


def test_the_middle_is_taken() -> None:
    picture = Image.new("RGB", (600, 256), "red")
    picture.paste("blue", (172, 0, 428, 256))
    assert (prepare(picture) == (0, 0, 255)).all()


def test_transparency_is_laid_on_white() -> None:
    assert (prepare(Image.new("RGBA", (300, 300), (255, 0, 0, 0))) == 255).all()


def test_sixteen_bits_are_scaled_and_not_cut() -> None:
    assert (prepare(Image.new("I;16", (300, 300), 0x8000)) == 0x80).all()


def test_the_camera_orientation_is_followed() -> None:
    picture = Image.new("RGB", (256, 256), "black")
    picture.paste("white", (0, 0, 256, 128))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", exif=exif)
    turned = prepare(Image.open(buffer))
    assert turned[0].max() == 0
    assert turned[-1].min() == 255


def test_sentences_are_the_golden_ones(tokenizer: Tokenizer) -> None:
    golden = golden_case("minilm").inputs
    ids, mask = tokenizer.encode(["A man is eating food.", "Someone is having a meal."])
    width = ids.shape[1]
    assert np.array_equal(ids, golden["input_ids"][:2, :width])
    assert np.array_equal(mask, golden["attention_mask"][:2, :width])


def test_company_only_pads(tokenizer: Tokenizer) -> None:
    (alone,), _ = tokenizer.encode(["Hello, Café wörld!"])
    ids, mask = tokenizer.encode(["Hello, Café wörld!", "a much longer sentence, which makes the first one pad " * 3])
    assert ids[0, : len(alone)].tolist() == alone.tolist()
    assert not ids[0, len(alone) :].any()
    assert mask.sum(axis=1).tolist() == [len(alone), ids.shape[1]]


def test_long_texts_are_cut_to_what_the_model_takes(tokenizer: Tokenizer) -> None:
    ids, _ = tokenizer.encode(["word " * 5000])
    assert ids.shape == (1, MAX_TOKENS)
    assert ids[0, -1] == 102


def test_the_client_and_the_version_have_the_same_words() -> None:
    assert VOCABULARY.read_bytes() == (MODEL_REPO / "minilm" / "1" / "vocab.txt").read_bytes()
    assert len(VOCABULARY.read_text(encoding="utf-8").splitlines()) == 30_522
    shipped = json.loads(census.VOCABULARY.read_text(encoding="utf-8"))
    assert shipped == json.loads((MODEL_REPO / "wide_deep" / "1" / "vocabulary.json").read_text(encoding="utf-8"))


def test_similarities_of_zero_vectors_are_finite() -> None:
    rows = np.array([[3.0, 4.0], [6.0, 8.0], [-3.0, -4.0], [0.0, 0.0]], np.float32)
    found = cosine_similarities(rows)
    np.testing.assert_allclose(found[0], [1, 1, -1, 0], atol=1e-6)
    assert np.isfinite(found).all()


def test_a_row_is_encoded_as_the_paste_request_says(vocabulary: Vocabulary) -> None:
    rows = list(read_rows([HEADING, PERSON], vocabulary))
    categorical, continuous, notes = vocabulary.encode(rows)
    expected = {tensor["name"]: tensor["data"] for tensor in requests.census_inputs()}
    assert categorical.tolist() == [expected["categorical"]]
    assert continuous.tolist() == [expected["continuous"]]
    assert notes == []


def test_columns_may_come_in_any_order_and_spelling(vocabulary: Vocabulary) -> None:
    cells = dict(zip(HEADING.split(","), PERSON.split(","), strict=True)) | {"fnlwgt": "1"}
    names = {"gender": "Sex", "educational-num": "education.num", "marital-status": "marital_status"}
    heading = ", ".join(names.get(name, name) for name in reversed(cells))
    line = ", ".join(reversed(cells.values()))
    (row,) = read_rows([heading, "", line], vocabulary)
    (usual,) = read_rows([HEADING, PERSON], vocabulary)
    assert (row.words, row.numbers) == (usual.words, usual.numbers)
    assert row.line == 3


def test_unknown_words_are_counted_as_unknown_and_reported(vocabulary: Vocabulary) -> None:
    lines = [HEADING, PERSON.replace("United-States", "Atlantis").replace("Private", "")]
    categorical, _, notes = vocabulary.encode(list(read_rows(lines, vocabulary)))
    assert categorical[0, -1] == categorical[0, 0] == 0
    assert notes == ["line 2: native-country 'Atlantis' is not known, counted as unknown"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "is empty"),
        (["age,workclass"], "has no column education, marital-status"),
        ([HEADING, PERSON + ",extra"], "line 2 has 14 cells"),
        ([HEADING, PERSON, PERSON.replace("44", "old")], "line 3: age 'old' is not a number"),
        ([HEADING, PERSON.replace("44", "nan")], "line 2: age must be finite"),
    ],
)
def test_what_cannot_be_read_is_named(vocabulary: Vocabulary, lines: list[str], message: str) -> None:
    with pytest.raises(CensusError, match=message):
        list(read_rows(lines, vocabulary))


def test_the_shipped_rows_are_readable_and_known(vocabulary: Vocabulary) -> None:
    with open(census.EXAMPLE_ROWS, encoding="utf-8") as file:
        rows = list(read_rows(file, vocabulary))
    assert vocabulary.encode(rows)[2] == []
    assert {row.income for row in rows} == {">50K", "<=50K"}


def test_the_shipped_picture_request_is_what_the_client_sends() -> None:
    image = golden_case("efficientnet_lite0").inputs["image"][:1]
    size, body = encode_request({"image": image}, ["probabilities"], {"probabilities": 3}, binary_outputs=False)
    assert requests.PICTURE_REQUEST.read_bytes() == body
    assert requests.picture_head_bytes() == size


def test_the_paste_sentence_is_the_tokenizers(tokenizer: Tokenizer) -> None:
    ids, mask = tokenizer.encode(["A man is eating food"])
    assert [tensor["data"] for tensor in requests.sentence_inputs()] == [ids[0].tolist(), mask[0].tolist()]
