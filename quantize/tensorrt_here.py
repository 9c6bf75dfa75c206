"""TensorRT 10 or 11 on this machine's GPU: whether they are there, building with them, and executing what was built.

Needs the package `tensorrt` and a GPU with its driver; where either is missing `find` says which, and nothing takes its
place. NOT RUN BY US ON A GPU: there was none. The builder's code is the one that TensorRT-RTX runs in the tests
(`quantize.tensorrt_engine`); loading and executing follow the documented interface and are tested with doubles.
"""

from __future__ import annotations

import functools
import importlib
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from quantize.cuda import Cuda, CudaError
from quantize.errors import TargetUnavailable, UnsupportedModel
from quantize.runtimes import Arrays, Feed
from quantize.tensorrt_engine import TENSORRT, BuiltEngine, Compiler, keeping_logger

MAJORS = (10, 11)


class NotHere(Exception):
    """No TensorRT can execute here; the text says why."""


class TensorRt:
    """A loaded engine of TensorRT on device 0; buffers grow with the largest feed and live as long as it does."""

    def __init__(self, engine: BuiltEngine, outputs: Sequence[str], compiler: Compiler, cuda: Cuda) -> None:
        """Raises UnsupportedModel: TensorRT does not load the engine; TargetUnavailable: CUDA fails; in their words."""
        trt = compiler.module
        self._logger = keeping_logger(trt)
        self._runtime = trt.Runtime(self._logger)
        self._engine = self._runtime.deserialize_cuda_engine(engine.plan)
        if self._engine is None:
            raise UnsupportedModel(f"TensorRT does not load its engine: {'; '.join(self._logger.errors)[:400]}")
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise UnsupportedModel(f"TensorRT cannot execute its engine: {'; '.join(self._logger.errors)[:400]}")
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        modes = {name: self._engine.get_tensor_mode(name) for name in names}
        self._inputs = [name for name in names if modes[name] == trt.TensorIOMode.INPUT]
        self._made = [name for name in names if modes[name] == trt.TensorIOMode.OUTPUT]
        self._types = {name: np.dtype(trt.nptype(self._engine.get_tensor_dtype(name))) for name in names}
        self._json = trt.LayerInformationFormat.JSON
        self._outputs, self._cuda = list(outputs), cuda
        try:
            self._stream = cuda.stream()
        except CudaError as error:
            raise TargetUnavailable(f"TensorRT cannot execute here: {error}") from error
        self._buffers: dict[str, tuple[int, int]] = {}
        self._finalizer = weakref.finalize(self, _free, cuda, self._buffers, self._stream)

    def run(self, feed: Feed) -> Arrays:
        """Returns the outputs.

        Raises:
            UnsupportedModel: shapes beyond the profile, or TensorRT fails, in its words.
            TargetUnavailable: CUDA fails, such as for want of memory.
        """
        try:
            return self._run(feed)
        except CudaError as error:
            raise TargetUnavailable(f"TensorRT cannot execute here: {error}") from error

    def _run(self, feed: Feed) -> Arrays:
        for name in self._inputs:
            array = np.ascontiguousarray(feed[name], dtype=self._types[name])
            if not self._context.set_input_shape(name, tuple(array.shape)):
                raise UnsupportedModel(
                    f"TensorRT: {name!r} of shape {list(array.shape)} is beyond the engine's profile"
                )
            self._cuda.to_device(self._buffer(name, array.nbytes), array)
        shapes = {}
        for name in self._made:
            shape = tuple(int(size) for size in self._context.get_tensor_shape(name))
            if any(size < 0 for size in shape):
                raise UnsupportedModel(f"TensorRT: the shape of {name!r} is known only after execution")
            shapes[name] = shape
            self._buffer(name, int(np.prod(shape)) * self._types[name].itemsize)
        if not self._context.execute_async_v3(self._stream):
            raise UnsupportedModel(f"TensorRT's execution failed: {'; '.join(self._logger.errors)[-400:]}")
        self._cuda.synchronize(self._stream)
        return {name: self._cuda.to_host(self._buffers[name][0], shapes[name], self._types[name])
                for name in self._outputs}  # fmt: skip

    def layers(self) -> str:
        """Returns what the engine's layers are, as the JSON of TensorRT's inspector; it was executed before."""
        inspector = self._engine.create_engine_inspector()
        # Without one, whose shapes are set, an engine with free dimensions does not say its formats.
        inspector.execution_context = self._context
        return str(inspector.get_engine_information(self._json))

    def _buffer(self, name: str, size: int) -> int:
        """Returns the address of at least `size` bytes, told to TensorRT."""
        address, room = self._buffers.get(name, (0, 0))
        if room < size or not address:
            if address:
                del self._buffers[name]
                self._cuda.free(address)
            address = self._cuda.allocate(max(size, 1))
            self._buffers[name] = (address, max(size, 1))
        if not self._context.set_tensor_address(name, address):
            raise UnsupportedModel(f"TensorRT refuses the address of {name!r}")
        return address


def _free(cuda: Cuda, buffers: dict[str, tuple[int, int]], stream: int) -> None:
    for address, _ in buffers.values():
        cuda.free(address)
    cuda.destroy(stream)


def find(
    load: Callable[[str], Any] = importlib.import_module, open_cuda: Callable[[], Cuda] = Cuda
) -> tuple[Compiler, Cuda]:
    """Returns the TensorRT of this machine, for its first GPU. Raises NotHere."""
    try:
        trt = load("tensorrt")
    except (ImportError, OSError) as error:
        raise NotHere(f"the package tensorrt cannot be used: {error}") from error
    version = str(getattr(trt, "__version__", "unknown"))
    if version.split(".")[0] not in {str(major) for major in MAJORS}:
        raise NotHere(f"this is TensorRT {version}, not 10 or 11")
    if not hasattr(trt, "Builder") or not hasattr(trt, "OnnxParser"):
        raise NotHere(f"this TensorRT {version} has no builder (a lean or dispatch runtime)")
    try:
        cuda = open_cuda()
        return Compiler(TENSORRT, trt, cuda.capability()), cuda
    except CudaError as error:
        raise NotHere(f"TensorRT {version} is installed and there is no GPU: {error}") from error


@functools.cache
def here() -> tuple[Compiler, Cuda] | str:
    """Returns `find`'s answer, or why there is none; asked once a process."""
    try:
        return find()
    except NotHere as error:
        return str(error)
