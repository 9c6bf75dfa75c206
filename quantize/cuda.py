"""The few calls of the CUDA runtime that executing an engine needs, through ctypes: no package beyond the library.

Every call that fails raises `CudaError` with CUDA's own words.
"""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LIBRARIES = ("libcudart.so.13", "libcudart.so.12")
_MAJOR, _MINOR = 75, 76
"""cudaDevAttrComputeCapabilityMajor and -Minor."""
_TO_DEVICE, _TO_HOST = 1, 2


class CudaError(Exception):
    """There is no usable CUDA here, or a call failed; the text says which and why."""


class Cuda:
    """Device 0 of the CUDA runtime; addresses are integers."""

    def __init__(self, library: Any = None) -> None:
        """Raises CudaError: no library, no driver or no GPU."""
        self._library = library if library is not None else _load()
        count = ctypes.c_int()
        self._call("cudaGetDeviceCount", ctypes.byref(count))
        if count.value < 1:
            raise CudaError("CUDA sees no GPU")
        self._call("cudaSetDevice", ctypes.c_int(0))

    def capability(self) -> str:
        """Returns the compute capability of device 0, such as "9.0"."""
        return ".".join(str(self._attribute(which)) for which in (_MAJOR, _MINOR))

    def allocate(self, size: int) -> int:
        address = ctypes.c_void_p()
        self._call("cudaMalloc", ctypes.byref(address), ctypes.c_size_t(size))
        return int(address.value or 0)

    def free(self, address: int) -> None:
        self._call("cudaFree", ctypes.c_void_p(address))

    def stream(self) -> int:
        stream = ctypes.c_void_p()
        self._call("cudaStreamCreate", ctypes.byref(stream))
        return int(stream.value or 0)

    def destroy(self, stream: int) -> None:
        self._call("cudaStreamDestroy", ctypes.c_void_p(stream))

    def synchronize(self, stream: int) -> None:
        self._call("cudaStreamSynchronize", ctypes.c_void_p(stream))

    def to_device(self, address: int, array: NDArray[Any]) -> None:
        """Copies a contiguous array; returns when that is done."""
        self._copy(address, array.ctypes.data, array.nbytes, _TO_DEVICE)

    def to_host(self, address: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        array = np.empty(shape, dtype)
        self._copy(array.ctypes.data, address, array.nbytes, _TO_HOST)
        return array

    def _copy(self, target: int, source: int, size: int, kind: int) -> None:
        addresses = (ctypes.c_void_p(target), ctypes.c_void_p(source))
        self._call("cudaMemcpy", *addresses, ctypes.c_size_t(size), ctypes.c_int(kind))

    def _attribute(self, which: int) -> int:
        value = ctypes.c_int()
        self._call("cudaDeviceGetAttribute", ctypes.byref(value), ctypes.c_int(which), ctypes.c_int(0))
        return value.value

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._library, name)(*arguments)
        if code != 0:
            describe = self._library.cudaGetErrorString
            describe.restype = ctypes.c_char_p
            raise CudaError(f"{name}: {(describe(code) or b'unknown').decode()} ({code})")


def _load() -> ctypes.CDLL:
    problems = ["no CUDA runtime library"]
    for path in _candidates():
        try:
            return ctypes.CDLL(path)
        except OSError as error:
            problems.append(str(error))
    raise CudaError(problems[-1])


def _candidates() -> Iterator[str]:
    """Yields what the wheels of CUDA 13 and 12 bring, then what the loader finds."""
    found = importlib.util.find_spec("nvidia")
    for root in (found.submodule_search_locations or ()) if found else ():
        for folder, library in zip(("cu13/lib", "cuda_runtime/lib"), _LIBRARIES, strict=True):
            path = Path(root) / folder / library
            if path.is_file():
                yield str(path)
    yield from _LIBRARIES
