"""Reads the tensors of an old-style `.pth` state dict without torch: nothing in the file is executed.

Only an ordered dictionary of plain tensors is understood; whatever else the pickle names is refused.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantize.errors import BadInput

_MAGIC = 0x1950A86A20F9469CFC6C
_TYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8"), "HalfStorage": np.dtype("<f2")}


class _Storage:
    """A storage that is filled after the pickle was read."""

    def __init__(self, dtype: np.dtype[Any], size: int) -> None:
        self.values = np.zeros(size, dtype)


class _Tensor:
    def __init__(self, storage: _Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> None:
        self.storage, self.offset, self.size, self.stride = storage, offset, size, stride

    def array(self) -> NDArray[Any]:
        flat = self.storage.values[self.offset :]
        steps = tuple(step * flat.itemsize for step in self.stride)
        last = sum((n - 1) * s for n, s in zip(self.size, self.stride, strict=True)) if self.size else 0
        if last >= len(flat) or min((*self.size, *self.stride, 0)) < 0:
            raise BadInput("a tensor reaches beyond its storage")
        return np.ascontiguousarray(np.lib.stride_tricks.as_strided(flat, self.size, steps))


class _Reader(pickle.Unpickler):
    """Knows three names; every other one ends the reading."""

    def __init__(self, file: io.BufferedReader, storages: dict[str, _Storage]) -> None:
        super().__init__(file)
        self._storages = storages

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Tensor
        if module == "torch" and name in _TYPES:
            return _TYPES[name]
        raise BadInput(f"the file names {module}.{name}: only plain tensors are read")

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, size, view = pid
        if kind != "storage" or view is not None or not 0 <= size < 1 << 31:
            raise BadInput("the file shares storages in a way that is not read")
        return self._storages.setdefault(str(key), _Storage(dtype, size))


def read_state_dict(path: Path) -> dict[str, NDArray[Any]]:
    """Returns the arrays of a state dict by name.

    Raises:
        BadInput: another kind of file, cut off, or something in it that is no tensor.
    """
    storages: dict[str, _Storage] = {}
    try:
        with open(path, "rb") as file:
            if _Reader(file, storages).load() != _MAGIC:
                raise BadInput(f"{path}: not an old-style PyTorch file")
            for _ in range(2):
                _Reader(file, storages).load()
            found = _Reader(file, storages).load()
            for key in _Reader(file, storages).load():
                values = storages[str(key)].values
                count = int.from_bytes(file.read(8), "little")
                content = file.read(values.nbytes)
                if count != len(values) or len(content) != values.nbytes:
                    raise BadInput(f"{path}: cut off")
                values[:] = np.frombuffer(content, values.dtype)
    except (OSError, EOFError, pickle.UnpicklingError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadInput(f"{path}: not a readable state dict ({error})") from error
    if not isinstance(found, dict) or not all(isinstance(value, _Tensor) for value in found.values()):
        raise BadInput(f"{path}: not a dictionary of tensors")
    return {str(name): tensor.array() for name, tensor in found.items()}
