from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from gateway.backends.triton_config import EnumName, to_json, to_text, triton_datatype
from gateway.tensors import DataType


def test_every_datatype_has_tritons_spelling() -> None:
    names = {member: triton_datatype(member) for member in DataType}
    assert names[DataType.BYTES] == "TYPE_STRING"
    assert all(name == f"TYPE_{member.value}" for member, name in names.items() if member is not DataType.BYTES)


def test_text_form_of_nested_values() -> None:
    config = {
        "name": 'a"b',
        "max_batch_size": 4,
        "input": [{"name": "X", "data_type": EnumName("TYPE_FP32"), "dims": [-1, 3], "optional": True}],
        "parameters": {"k": {"string_value": "v"}},
        "dynamic_batching": {},
    }
    assert to_text(config) == (
        'name: "a\\"b"\n'
        "max_batch_size: 4\n"
        'input {\n  name: "X"\n  data_type: TYPE_FP32\n  dims: -1\n  dims: 3\n  optional: true\n}\n'
        'parameters {\n  key: "k"\n  value {\n    string_value: "v"\n  }\n}\n'
        "dynamic_batching {\n}\n"
    )
    assert json.loads(to_json(config))["input"][0]["data_type"] == "TYPE_FP32"


@given(st.text())
def test_any_text_stays_on_one_ascii_line(text: str) -> None:
    line = to_text({"name": text})
    assert line.isascii()
    assert line.count("\n") == 1
    inside = line.removeprefix('name: "').removesuffix('"\n')
    # The escapes used are also Python's: undoing them gives the text back.
    assert inside.encode().decode("unicode_escape").encode("latin-1") == text.encode()
