"""Messages of tritonclient and the protocol: what another implementation wrote, ours must read field by field."""

from __future__ import annotations

import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from gateway._generated import model_config_pb2
from gateway._generated import open_inference_pb2 as pb

# Written by the message classes of tritonclient.
REQUEST = bytes.fromhex(
    "0a016d1201331a0361626322070a01611202080122100a0162120b10fbffffffffffffffff0122080a016312031a0178220e"
    "0a0164120921000000000000f83f22100a0165120b28ffffffffffffffffff012a180a01781204465033321a030101022208"
    "0a016b12031a01762a0d0a0173120542595445531a010132190a017912140a0e636c617373696669636174696f6e12021003"
    "3a0831323334353637383a05010000007a"
)
TYPED = bytes.fromhex(
    "0a016d2a130a0269301204424f4f4c1a01022a040a0201002a1c0a0269311204494e54381a01022a0d120bffffffffffffff"
    "ffff017f2a250a0269321205494e5436341a01022a151a13ffffffffffffffffff018080808080808080402a170a02693312"
    "0655494e5431361a01022a06220401ffff032a1e0a026934120655494e5436341a01022a0d2a0b01ffffffffffffffffff01"
    "2a190a0269351204465033321a01022a0a32080000003f000080bf2a210a0269361204465036341a01022a123a109a999999"
    "9999b93f00000000000000402a160a026937120542595445531a01022a06420042026162"
)
RESPONSE = bytes.fromhex("0a016d1201331a0361626322070a0170120208002a0d0a01791204465033321a02010232083132333435363738")
CONFIG = bytes.fromhex(
    "0a9a010a016d1201701a051a030a010220082a1f0a0178100b1802220b03ffffffffffffffffff012a030a01033001380140"
    "01320b0a0179100e1a010122016c3a0b0a016710021a02000120025a0b0a010410643204080120076202400172080a017112"
    "030a01778201130a017710021a0a0a01781205120103180120038a0106707974686f6e9a01020801a201050801120174c201"
    "020801ca010172"
)
CONFIG_SEQ = bytes.fromhex(
    "0a97010a016d1201701a051a030a010220082a1f0a0178100b1802220b03ffffffffffffffffff012a030a01033001380140"
    "01320b0a0179100e1a010122016c3a0b0a016710021a020001200262061a02080140016a042202080372080a017112030a01"
    "778201130a017710021a0a0a01781205120103180120038a0106707974686f6e9a01020801a201050801120174c201020801"
    "ca010172"
)
METADATA = bytes.fromhex(
    "0a016d1201311201321a017022160a01781204465033321a0bffffffffffffffffff01032a160a0179120542595445531a0a"
    "ffffffffffffffffff01"
)
INDEX = bytes.fromhex("0a0d0a016d1201311a0552454144590a1c0a016e1201321a0b554e415641494c41424c45220762656361757365")
LOAD = bytes.fromhex("12016d1a0e0a06636f6e66696712041a027b7d1a190a1166696c653a312f6d6f64656c2e6f6e6e78120422020001")
STATISTICS = bytes.fromhex(
    "0a340a016d12013118012002280332081a021007420208013a0608041a02100942090a03475055100118024a090a0130120432020801"
)


def as_dict(kind: type[Message], data: bytes) -> dict[str, object]:
    message = kind.FromString(data)
    assert message.SerializeToString(deterministic=True) == data or len(message.SerializeToString()) == len(data)
    return dict(MessageToDict(message, preserving_proto_field_name=True))


def test_request() -> None:
    message = pb.ModelInferRequest.FromString(REQUEST)
    assert (message.model_name, message.model_version, message.id) == ("m", "3", "abc")
    parameters = message.parameters
    assert parameters["a"].bool_param is True
    assert parameters["b"].int64_param == -5
    assert parameters["c"].string_param == "x"
    assert parameters["d"].double_param == 1.5
    assert parameters["e"].uint64_param == 2**64 - 1
    assert [(t.name, t.datatype, list(t.shape)) for t in message.inputs] == [
        ("x", "FP32", [1, 1, 2]),
        ("s", "BYTES", [1]),
    ]
    assert message.inputs[0].parameters["k"].string_param == "v"
    assert message.outputs[0].parameters["classification"].int64_param == 3
    assert list(message.raw_input_contents) == [b"12345678", b"\x01\0\0\0z"]


def test_typed_contents() -> None:
    inputs = as_dict(pb.ModelInferRequest, TYPED)["inputs"]
    assert isinstance(inputs, list)
    assert [(t["datatype"], t["contents"]) for t in inputs] == [
        ("BOOL", {"bool_contents": [True, False]}),
        ("INT8", {"int_contents": [-1, 127]}),
        ("INT64", {"int64_contents": ["-1", str(2**62)]}),
        ("UINT16", {"uint_contents": [1, 65535]}),
        ("UINT64", {"uint64_contents": ["1", str(2**64 - 1)]}),
        ("FP32", {"fp32_contents": [0.5, -1.0]}),
        ("FP64", {"fp64_contents": [0.1, 2.0]}),
        ("BYTES", {"bytes_contents": ["", "YWI="]}),
    ]


def test_response() -> None:
    assert as_dict(pb.ModelInferResponse, RESPONSE) == {
        "model_name": "m",
        "model_version": "3",
        "id": "abc",
        "parameters": {"p": {"bool_param": False}},
        "outputs": [{"name": "y", "datatype": "FP32", "shape": ["1", "2"]}],
        "raw_output_contents": ["MTIzNDU2Nzg="],
    }


def test_config() -> None:
    config = pb.ModelConfigResponse.FromString(CONFIG).config
    assert MessageToDict(config, preserving_proto_field_name=True) == {
        "name": "m",
        "platform": "p",
        "backend": "python",
        "runtime": "r",
        "max_batch_size": 8,
        "version_policy": {"specific": {"versions": ["2"]}},
        "input": [
            {
                "name": "x",
                "data_type": "TYPE_FP32",
                "format": "FORMAT_NCHW",
                "dims": ["3", "-1"],
                "reshape": {"shape": ["3"]},
                "is_shape_tensor": True,
                "allow_ragged_batch": True,
                "optional": True,
            }
        ],
        "output": [{"name": "y", "data_type": "TYPE_BF16", "dims": ["1"], "label_filename": "l"}],
        "instance_group": [{"name": "g", "count": 2, "kind": "KIND_CPU", "gpus": [0, 1]}],
        "dynamic_batching": {
            "preferred_batch_size": [4],
            "max_queue_delay_microseconds": "100",
            "default_queue_policy": {"timeout_action": "DELAY", "max_queue_size": 7},
        },
        "parameters": {"q": {"string_value": "w"}},
        "model_transaction_policy": {"decoupled": True},
        "response_cache": {"enable": True},
        "model_warmup": [
            {"name": "w", "batch_size": 2, "count": 3, "inputs": {"x": {"dims": ["3"], "zero_data": True}}}
        ],
        "batch_input": [{"kind": "BATCH_ACCUMULATED_ELEMENT_COUNT", "target_name": ["t"]}],
        "optimization": {"eager_batching": True},
    }


def test_config_keeps_what_it_does_not_know() -> None:
    config = pb.ModelConfigResponse.FromString(CONFIG_SEQ)
    assert config.config.sequence_batching.oldest.max_candidate_sequences == 3
    assert not config.config.HasField("dynamic_batching")
    assert len(config.SerializeToString()) == len(CONFIG_SEQ)
    assert b"cuda" not in str(MessageToDict(config)).encode()
    assert isinstance(config.config, model_config_pb2.ModelConfig)


@pytest.mark.parametrize(
    ("kind", "data", "expected"),
    [
        (
            pb.ModelMetadataResponse,
            METADATA,
            {
                "name": "m",
                "versions": ["1", "2"],
                "platform": "p",
                "inputs": [{"name": "x", "datatype": "FP32", "shape": ["-1", "3"]}],
                "outputs": [{"name": "y", "datatype": "BYTES", "shape": ["-1"]}],
            },
        ),
        (
            pb.RepositoryIndexResponse,
            INDEX,
            {
                "models": [
                    {"name": "m", "version": "1", "state": "READY"},
                    {"name": "n", "version": "2", "state": "UNAVAILABLE", "reason": "because"},
                ]
            },
        ),
        (
            pb.RepositoryModelLoadRequest,
            LOAD,
            {
                "model_name": "m",
                "parameters": {"config": {"string_param": "{}"}, "file:1/model.onnx": {"bytes_param": "AAE="}},
            },
        ),
        (
            pb.ModelStatisticsResponse,
            STATISTICS,
            {
                "model_stats": [
                    {
                        "name": "m",
                        "version": "1",
                        "last_inference": "1",
                        "inference_count": "2",
                        "execution_count": "3",
                        "inference_stats": {"queue": {"ns": "7"}, "cache_miss": {"count": "1"}},
                        "batch_stats": [{"batch_size": "4", "compute_infer": {"ns": "9"}}],
                        "memory_usage": [{"type": "GPU", "id": "1", "byte_size": "2"}],
                        "response_stats": {"0": {"cancel": {"count": "1"}}},
                    }
                ]
            },
        ),
    ],
)
def test_control_messages(kind: type[Message], data: bytes, expected: dict[str, object]) -> None:
    assert as_dict(kind, data) == expected
