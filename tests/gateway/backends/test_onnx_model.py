"""Rendered graphs in the real Triton: both engines, merged and single requests, placed on disk and pushed."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.models import make_small_net
from gateway.backends.triton_environment import TritonEnvironment
from gateway.backends.triton_placement import DiskPlacement, PushPlacement
from gateway.backends.triton_repository import RenderOptions, triton_name
from gateway.registry.directory import DirectorySource
from gateway.versions import ModelVersion
from tests.support.processes import ROOT
from tests.support.triton import load, post, triton

NET = ModelVersion("small_net", 1)
Array = npt.NDArray[np.float32]


def expected(x: Array) -> Array:
    """Returns the network's answer computed here, from the weights that its generator draws."""
    generator, layers = np.random.default_rng(make_small_net.SEED), len(make_small_net.SIZES) - 1
    for layer in range(layers):
        rows, columns = make_small_net.SIZES[layer : layer + 2]
        weight = generator.normal(0.0, np.sqrt(2.0 / rows), (rows, columns)).astype(np.float32)
        bias = generator.normal(0.0, 0.1, columns).astype(np.float32)
        x = x @ weight + bias
        x = np.maximum(x, 0) if layer < layers - 1 else x
    return x


def infer(port: int, x: Array) -> Array:
    tensor = {"name": "X", "datatype": "FP32", "shape": list(x.shape), "data": x.ravel().tolist()}
    output = post(port, f"/v2/models/{triton_name(NET)}/infer", {"inputs": [tensor]})["outputs"][0]
    return np.array(output["data"], np.float32).reshape(output["shape"])


def lookup(version: ModelVersion) -> Any:
    source = DirectorySource(ROOT / "benchmarks" / "models")
    return source.verify(version), source.version_path(version)


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_answers_are_right_alone_and_merged(
    triton_environment: TritonEnvironment, tmp_path: Path, engine: str, runner: asyncio.Runner
) -> None:
    # With a delay Triton's own batcher hands several requests to one execute call, as two staged batches would.
    options = RenderOptions(target_order=(engine,), dynamic_batching=True, max_queue_delay_us=20_000)
    sizes = [1, 2, 7, 1, 16, 3, 1, 1] * 4
    inputs = [np.random.default_rng(seed).random((rows, 32), np.float32) for seed, rows in enumerate(sizes)]

    async def scenario() -> tuple[list[Array], Any]:
        await DiskPlacement(tmp_path, lookup, lambda _: options).prepare(NET)
        async with triton(triton_environment, tmp_path) as process:
            await process.start()
            port = process.http_port
            await asyncio.to_thread(load, port, NET)
            with ThreadPoolExecutor(len(inputs)) as pool:
                answers = list(pool.map(lambda x: infer(port, x), inputs))
            return answers, await asyncio.to_thread(_statistics, port)

    answers, statistics = runner.run(scenario())
    for x, answer in zip(inputs, answers, strict=True):
        np.testing.assert_allclose(answer, expected(x), rtol=1e-4, atol=1e-5)
    assert statistics["execution_count"] < statistics["inference_stats"]["success"]["count"], "something was merged"


def test_a_pushed_version_serves_without_a_shared_disk(
    triton_environment: TritonEnvironment, tmp_path: Path, runner: asyncio.Runner
) -> None:
    async def scenario() -> Array:
        parameters = await PushPlacement(lookup, lambda _: RenderOptions()).prepare(NET)
        spelled = {
            key: base64.b64encode(value).decode() if isinstance(value, bytes) else value
            for key, value in parameters.items()
        }
        async with triton(triton_environment, tmp_path) as process:
            await process.start()
            path = f"/v2/repository/models/{triton_name(NET)}/load"
            await asyncio.to_thread(post, process.http_port, path, {"parameters": spelled})
            return await asyncio.to_thread(infer, process.http_port, np.ones((2, 32), np.float32))

    np.testing.assert_allclose(runner.run(scenario()), expected(np.ones((2, 32), np.float32)), rtol=1e-4, atol=1e-5)


def test_the_committed_network_is_what_its_generator_writes() -> None:
    assert make_small_net.TARGET.read_bytes() == make_small_net.small_net()


def _statistics(port: int) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", f"/v2/models/{triton_name(NET)}/stats")
    content = connection.getresponse().read()
    connection.close()
    return json.loads(content)["model_stats"][0]
