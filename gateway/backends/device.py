"""Whether a TensorRT engine fits the machine that would execute it: the pre-flight, before Triton sees the version.

An engine (a plan) is compiled: it runs on the TensorRT version that built it (or, if it was built version-compatible,
on later ones of the same major version), on the compute capability that it was built for (or, if it was built
hardware-compatible, on every one from 8.0), and for the shapes of its optimization profile. TensorRT says most of this
only when it loads the engine, and some of it only when a request is beyond the profile; so it is decided here, from the
manifest's words and what is known of the machine. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

HARDWARE_COMPATIBLE_FROM = (8, 0)
_KNOWN = 3


class ProfileDescription(Protocol):
    """The smallest, best and largest shape of one input, rows first where the version batches."""

    @property
    def smallest(self) -> tuple[int, ...]: ...
    @property
    def largest(self) -> tuple[int, ...]: ...


class EngineDescription(Protocol):
    """What a manifest says of an engine."""

    @property
    def runtime(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def compute_capability(self) -> str: ...
    @property
    def version_compatible(self) -> bool: ...
    @property
    def hardware_compatible(self) -> bool: ...
    @property
    def profiles(self) -> Mapping[str, ProfileDescription]: ...


class ShapedInput(Protocol):
    """An input of the version; the shape is without rows where the version batches."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What executes engines on one Triton: compute capabilities of its GPUs ("9.0"), and the exact versions of the
    runtimes by name ("tensorrt", "tensorrt-rtx"). Nothing at all is a machine without a GPU."""

    compute_capabilities: tuple[str, ...] = ()
    runtimes: Mapping[str, str] | None = None


NO_DEVICE = Device()
_NAMES = {"tensorrt": "TensorRT", "tensorrt-rtx": "TensorRT-RTX"}


def misfits(
    engine: EngineDescription, inputs: tuple[ShapedInput, ...], max_batch_size: int, device: Device
) -> list[str]:
    """Returns every reason why the engine cannot serve there; empty if it can."""
    return [
        *_hardware(engine, device),
        *_version(engine, (device.runtimes or {}).get(engine.runtime)),
        *_profiles(engine, inputs, max_batch_size),
    ]


def _hardware(engine: EngineDescription, device: Device) -> list[str]:
    wanted = engine.compute_capability
    if not device.compute_capabilities:
        return [f"there is no GPU here, it was built for compute capability {wanted}"]
    if wanted in device.compute_capabilities:
        return []
    found = ", ".join(device.compute_capabilities)
    if not engine.hardware_compatible:
        return [f"it was built for compute capability {wanted}, the GPU here has {found}"]
    if any(numbers(one)[:2] >= HARDWARE_COMPATIBLE_FROM for one in device.compute_capabilities):
        return []
    return [f"it was built for compute capability 8.0 and later, the GPU here has {found}"]


def _version(engine: EngineDescription, found: str | None) -> list[str]:
    name = _NAMES.get(engine.runtime, engine.runtime)
    if found is None:
        return [f"there is no {name} here, it was built by {name} {engine.version}"]
    if _same(engine.version, found):
        return []
    if not engine.version_compatible:
        return [f"it was built by {name} {engine.version} and runs on no other, here is {found}"]
    built, here = numbers(engine.version), numbers(found)
    known = min(len(built), len(here))
    if built[:1] == here[:1] and here[:known] >= built[:known]:
        return []
    return [f"it was built by {name} {engine.version} and runs on later {name} {built[0]} only, here is {found}"]


def _same(built: str, here: str) -> bool:
    """Versions are compared as far as both are known: a library's file name has three numbers, a package four."""
    one, other = numbers(built), numbers(here)
    known = min(len(one), len(other))
    return built == here or (known >= _KNOWN and one[:known] == other[:known])


def _profiles(engine: EngineDescription, inputs: tuple[ShapedInput, ...], max_batch_size: int) -> list[str]:
    problems = []
    for one in inputs:
        profile = engine.profiles.get(one.name)
        if profile is None:
            if max_batch_size > 0 or -1 in one.shape:
                problems.append(f"it has no profile for '{one.name}'")
            continue
        wanted = (-1, *one.shape) if max_batch_size > 0 else one.shape
        if len(profile.smallest) != len(wanted):
            problems.append(f"its profile of '{one.name}' has {len(profile.smallest)} dimensions, not {len(wanted)}")
            continue
        low, high = profile.smallest, profile.largest
        if max_batch_size > 0 and (low[0] > 1 or high[0] < max_batch_size):
            problems.append(
                f"its profile of '{one.name}' takes {low[0]} to {high[0]} rows, the version takes 1 to {max_batch_size}"
            )
        first = 1 if max_batch_size > 0 else 0
        for size, least, most in zip(wanted[first:], low[first:], high[first:], strict=True):
            if size != -1 and not least <= size <= most:
                problems.append(f"its profile of '{one.name}' takes {least} to {most} where the version has {size}")
    return problems


def numbers(version: str) -> tuple[int, ...]:
    """Returns "10.13.2" as (10, 13, 2); what is no number ends it."""
    found = []
    for part in version.split("."):
        if not (part.isascii() and part.isdigit()):
            break
        found.append(int(part))
    return tuple(found)
