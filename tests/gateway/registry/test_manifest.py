from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.registry.document import MAX_DOCUMENT_BYTES, DocumentError
from gateway.registry.manifest import Manifest, parse_manifest
from gateway.tensors import DataType
from gateway.versions import ElementHistogram, InputStatistics, ModelVersion
from tests.support.processes import ROOT
from tests.support.registry import ARTIFACT, document


def parse(value: Any, version: ModelVersion | None = None) -> Manifest:
    return parse_manifest(json.dumps(value).encode(), version)


def test_a_valid_manifest() -> None:
    manifest = parse(document() | {"metrics": {"auc": 0.9}, "lineage": {"licence": "MIT"}}, ModelVersion("m", 1))
    assert manifest.version == ModelVersion("m", 1)
    assert manifest.max_batch_size == 4
    assert manifest.inputs[0].datatype is DataType.FP32
    assert manifest.inputs[0].shape == (3,)
    assert manifest.targets[0].kind == "python"
    assert manifest.files[0].path == ARTIFACT
    assert manifest.metrics == {"auc": 0.9}


def _set(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(target: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        node: Any = target
        for part in parents:
            node = node[int(part)] if part.isdigit() else node[part]
        if value is KeyError:
            del node[last]
        else:
            node[int(last) if last.isdigit() else last] = value

    return change


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("schema_version", 2, "schema_version: must be 1"),
        ("model", KeyError, "model: is missing"),
        ("model", "../x", "model: '../x' is not a model name"),
        ("model", "other", "model: is 'other' in the folder of 'm'"),
        ("version", 2, "version: is 2 in the folder of version 1"),
        ("version", True, "version: must be an integer"),
        ("max_batch_size", -1, "max_batch_size: must be at least 0"),
        ("max_batch_size", "4", "max_batch_size: must be an integer"),
        ("inputs", [], "inputs: must not be empty"),
        ("inputs", {}, "inputs: must be a list"),
        ("inputs.0", 7, "inputs[0]: must be an object"),
        ("inputs.0.name", "a\nb", "inputs[0].name: has control characters or is longer than 256"),
        ("inputs.0.datatype", "float32", "inputs[0].datatype: 'float32' is not one of BOOL"),
        ("inputs.0.shape", [], "inputs[0].shape: must have at least one dimension"),
        ("inputs.0.shape", [3, 0], "inputs[0].shape: has a dimension of 0"),
        ("inputs.0.shape", [-2], "inputs[0].shape[0]: must be an integer of at least -1"),
        ("inputs.0.shape", [1] * 17, "inputs[0].shape: has more than 16 dimensions"),
        ("inputs.0.labels", "x", "inputs[0].labels: unknown key"),
        ("outputs.0.labels", "labels.txt", "outputs[0].labels: 'labels.txt' is not listed in files"),
        ("outputs.0.optional", True, "outputs[0].optional: unknown key"),
        ("targets.0.name", "tflite", "targets[0].name: 'tflite' is not one of python"),
        ("targets.0.artifacts", [], "targets[0].artifacts: must name at least one file"),
        ("targets.0.artifacts", ["x.py"], "targets[0].artifacts[0]: 'x.py' is not listed in files"),
        ("targets.0.parameters", {"a": [1]}, "targets[0].parameters.a: must be a string, a number or a boolean"),
        ("files.0.path", "/etc/passwd", "files[0].path: '/etc/passwd' is absolute"),
        ("files.0.path", "a/../../b", "files[0].path: 'a/../../b' has an empty, '.' or '..' part"),
        ("files.0.path", "a\\b", "files[0].path: 'a\\\\b' has a backslash or a control character"),
        ("files.0.path", "manifest.json", "files[0].path: the manifest cannot list itself"),
        ("files.0.size", -1, "files[0].size: must be at least 0"),
        ("files.0.sha256", "AB", "files[0].sha256: must be 64 lower-case hexadecimal digits"),
        ("files.0.source", {}, "files[0].source.package: is missing"),
        ("descripton", "misspelt", "descripton: unknown key"),
    ],
)
def test_every_problem_is_named_by_its_path(path: str, value: Any, problem: str) -> None:
    wrong = copy.deepcopy(document())
    _set(path, value)(wrong)
    with pytest.raises(DocumentError) as caught:
        parse(wrong, ModelVersion("m", 1))
    assert any(found.startswith(problem) for found in caught.value.problems), caught.value.problems


def test_all_problems_at_once() -> None:
    wrong = document() | {"max_batch_size": -1, "extra": 1, "outputs": document()["outputs"] * 2}
    with pytest.raises(DocumentError) as caught:
        parse(wrong)
    assert set(caught.value.problems) == {
        "max_batch_size: must be at least 0",
        "extra: unknown key",
        "outputs: 'Y' occurs twice",
    }


def test_a_source_pins_a_package() -> None:
    good = document()
    good["files"][0]["source"] = {"package": "some-model", "version": "1.0", "sha256": "0" * 64, "member": "a/b.onnx"}
    source = parse(good).files[0].source
    assert source is not None
    assert (source.package, source.version, source.member) == ("some-model", "1.0", "a/b.onnx")
    for package in ("--index-url", "x y", "git+https://x"):
        good["files"][0]["source"]["package"] = package
        with pytest.raises(DocumentError, match="is not a plain name"):
            parse(good)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"a": 1, "a": 2}',
        b'{"a": NaN}',
        b"\xff",
        b"[" * 100_000,
        b" " * MAX_DOCUMENT_BYTES + b"{}",
    ],
)
def test_what_is_no_document(content: bytes) -> None:
    with pytest.raises(DocumentError):
        parse_manifest(content)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(sorted(document())), _json)
def test_any_json_in_any_place_is_parsed_or_refused(key: str, value: Any) -> None:
    with contextlib.suppress(DocumentError):
        assert parse(document() | {key: value}).inputs


@pytest.mark.parametrize("path", sorted(p.relative_to(ROOT) for p in ROOT.glob("*/models/*/*/manifest.json")), ids=str)
def test_the_manifests_of_this_repository(path: Any) -> None:
    version = ModelVersion(path.parts[-3], int(path.parts[-2]))
    assert parse_manifest((ROOT / path).read_bytes(), version).version == version


STATISTICS: dict[str, Any] = {
    "rows": 64, "min": 0, "max": 9, "vocabulary": 10, "histogram": {"edges": [1, 2.5], "shares": [0.5, 0.25, 0.25]}
}  # fmt: skip


def test_input_statistics_are_what_the_gateway_compares_with() -> None:
    (found,) = parse(document() | {"input_statistics": {"X": STATISTICS}}).input_statistics
    assert found == InputStatistics("X", ElementHistogram((1.0, 2.5), (0.5, 0.25, 0.25)), 64, 0.0, 9.0, 10)
    assert parse(document()).input_statistics == ()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"rows": 0}, "input_statistics.X.rows: must be at least 1"),
        ({"min": 10}, "input_statistics.X.min: is above max"),
        ({"max": 10**400}, "input_statistics.X.max: must be from"),
        ({"histogram": {"edges": [2, 1], "shares": [1, 0, 0]}}, "input_statistics.X.histogram.edges: must rise"),
        ({"histogram": {"edges": [1], "shares": [1]}}, "input_statistics.X.histogram.shares: must be one more"),
        ({"histogram": {"edges": [1], "shares": [1, 1]}}, "shares: must be at least 0 and add up to 1"),
        ({"histogram": {"edges": [0] * 65, "shares": [1]}}, "edges: must have at most 64 numbers"),
        ({"histogram": {"edges": ["a"], "shares": [1]}}, "edges[0]: must be a number"),
        ({"columns": [{"edges": [1], "shares": [1]}]}, "input_statistics.X.columns[0].shares: must be one more"),
        ({"columns": [STATISTICS["histogram"]] * 65}, "input_statistics.X.columns: must be at most 64"),
        ({"other": 1}, "input_statistics.X.other: unknown key"),
    ],
)
def test_input_statistics_that_cannot_be_compared_with(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(DocumentError) as caught:
        parse(document() | {"input_statistics": {"X": STATISTICS | changes}})
    assert problem in str(caught.value)
    with pytest.raises(DocumentError, match=r"input_statistics\.Z: is not an input"):
        parse(document() | {"input_statistics": {"Z": STATISTICS}})
