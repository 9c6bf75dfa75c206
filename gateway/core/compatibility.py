"""Whether a version is what its manifest says, and whether callers of the version before it can go on.

Both return sentences, one for each problem; none means yes. Shapes include the batch dimension; -1 stands for any size.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.messages import ModelMetadata
from gateway.tensors import TensorSpec


def differences(recorded: ModelMetadata, found: ModelMetadata) -> list[str]:
    """Returns how what is loaded differs from what the registry recorded of it."""
    problems = []
    if recorded.max_batch_size != found.max_batch_size:
        problems.append(f"max_batch_size is {found.max_batch_size}, recorded is {recorded.max_batch_size}")
    for what, recorded_specs, found_specs in (
        ("input", recorded.inputs, found.inputs),
        ("output", recorded.outputs, found.outputs),
    ):
        there = {spec.name: spec for spec in found_specs}
        for spec in recorded_specs:
            other = there.pop(spec.name, None)
            if other is None:
                problems.append(f"{what} '{spec.name}' is recorded but missing")
            elif (spec.datatype, spec.shape) != (other.datatype, other.shape):
                problems.append(f"{what} '{spec.name}' is {_shown(other)}, recorded is {_shown(spec)}")
        problems += [f"{what} '{name}' is not recorded" for name in there]
    return problems


def breaking_changes(old: ModelMetadata, new: ModelMetadata) -> list[str]:
    """Returns what would break callers of `old` if `new` answered them: less is taken, or less is given."""
    problems = []
    taken, given = _by_name(new.inputs), _by_name(new.outputs)
    for spec in old.inputs:
        other = taken.pop(spec.name, None)
        if other is None:
            problems.append(f"input '{spec.name}' is gone")
        elif other.datatype is not spec.datatype or not _covers(other.shape, spec.shape):
            problems.append(f"input '{spec.name}' takes {_shown(other)} instead of {_shown(spec)}")
        elif spec.name in old.optional_inputs and spec.name not in new.optional_inputs:
            problems.append(f"input '{spec.name}' is no longer optional")
    problems += [f"input '{name}' is new and not optional" for name in taken if name not in new.optional_inputs]
    for spec in old.outputs:
        other = given.get(spec.name)
        if other is None:
            problems.append(f"output '{spec.name}' is gone")
        elif other.datatype is not spec.datatype or not _covers(spec.shape, other.shape):
            problems.append(f"output '{spec.name}' gives {_shown(other)} instead of {_shown(spec)}")
    if (old.max_batch_size > 0) != (new.max_batch_size > 0):
        problems.append(f"requests {'lose their' if new.max_batch_size == 0 else 'get a'} batch dimension")
    elif new.max_batch_size < old.max_batch_size:
        problems.append(f"requests may have {new.max_batch_size} rows instead of {old.max_batch_size}")
    return problems


def _by_name(specs: Sequence[TensorSpec]) -> dict[str, TensorSpec]:
    return {spec.name: spec for spec in specs}


def _covers(wide: tuple[int, ...], narrow: tuple[int, ...]) -> bool:
    """Whether every shape that fits `narrow` fits `wide`."""
    return len(wide) == len(narrow) and all(w in (-1, n) for w, n in zip(wide, narrow, strict=True))


def _shown(spec: TensorSpec) -> str:
    return f"{spec.datatype.value} {list(spec.shape)}"
