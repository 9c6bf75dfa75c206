"""ONNX files for tests, made of protobuf bytes by hand: only what `gateway.registry.onnx_file` reads."""

from __future__ import annotations

from collections.abc import Sequence

Shape = Sequence[int | str | None] | None


def model(
    inputs: dict[str, tuple[int, Shape]],
    outputs: dict[str, tuple[int, Shape]],
    *,
    weights: Sequence[str] = (),
    external: dict[str, str] | None = None,
    opset: int = 17,
) -> bytes:
    """Returns a model with these tensors (ONNX element type and shape); `external` maps weights to files."""
    graph = b"".join(message(1, message(4, b"Identity")) for _ in range(2)) + message(2, b"g")
    for name in weights:
        graph += message(5, number(1, 4) + number(2, 1) + message(8, name.encode()) + message(9, bytes(16)))
    for name, place in (external or {}).items():
        pairs = message(13, message(1, b"location") + message(2, place.encode()))
        graph += message(5, number(2, 1) + message(8, name.encode()) + pairs + number(14, 1))
    graph += b"".join(message(11, value(name, *spec)) for name, spec in inputs.items())
    graph += b"".join(message(12, value(name, *spec)) for name, spec in outputs.items())
    return number(1, 8) + message(2, b"tests") + message(7, graph) + message(8, number(2, opset))


def value(name: str, element: int, shape: Shape) -> bytes:
    """Returns a ValueInfoProto; shape None leaves the shape out."""
    kind = number(1, element)
    if shape is not None:
        kind += message(2, b"".join(message(1, _dimension(size)) for size in shape))
    return message(1, name.encode()) + message(2, message(1, kind))


def message(field: int, content: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(content)) + content


def number(field: int, content: int) -> bytes:
    return varint(field << 3) + varint(content)


def varint(content: int) -> bytes:
    out = bytearray()
    while content > 0x7F:
        out.append(content & 0x7F | 0x80)
        content >>= 7
    return bytes([*out, content])


def _dimension(size: int | str | None) -> bytes:
    if size is None:
        return b""
    return message(2, size.encode()) if isinstance(size, str) else number(1, size)
