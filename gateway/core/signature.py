"""What a request must look like for a model version, and which requests may share a batch.

A head is validated once and the result remembered (`CheckedHead`); per request only the sizes of the data are compared.
Nothing here raises anything but GatewayError INVALID_REQUEST, whatever a client sends, and nothing enters a batch that
did not pass.

The signature is everything that may change an answer: model, resolved version, every input's name, type and shape
without axis 0 (in the order of the head, which is the order of the merged chunks), the requested outputs and every
parameter that is not about scheduling. Requests with equal signatures may be merged; a string, so that its hash is
computed once and equality of unequal strings costs little.
"""

from __future__ import annotations

from gateway.core.bytes_elements import boundaries
from gateway.errors import GatewayError, invalid
from gateway.messages import ModelMetadata, Parameters, RequestHead
from gateway.tensors import Buffer, TensorSpec, byte_size, element_count

_SCHEDULING_PARAMETERS = frozenset({"timeout", "priority", "binary_data_output"})
"""Request parameters that say when or in which form to answer, not what."""
_OWN_PREFIX = "sluice_"
"""Parameters of such a name are the gateway's alone (a sticky key, say) and are not handed to the model."""
_WIRE_PARAMETERS = frozenset({"binary_data_size"})
"""Input parameters that describe the wire form only."""
_MAX_RANK = 64
_MAX_ELEMENTS = 1 << 40
_SHOWN = 200


class CheckedHead:
    """What validation found out about one head for one version; reused by every request with that head.

    `rows` is the number of rows (1 for models without a batch axis); `sizes` the raw bytes of each input (None for
    BYTES), `counts` its elements, `total` the sum of the known sizes. `batchable` says whether requests with this head
    may be merged with others at all; `signature` with which others (None: with none).
    """

    __slots__ = ("batchable", "counts", "has_bytes", "names", "rows", "signature", "sizes", "total")

    def __init__(
        self,
        rows: int,
        sizes: tuple[int | None, ...],
        counts: tuple[int, ...],
        names: tuple[str, ...],
        signature: str | None,
        batchable: bool,
    ) -> None:
        self.rows = rows
        self.sizes = sizes
        self.counts = counts
        self.names = names
        self.signature = signature
        self.batchable = batchable
        self.has_bytes = None in sizes
        self.total = sum(size for size in sizes if size is not None)


def is_sequence(head: RequestHead) -> bool:
    """Whether a request belongs to a sequence: state on the backend ties it to others, so it is never batched here."""
    return any(name.startswith("sequence_") for name in head.parameters)


def signature(head: RequestHead, version: int | str) -> str:
    """Returns the batch key of a head for a resolved version; requests with different keys never share a batch."""
    return repr(
        (
            head.model_name,
            str(version),
            [(spec.name, spec.datatype.value, spec.shape[1:], len(spec.shape)) for spec in head.inputs],
            [(output.name, output.class_count) for output in head.outputs],
            _canonical(head.parameters, _SCHEDULING_PARAMETERS),
            sorted(
                (name, found)
                for name, parameters in head.input_parameters.items()
                if (found := _canonical(parameters, _WIRE_PARAMETERS))
            ),
        )
    )


def _canonical(parameters: Parameters, ignored: frozenset[str]) -> list[tuple[str, str]]:
    """Returns parameters by name; `repr` keeps 1, 1.0, True and "1" apart and makes NaN equal to itself."""
    return sorted(
        (name, repr(value))
        for name, value in parameters.items()
        if name not in ignored and not name.startswith(_OWN_PREFIX)
    )


def validate_head(head: RequestHead, metadata: ModelMetadata, version: int | str | None = None) -> CheckedHead:
    """Checks a head against a version's metadata.

    `version` is the resolved one; by default the (only) one that the metadata is about.

    Raises:
        GatewayError: INVALID_REQUEST naming the input or output and what is wrong with it.
    """
    has_batch_axis = metadata.max_batch_size > 0
    specs = {spec.name: spec for spec in metadata.inputs}
    seen: set[str] = set()
    rows = 0
    first = ""
    for given in head.inputs:
        spec = specs.get(given.name)
        if spec is None:
            raise invalid(
                f"unexpected input '{_shown(given.name)}' for model '{metadata.name}': it takes {_listed(specs)}"
            )
        if given.name in seen:
            raise invalid(f"input '{given.name}' is given twice")
        seen.add(given.name)
        _check_tensor(given, spec, has_batch_axis)
        if has_batch_axis:
            if first and given.shape[0] != rows:
                raise invalid(
                    f"input '{given.name}' has {_dimension(given.shape[0])} rows, but input '{first}' has {rows}: "
                    "all inputs must agree in their first dimension"
                )
            first, rows = first or given.name, given.shape[0]
    for name in specs:
        if name not in seen and name not in metadata.optional_inputs:
            raise invalid(f"input '{name}' of model '{metadata.name}' is missing")
    if has_batch_axis:
        if not seen:
            raise invalid(f"model '{metadata.name}' needs at least one input")
        if rows > metadata.max_batch_size:
            raise invalid(
                f"input '{first}' has {_dimension(rows)} rows, but model '{metadata.name}' takes at most "
                f"{metadata.max_batch_size} per request"
            )
    _check_outputs(head, metadata)
    resolved = version if version is not None else ",".join(metadata.versions)
    batchable = has_batch_axis and metadata.batchable and not is_sequence(head)
    return CheckedHead(
        rows if has_batch_axis else 1,
        tuple(byte_size(spec) for spec in head.inputs),
        tuple(element_count(spec.shape) for spec in head.inputs),
        tuple(spec.name for spec in head.inputs),
        signature(head, resolved) if batchable else None,
        batchable,
    )


def check_data(checked: CheckedHead, data: list[Buffer]) -> int:
    """Compares a request's data with what its head announced; returns its size in bytes.

    Raises:
        GatewayError: INVALID_REQUEST naming the input, the size it has and the size it should have.
    """
    sizes = checked.sizes
    if len(data) != len(sizes):
        raise invalid(f"the request announces {len(sizes)} inputs but carries data for {len(data)}")
    if checked.has_bytes:
        return _check_mixed(checked, data)
    for chunk, size in zip(data, sizes):  # noqa: B905 - lengths were just compared; this runs once per request
        if len(chunk) != size:
            raise _wrong_size(checked, data)
    return checked.total


def validate(head: RequestHead, data: list[Buffer], metadata: ModelMetadata) -> int:
    """Checks a whole request at once and returns its rows.

    Raises:
        GatewayError: INVALID_REQUEST.
    """
    checked = validate_head(head, metadata)
    check_data(checked, data)
    return checked.rows


def _check_tensor(given: TensorSpec, spec: TensorSpec, has_batch_axis: bool) -> None:
    name = given.name
    if given.datatype is not spec.datatype:
        raise invalid(f"input '{name}' has type {given.datatype.value}, but the model takes {spec.datatype.value}")
    shape, wanted = given.shape, spec.shape
    if len(shape) > _MAX_RANK or len(shape) != len(wanted):
        raise invalid(
            f"input '{name}' has {len(shape)} dimensions, but the model takes {len(wanted)}: {_shape(wanted)}"
            + (" (the first is the batch)" if has_batch_axis else "")
        )
    for axis, (dimension, expected) in enumerate(zip(shape, wanted, strict=True)):
        if dimension < 0:
            raise invalid(f"input '{name}' has a negative dimension: {_shape(shape)}")
        if has_batch_axis and axis == 0:
            if dimension < 1:
                raise invalid(f"input '{name}' has no rows: {_shape(shape)}")
        elif expected != -1 and dimension != expected:
            raise invalid(
                f"input '{name}' has shape {_shape(shape)}, but the model takes {_shape(wanted)}: "
                f"dimension {axis} must be {expected}"
            )
    if element_count(shape) > _MAX_ELEMENTS:
        raise invalid(f"input '{name}' is too large: {_shape(shape)}")


def _check_outputs(head: RequestHead, metadata: ModelMetadata) -> None:
    known = {spec.name: spec for spec in metadata.outputs}
    seen: set[str] = set()
    for output in head.outputs:
        if output.name not in known:
            raise invalid(
                f"unexpected output '{_shown(output.name)}' for model '{metadata.name}': it gives {_listed(known)}"
            )
        if output.name in seen:
            raise invalid(f"output '{output.name}' is requested twice")
        if output.class_count < 0:
            raise invalid(f"output '{output.name}': the number of classes must not be negative")
        seen.add(output.name)


def _check_mixed(checked: CheckedHead, data: list[Buffer]) -> int:
    total = 0
    for index, (chunk, size) in enumerate(zip(data, checked.sizes, strict=True)):
        total += len(chunk)
        if size is not None:
            if len(chunk) != size:
                raise _wrong_size(checked, data)
            continue
        try:
            boundaries(chunk, (checked.counts[index],))
        except ValueError as error:
            raise invalid(f"input '{checked.names[index]}': {error}") from None
    return total


def _wrong_size(checked: CheckedHead, data: list[Buffer]) -> GatewayError:
    for name, chunk, size in zip(checked.names, data, checked.sizes, strict=True):
        if size is not None and len(chunk) != size:
            return invalid(f"input '{name}' has {len(chunk)} bytes of data, but its shape and type need {size}")
    return invalid("the data does not have the announced sizes")


def _listed(names: dict[str, TensorSpec]) -> str:
    return _shown(", ".join(f"'{name}'" for name in names)) or "none"


def _shape(shape: tuple[int, ...]) -> str:
    return _shown("[" + ", ".join(map(_dimension, shape[:_MAX_RANK])) + "]")


def _dimension(value: int) -> str:
    """Returns a dimension as text; Python refuses to print integers of thousands of digits."""
    return str(value) if value.bit_length() <= 64 else "(huge)"


def _shown(text: str) -> str:
    """Returns client text cut to a length that is fit for a message."""
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
