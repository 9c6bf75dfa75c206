"""Everything that decides how a model is quantized and judged.

From the command line or a policy file (TOML or JSON).
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from pathlib import Path
from typing import Any

from quantize.errors import BadInput
from quantize.gate import GatePolicy
from quantize.metrics import metric_of
from quantize.ranges import parse_method

TARGETS = ("openvino", "onnxruntime", "tensorrt")
FALLBACKS = ("ladder", "none")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Options of `sluice quantize publish`; `targets` empty means every engine that this host can execute."""

    metric: str = "top1"
    targets: tuple[str, ...] = ()
    output: str | None = None
    outputs: tuple[str, ...] = ()
    method: str = "minmax"
    per_tensor: bool = False
    keep_float: tuple[str, ...] = ()
    fallback: str = "ladder"
    float_budget: float = 0.2
    max_loss: str = "0.01"
    fewest_rows: int = 500
    accept_small_evaluation: bool = False
    bound: str = "point"
    fewest_agreement: str = "0.97"
    fewest_coverage: float | None = None
    allow_slower: bool = False
    engines: bool = False
    force: bool = False
    max_batch_size: int = 32
    calibration_rows: int = 512
    evaluation_rows: int | None = None
    threads: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        problems = []
        for name in self.targets:
            if name not in TARGETS:
                problems.append(f"target {name!r} is not one of {', '.join(TARGETS)}")
        if self.fallback not in FALLBACKS:
            problems.append(f"fallback {self.fallback!r} is not one of {', '.join(FALLBACKS)}")
        if self.bound not in ("point", "upper"):
            problems.append(f"bound {self.bound!r} is not one of point, upper")
        for key, low, high in (("max_batch_size", 1, 4096), ("threads", 1, 256), ("calibration_rows", 1, 1 << 20),
                               ("fewest_rows", 1, 1 << 30)):  # fmt: skip
            if not low <= getattr(self, key) <= high:
                problems.append(f"{key} must lie between {low} and {high}")
        for key in ("max_loss", "fewest_agreement"):
            try:
                if not 0 < Fraction(getattr(self, key)) <= 1:
                    problems.append(f"{key} must lie between 0 and 1")
            except (ValueError, ZeroDivisionError):
                problems.append(f"{key}: {getattr(self, key)!r} is not a number")
        if not 0 <= self.float_budget < 1:
            problems.append("float_budget must lie between 0 and 1")
        if problems:
            raise BadInput(*problems)
        parse_method(self.method)
        metric_of(self.metric)

    def gate(self, *, convolutional: bool) -> GatePolicy:
        floor = self.fewest_coverage if self.fewest_coverage is not None else 0.7 if convolutional else 0.5
        return GatePolicy(
            max_loss=Fraction(self.max_loss),
            fewest_rows=self.fewest_rows,
            accept_small_evaluation=self.accept_small_evaluation,
            bound=self.bound,
            fewest_agreement=Fraction(self.fewest_agreement),
            fewest_coverage=floor,
            allow_slower=self.allow_slower,
            seed=self.seed,
        )

    def as_dict(self) -> dict[str, Any]:
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    def sha256(self) -> str:
        return hashlib.sha256(json.dumps(self.as_dict(), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Recipe:
    """One attempt's choices; `why` says which rung of the ladder it is."""

    why: str
    method: str
    per_channel: bool
    keep_float: tuple[str, ...]
    smooth: bool = False
    revert: bool = False
    dynamic: bool = False

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"keep_float": list(self.keep_float)}


def read_policy(path: Path) -> dict[str, Any]:
    """Returns the options in a TOML or JSON file.

    Raises:
        BadInput: unreadable, unknown keys, or values of the wrong type.
    """
    try:
        text = path.read_text(encoding="utf-8")
        values = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: not readable as {'JSON' if path.suffix == '.json' else 'TOML'} ({error})") from error
    if not isinstance(values, dict):
        raise BadInput(f"{path}: not an object of options")
    known = {item.name: item for item in fields(Policy)}
    problems = [f"{path}: unknown option {key!r}" for key in values if key not in known]
    found: dict[str, Any] = {}
    for key, value in values.items():
        if key not in known:
            continue
        default = known[key].default
        if key in ("max_loss", "fewest_agreement") and isinstance(value, int | float):
            value = str(value)
        if isinstance(default, tuple):
            if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
                problems.append(f"{path}: {key} must be a list of strings")
                continue
            value = tuple(value)
        elif default is not None and (
            isinstance(value, bool) != isinstance(default, bool)
            or not isinstance(value, int | float if isinstance(default, float) else type(default))
        ):
            problems.append(f"{path}: {key} must be {type(default).__name__}")
            continue
        found[key] = value
    if problems:
        raise BadInput(*problems)
    return found
