"""The shipped JSON Schemas and the parsers agree, but for what a schema cannot say."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import jsonschema
import pytest

from gateway.registry.manifest import parse_manifest
from gateway.registry.release_document import Rejection, render_plan, render_release
from gateway.registry.serving import ServingPointer, parse_serving, render_serving
from gateway.releases import OutputRule
from gateway.routes import RouteRule, RuleOperator, RuleSource
from tests.support.processes import ROOT
from tests.support.registry import ARTIFACT, document
from tests.support.releases import plan, running, steps

REMOVE = object()
WRONG = [None, True, 0, -1, 1, 1.5, "", "x", [], ["x"], [0], [1], {}, {"x": 1}, REMOVE]
FULL: dict[str, Any] = document() | {
    "description": "d",
    "inputs": [{"name": "X", "datatype": "FP32", "shape": [3, -1], "optional": True}],
    "outputs": [{"name": "Y", "datatype": "BYTES", "shape": [1], "labels": ARTIFACT}],
    "targets": [
        {
            "name": "tensorrt-10.13-sm90",
            "artifacts": [ARTIFACT],
            "parameters": {"a": 1, "b": "c", "d": True},
            "engine": {
                "runtime": "tensorrt",
                "version": "10.13.2",
                "compute_capability": "9.0",
                "version_compatible": True,
                "hardware_compatible": False,
                "profiles": {"X": {"min": [1], "opt": [2], "max": [4]}},
            },
        }
    ],
    "metrics": {"auc": 0.5},
    "input_statistics": {
        "X": {
            "rows": 64,
            "elements": 640,
            "min": -1.5,
            "max": 9,
            "mean": 0.5,
            "std": 2,
            "zero_share": 0,
            "vocabulary": 10,
            "histogram": {"edges": [0.5], "shares": [0.25, 0.75]},
            "columns": [{"edges": [0.5], "shares": [0.25, 0.75]}],
        }
    },
    "lineage": {"published": {"by": "a"}},
}
FULL["files"][0]["source"] = {"package": "p", "version": "1.0", "sha256": "0" * 64, "member": "m"}
FULL_PLAN = plan(
    "m", 2, 3,
    rules=(RouteRule(RuleSource.HEADER, "x-tester", RuleOperator.IN, ("a", "b"), 3),),
    outputs=(OutputRule("Y", "close"),), steps=steps(0, 100), segment_header="x-country", watch_after=1,
)  # fmt: skip
FULL["files"].append(FULL["files"][0] | {"path": "artifacts/record.json"})
FULL["files"][0]["conversion"] = {"version": 1, "path": "artifacts/model.onnx", "record": "artifacts/record.json"}
POINTER: dict[str, Any] = {
    "schema_version": 1, "generation": 3, "stable": 2, "also": [1], "allow_breaking": 2,
    "release": render_release(running(FULL_PLAN)), "releases_queued": [render_plan(plan("m", 2, 5))],
    "rejected": [{"version": 9, "release": "r0", "reason": "slow", "at": "2026-01-01"}],
    "shadow": {}, "history": [{}],
}  # fmt: skip
BAD_PATHS = ["/a", "../a", "a/../b", "a//b", "a/", "./a", ".", "..", "a\\b", "a\nb", "a\n", "", "manifest.json"]
GOOD_PATHS = ["a", ".a", "a/.b", "...", "a/...b", "ä/b c"]
# A label or artifact that is not listed is the parser's business alone.
BEYOND_A_SCHEMA = ("outputs.0.labels", "targets.0.artifacts", "targets.0.artifacts.0", "files.0.conversion.record",
                   "files.1.path", "inputs.0.name", "input_statistics")  # fmt: skip
# That a profile's shapes have equally many dimensions and rise.
BEYOND_A_SCHEMA += tuple(f"targets.0.engine.profiles.X.{p}" for p in ("min", "opt", "max", "min.0", "opt.0", "max.0"))
# That a histogram's shares add up to 1 and are one more than the edges, that min is not above max, whose input it is.
BEYOND_A_SCHEMA += tuple(f"input_statistics.X.{p}" for p in (
    "min", "max", *(f"{where}.{part}" for where in ("histogram", "columns.0")
                    for part in ("edges", "edges.0", "shares", "shares.0", "shares.1"))))  # fmt: skip


def schema(name: str) -> jsonschema.Draft202012Validator:
    content = json.loads((files("gateway.registry") / "schemas" / f"{name}.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(content)
    return jsonschema.Draft202012Validator(content)


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Returns the path of every value below `node`."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [found for key, value in items for found in [(*path, key), *places(value, (*path, key))]]


def changed(node: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    result = copy.deepcopy(node)
    inner: Any = result
    for key in path[:-1]:
        inner = inner[key]
    if value is REMOVE:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return result


def accepts(parse: Callable[[bytes], object], value: object) -> bool:
    try:
        parse(json.dumps(value).encode())
    except ValueError:
        return False
    return True


@pytest.mark.parametrize(
    ("name", "parse", "valid"), [("manifest", parse_manifest, FULL), ("serving", parse_serving, POINTER)]
)
def test_parser_and_schema_agree_on_every_small_change(
    name: str, parse: Callable[[bytes], object], valid: dict[str, Any]
) -> None:
    validator = schema(name)
    assert accepts(parse, valid)
    assert validator.is_valid(valid)
    seen = set()
    for path in places(valid):
        for value in WRONG:
            candidate = changed(valid, path, value)
            parsed = accepts(parse, candidate)
            seen.add(parsed)
            where = ".".join(map(str, path))
            if (where in BEYOND_A_SCHEMA and not parsed) or (where == "files.0.path" and value in ("x", 1)):
                continue
            if path[0] in ("release", "releases_queued") and not parsed:
                continue  # what a plan must be as a whole is the parser's business alone
            if path[0] == "files" and not parsed and len(path) < 3:
                continue  # without the file, its artifact is not listed any more
            assert parsed == validator.is_valid(candidate), (where, value)
    assert seen == {True, False}
    assert not validator.is_valid(valid | {"unknown": 1})
    assert not accepts(parse, valid | {"unknown": 1})


@pytest.mark.parametrize(("path", "fine"), [(p, False) for p in BAD_PATHS] + [(p, True) for p in GOOD_PATHS])
def test_both_know_which_paths_are_allowed(path: str, fine: bool) -> None:
    candidate = document()
    candidate["files"][0]["path"] = path
    candidate["targets"][0]["artifacts"] = [path]
    assert accepts(parse_manifest, candidate) == fine
    assert schema("manifest").is_valid(candidate) == fine


@pytest.mark.parametrize(
    ("key", "value", "fine"),
    [
        ("model", "a.b-c_d", True), ("model", ".a", False), ("model", "a" * 64, True), ("model", "a" * 65, False),
        ("model", "a\n", False), ("model", "a/b", False), ("schema_version", 2, False),
    ],
)  # fmt: skip
def test_both_know_which_names_are_allowed(key: str, value: object, fine: bool) -> None:
    candidate = document() | {key: value}
    assert accepts(parse_manifest, candidate) == fine
    assert schema("manifest").is_valid(candidate) == fine


def test_what_ships_is_valid() -> None:
    manifests = [*ROOT.glob("model_repo/*/*/manifest.json"), *ROOT.glob("tests/models/*/*/manifest.json")]
    pointers = list(ROOT.glob("model_repo/*/serving.json"))
    assert manifests
    assert pointers
    for path in manifests:
        schema("manifest").validate(json.loads(path.read_text()))
    for path in pointers:
        schema("serving").validate(json.loads(path.read_text()))


@pytest.mark.parametrize(
    "pointer",
    [
        ServingPointer(1, None),
        ServingPointer(
            7, 3, (1, 2), 3, running(plan("m", 3, 4)), (plan("m", 3, 5),), (Rejection(9, "r0", "slow", "2026"),)
        ),
        ServingPointer(7, 3, (1, 2), 3, other={"shadow": {}, "history": [{"stable": 1}]}),
    ],
)
def test_what_is_written_is_valid_and_read_again(pointer: ServingPointer) -> None:
    content = render_serving(pointer)
    schema("serving").validate(json.loads(content))
    again = parse_serving(content)
    assert again.desired == pointer.desired
    assert (again.generation, again.stable, again.also) == (pointer.generation, pointer.stable, pointer.also)
    assert again.allow_breaking == pointer.allow_breaking
    assert (again.release, again.queued, again.rejected) == (pointer.release, pointer.queued, pointer.rejected)
    assert {k: v for k, v in again.other.items() if v} == {k: v for k, v in pointer.other.items() if v}
