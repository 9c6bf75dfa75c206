"""The demo models give their golden answers inside the real Triton, on every engine that their manifests name."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import numpy as np
import pytest

from gateway.backends.triton_environment import TritonSetupError, find_environment
from gateway.backends.triton_placement import DiskPlacement
from gateway.backends.triton_repository import RenderOptions, triton_name
from gateway.demo.client import Answer, DemoError, InferClient
from gateway.demo.grpc_client import GrpcClient
from gateway.demo.rest_client import RestClient
from gateway.registry.directory import DirectorySource
from gateway.versions import ModelVersion
from tests.support.golden import DEMO_MODELS, MODEL_REPO, Array, census_sample, golden_case, golden_cases
from tests.support.processes import TRITON_ENVIRONMENT
from tests.support.triton import load, triton

ENGINES = ("onnxruntime", "openvino")
VERSIONS = {model: ModelVersion(model, 1) for model in DEMO_MODELS}


@dataclass
class Results:
    """Everything one engine answered."""

    engine: str
    golden: dict[tuple[str, str], dict[str, Array]]
    single: dict[str, dict[str, Array]]
    classes: Answer
    padded: Array
    outside: Array
    census: Array
    bad_token: str


@pytest.fixture(scope="module", params=ENGINES)
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Results:
    work = tmp_path_factory.mktemp(request.param)
    try:
        environment = find_environment(TRITON_ENVIRONMENT, work / "environment")
    except TritonSetupError as error:
        pytest.fail(f"the tests need a real Triton: run `make setup` ({error})", pytrace=False)
    source = DirectorySource(MODEL_REPO)
    options = RenderOptions(target_order=(request.param,))
    placement = DiskPlacement(work, lambda v: (source.verify(v), source.version_path(v)), lambda _: options)

    async def scenario() -> Results:
        for version in VERSIONS.values():
            await placement.prepare(version)
        async with triton(environment, work) as process:
            await process.start()
            for version in VERSIONS.values():
                await asyncio.to_thread(load, process.http_port, version)
            return await asyncio.to_thread(ask, request.param, process.http_port, process.grpc_port)

    return asyncio.run(scenario())


def ask(engine: str, http_port: int, grpc_port: int) -> Results:
    rest, grpc = RestClient("127.0.0.1", http_port), GrpcClient("127.0.0.1", grpc_port)
    try:
        golden = {
            (case.model, protocol): infer(client, case.model, case.inputs, list(case.expected))
            for case in golden_cases()
            for protocol, client in (("rest", rest), ("grpc", grpc))
        }
        single = {
            case.model: infer(rest, case.model, case.slice(1, 2).inputs, list(case.expected)) for case in golden_cases()
        }
        image = golden_case("efficientnet_lite0").inputs
        classes = grpc.infer(
            triton_name(VERSIONS["efficientnet_lite0"]), image, ["probabilities"], {"probabilities": 3}
        )
        wider = {name: np.pad(array, ((0, 0), (0, 60))) for name, array in golden_case("minilm").inputs.items()}
        padded = infer(rest, "minilm", wider, ["sentence_embedding"])["sentence_embedding"]
        numbers = np.tile(np.array([[40, 10, 0, 0, 40]], np.float32), (4, 1))
        strange = np.zeros((4, 8), np.int64)
        strange[1:] = [[-1] * 8, [99] * 8, [2**40] * 8]
        outside = infer(rest, "wide_deep", {"categorical": strange, "continuous": numbers}, ["probability"])
        categorical, continuous, _ = census_sample()
        parts = [
            infer(rest, "wide_deep", {"categorical": categorical[a : a + 250], "continuous": continuous[a : a + 250]},
                  ["probability"])["probability"]
            for a in range(0, len(categorical), 250)
        ]  # fmt: skip
        return Results(
            engine,
            golden,
            single,
            classes,
            padded,
            outside["probability"],
            np.concatenate(parts)[:, 0],
            reason_of_refusal(rest, np.array([[101, 30_522, 102]])) if engine == "onnxruntime" else "",
        )
    finally:
        rest.close()
        grpc.close()


def infer(client: InferClient, model: str, inputs: dict[str, Array], outputs: list[str]) -> dict[str, Array]:
    return dict(client.infer(triton_name(VERSIONS[model]), inputs, outputs, {}).outputs)


def reason_of_refusal(client: InferClient, ids: Array) -> str:
    """Returns what is said about tokens that the model does not have, "" if it answers."""
    try:
        infer(client, "minilm", {"input_ids": ids, "attention_mask": np.ones_like(ids)}, ["sentence_embedding"])
    except DemoError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
@pytest.mark.parametrize("model", DEMO_MODELS)
def test_golden_answers(results: Results, model: str, protocol: str) -> None:
    golden_case(model).check(results.golden[model, protocol])


@pytest.mark.parametrize("model", DEMO_MODELS)
def test_a_row_alone_has_the_answer_it_has_in_company(results: Results, model: str) -> None:
    golden_case(model).slice(1, 2).check(results.single[model])


def test_classes_come_back_by_name(results: Results) -> None:
    rows = results.classes.outputs["probabilities"]
    assert rows.shape == (2, 3)
    names = [[element.decode().split(":", 2)[2] for element in row] for row in rows]
    assert set(names[0]) == {"tabby cat", "tiger cat", "Egyptian cat"}
    assert names[1][0] == "espresso"


def test_padding_changes_no_embedding(results: Results) -> None:
    golden_case("minilm").check({"sentence_embedding": results.padded})


def test_an_index_outside_the_vocabulary_counts_as_unknown(results: Results) -> None:
    assert np.isfinite(results.outside).all()
    assert np.ptp(results.outside) < 1e-6


def test_the_census_model_is_as_good_as_its_manifest_says(results: Results) -> None:
    _, _, label = census_sample()
    more, less = results.census[label > 0], results.census[label == 0]
    order = (more[:, None] > less).mean() + (more[:, None] == less).mean() / 2
    metrics = DirectorySource(MODEL_REPO).manifest(VERSIONS["wide_deep"]).metrics
    # 1,000 of the 9,700 held-out rows: the standard error is about 0.013.
    assert order == pytest.approx(metrics["held_out_auc"], abs=0.03)
    assert order > 0.88


def test_a_token_that_does_not_exist_is_the_callers_mistake(results: Results) -> None:
    # OpenVINO is not asked: it reads beyond the table, and may answer, answer NaN or die. Hence it is not the first.
    assert DirectorySource(MODEL_REPO).manifest(VERSIONS["minilm"]).targets[0].name == "onnxruntime"
    if results.engine == "onnxruntime":
        assert "400" in results.bad_token
        assert "out of data bounds" in results.bad_token
