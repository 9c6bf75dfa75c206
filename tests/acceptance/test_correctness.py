"""A hundred thousand answers, every one compared with the value computed by the client; none lost, none crossed."""

from __future__ import annotations

import asyncio

import numpy as np

from gateway._generated.open_inference_pb2 import ModelInferRequest, ModelInferResponse
from tests.acceptance.clients import SERVICE, calls, framed, grpc_head
from tests.support.processes import Gateway, LoadClient


def test_a_hundred_thousand_answers_are_right(gateway: Gateway) -> None:
    before = gateway.metrics()
    models = ["add_sub", "add_sub", "identity"]
    load = LoadClient(gateway, clients=16, streams=8, requests=100_000, models=models, seed=2026)
    tally = load.report(120)
    assert (tally["wrong"], tally["lost"], tally["errors"], tally["refused"]) == ([], [], {}, 0)
    assert tally["sent"] == tally["right"] == 100_000
    after = gateway.metrics()

    def counted(name: str, model: str) -> float:
        prefix = f'{name}{{model="{model}"'
        return sum(value - before.get(key, 0) for key, value in after.items() if key.startswith(prefix))

    batches = 0.0
    for model, rows in tally["rows"].items():
        assert counted("sluice_request_rows_total", model) == rows
        assert counted("sluice_batch_rows_sum", model) == rows
        batches += counted("sluice_batches_total", model)
    assert batches < 100_000, "nothing was ever merged"


def test_a_network_answers_as_triton_itself_does(gateway: Gateway) -> None:
    """Rows of a real network, merged with others by the gateway, against the same rows alone in Triton."""
    random = np.random.default_rng(11)
    inputs = [random.standard_normal((int(rows), 32), dtype=np.float32) for rows in random.integers(1, 33, 200)]

    def ask(address: str, model: str) -> list[np.ndarray]:
        requests = []
        for rows in inputs:
            message = ModelInferRequest(model_name=model, raw_input_contents=[rows.tobytes()])
            message.inputs.add(name="X", datatype="FP32", shape=rows.shape)
            requests.append((grpc_head(SERVICE + "ModelInfer"), framed(message.SerializeToString())))
        answers = [ModelInferResponse.FromString(answer.body) for answer in asyncio.run(calls(address, requests))]
        return [
            np.frombuffer(answer.raw_output_contents[0], "<f4").reshape(answer.outputs[0].shape) for answer in answers
        ]

    through, straight = ask(gateway.grpc, "small_net"), ask(gateway.ready["triton_grpc"], "small_net.v1")
    for ours, theirs, rows in zip(through, straight, inputs, strict=True):
        assert ours.shape == theirs.shape == (len(rows), 1)
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
