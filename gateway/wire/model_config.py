"""What Triton says about a model (metadata and configuration) becomes ModelMetadata: may it be batched, how wide is it.

A model is batched here only if merging along axis 0 cannot change an answer: it has a batch dimension, keeps no state,
answers each request once, and every tensor's axis 0 is the batch. Whatever contradicts itself is refused rather than
guessed, because a wrong batch dimension would mix up callers.
"""

from __future__ import annotations

from collections.abc import Iterable

import orjson
from google.protobuf.json_format import MessageToJson

from gateway._generated.model_config_pb2 import ModelConfig
from gateway._generated.open_inference_pb2 import ModelMetadataResponse
from gateway.errors import ErrorCode, GatewayError
from gateway.messages import ModelMetadata
from gateway.tensors import DATATYPES, TensorSpec


def model_metadata_from(metadata: ModelMetadataResponse, config: ModelConfig) -> ModelMetadata:
    """Returns the noun; `name` is as Triton calls the model.

    Raises:
        GatewayError: BACKEND_FAILED for an unknown data type, or a shape without the batch dimension that the
            configuration promises.
    """
    inputs = tuple(_spec(tensor, metadata.name) for tensor in metadata.inputs)
    outputs = tuple(_spec(tensor, metadata.name) for tensor in metadata.outputs)
    widest = max(config.max_batch_size, 0)
    reason = unbatchable_reason(config)
    if widest:
        without_batch = {tensor.name for tensor in (*config.input, *config.output) if tensor.is_shape_tensor}
        for spec in (*inputs, *outputs):
            if spec.name not in without_batch and (not spec.shape or spec.shape[0] != -1):
                raise _failed(
                    metadata.name,
                    f"tensor '{spec.name}' has shape {list(spec.shape)}, but with max_batch_size {widest} its first "
                    "dimension must be -1",
                )
    return ModelMetadata(
        name=metadata.name,
        versions=tuple(metadata.versions),
        platform=metadata.platform,
        inputs=inputs,
        outputs=outputs,
        max_batch_size=widest,
        optional_inputs=frozenset(tensor.name for tensor in config.input if tensor.optional),
        instance_count=instance_count(config),
        batchable=not reason,
        unbatchable_reason=reason,
    )


def unbatchable_reason(config: ModelConfig) -> str:
    """Returns why requests for a model that has a batch dimension must not be merged, or an empty string."""
    if config.model_transaction_policy.decoupled:
        return "the model is decoupled: a request may have any number of answers"
    if config.HasField("sequence_batching"):
        return "the model is stateful: the requests of a sequence depend on each other"
    shaped = [tensor.name for tensor in (*config.input, *config.output) if tensor.is_shape_tensor]
    if shaped:
        return f"{_names(shaped)} describes shapes, so it has no batch dimension"
    ragged = [tensor.name for tensor in config.input if tensor.allow_ragged_batch]
    if ragged:
        return f"{_names(ragged)} is ragged: its rows may differ in size"
    if config.batch_input or config.batch_output:
        return "the model takes tensors that describe the batch"
    return ""


def instance_count(config: ModelConfig) -> int:
    """Returns how many batches Triton executes at once: instances on each named GPU, else the group's count."""
    total = 0
    for group in config.instance_group:
        if not group.passive:
            total += max(group.count, 1) * max(len(group.gpus), 1)
    return max(total, 1)


def config_json(config: ModelConfig) -> bytes:
    """Returns a configuration as Triton's REST API writes it: proto field names, defaults included."""
    text = MessageToJson(config, preserving_proto_field_name=True, always_print_fields_with_no_presence=True, indent=0)
    return orjson.dumps(orjson.loads(text))


def _spec(tensor: ModelMetadataResponse.TensorMetadata, model: str) -> TensorSpec:
    datatype = DATATYPES.get(tensor.datatype)
    if datatype is None:
        raise _failed(model, f"tensor '{tensor.name}' has an unknown datatype '{tensor.datatype}'")
    return TensorSpec(tensor.name, datatype, tuple(tensor.shape))


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _failed(model: str, message: str) -> GatewayError:
    return GatewayError(ErrorCode.BACKEND_FAILED, f"model '{model}' describes itself wrongly: {message}")
