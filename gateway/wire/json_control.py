"""The small JSON answers of the REST API: server and model metadata, the repository index."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import orjson

from gateway.messages import ModelMetadata
from gateway.tensors import Buffer, TensorSpec
from gateway.wire.json_document import parse_json
from gateway.wire.proto_control import ModelIndex


def metadata_json(metadata: ModelMetadata) -> bytes:
    """Returns OIP's model metadata object."""
    return orjson.dumps(
        {
            "name": metadata.name,
            "versions": metadata.versions,
            "platform": metadata.platform,
            "inputs": [_tensor(spec) for spec in metadata.inputs],
            "outputs": [_tensor(spec) for spec in metadata.outputs],
        }
    )


def server_metadata_json(name: str, version: str, extensions: Sequence[str]) -> bytes:
    """Returns OIP's server metadata object."""
    return orjson.dumps({"name": name, "version": version, "extensions": list(extensions)})


def repository_index_json(models: Iterable[ModelIndex]) -> bytes:
    """Returns the repository index as Triton writes it: empty fields are left out."""
    fields = ("name", "version", "state", "reason")
    return orjson.dumps([{field: value for field in fields if (value := getattr(m, field))} for m in models])


def decode_repository_index_json(body: Buffer) -> bool:
    """Returns whether only models that are ready are asked for; an empty body asks for all.

    Raises:
        GatewayError: INVALID_REQUEST for malformed JSON.
    """
    if not body:
        return False
    document = parse_json(body)
    return isinstance(document, dict) and document.get("ready") is True


def _tensor(spec: TensorSpec) -> dict[str, object]:
    return {"name": spec.name, "datatype": spec.datatype.value, "shape": spec.shape}
