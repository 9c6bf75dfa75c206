"""The states of all random sources of a program, for its checkpoints."""

from __future__ import annotations

import random
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np


def capture(generators: Mapping[str, np.random.Generator] | None = None) -> dict[str, Any]:
    """Returns the states of Python's and numpy's global sources, of torch's if it is loaded, and of `generators`."""
    found: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "generators": {name: generator.bit_generator.state for name, generator in (generators or {}).items()},
    }
    if (torch := sys.modules.get("torch")) is not None:
        found["torch"] = torch.get_rng_state().numpy()
        if torch.cuda.is_available():
            found["cuda"] = [state.numpy() for state in torch.cuda.get_rng_state_all()]
    return found


def restore(state: Mapping[str, Any], generators: Mapping[str, np.random.Generator] | None = None) -> None:
    """Sets every source to what `capture` found. Raises KeyError if one of `generators` was not captured."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    for name, generator in (generators or {}).items():
        generator.bit_generator.state = state["generators"][name]
    if (torch := sys.modules.get("torch")) is not None and "torch" in state:
        torch.set_rng_state(torch.from_numpy(state["torch"]))
        if "cuda" in state and torch.cuda.is_available():
            torch.cuda.set_rng_state_all([torch.from_numpy(one) for one in state["cuda"]])
