"""Where rows come from: `.npz`, a folder of `.npz`, Parquet, or `module:function`.

Always streamed in small batches.

Arrays are keyed by input name (a prefix `input.` is dropped), rows along axis 0; `label` holds what the answer should
be, `group` which rows are not independent (crops of one picture). Invariants: memory does not grow with the number of
rows; nothing pickled is ever read; every pass over a source gives the same rows in the same order.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from quantize.errors import BadInput

LABELS = ("label", "labels")
GROUP = "group"
Arrays = dict[str, NDArray[Any]]


@dataclass(slots=True)
class Batch:
    """Some rows: inputs by name; labels and groups if the source has them."""

    inputs: Arrays
    labels: NDArray[Any] | None
    groups: NDArray[Any] | None

    @property
    def rows(self) -> int:
        return len(next(iter(self.inputs.values())))


class Source:
    """A re-readable stream of rows; `name` is what messages and lineage call it."""

    def __init__(self, name: str, read: Callable[[int], Iterable[Mapping[str, NDArray[Any]]]], sha256: str) -> None:
        self.name = name
        self.sha256 = sha256
        self._read = read
        self._types: dict[str, np.dtype[Any]] = {}
        self._seen: dict[int | None, str] = {}

    def widen_to(self, types: Mapping[str, np.dtype[Any]]) -> None:
        """From now on gives integers as the model's wider integer type (files keep them small).

        No other cast is made.
        """
        self._types = dict(types)

    def batches(self, rows: int, most: int | None = None) -> Iterator[Batch]:
        """Yields batches of at most `rows` rows, `most` rows in all.

        Raises:
            BadInput: a chunk is ragged, not arrays, or cannot be read.
        """
        left = most
        seen = _Passed()
        for chunk in self._chunks(rows):
            batch = self._widened(_batch(self.name, chunk))
            for start in range(0, batch.rows, rows):
                stop = min(batch.rows, start + rows)
                if left is not None:
                    stop = min(stop, start + left)
                    if left <= 0:
                        self._compare(most, seen)
                        return
                    left -= stop - start
                part = _rows(batch, start, stop)
                seen.add(part)
                yield part
        self._compare(most, seen)

    def _chunks(self, rows: int) -> Iterator[Mapping[str, NDArray[Any]]]:
        """Yields what the source gives. Whatever goes wrong inside a caller's function is said as bad input."""
        try:
            yield from self._read(rows)
        except (BadInput, MemoryError):
            raise
        except Exception as error:
            raise BadInput(f"{self.name}: fails with {type(error).__name__}: {str(error)[:200]}") from error

    def _compare(self, most: int | None, seen: _Passed) -> None:
        """Refuses a source whose rows differ from an earlier pass's: checks and ranges would be of other rows."""
        if self._seen.setdefault(most, seen.digest()) != seen.digest():
            raise BadInput(f"{self.name}: gives other rows at every pass (fix its seed)")

    def _widened(self, batch: Batch) -> Batch:
        for name, array in batch.inputs.items():
            wanted = self._types.get(name)
            if wanted is None or array.dtype.kind not in "iu" or wanted.kind not in "iu":
                continue
            if np.can_cast(array.dtype, wanted, "safe"):
                batch.inputs[name] = array.astype(wanted)
        return batch


class _Passed:
    """A digest of the rows of one pass, whatever the batches they came in."""

    def __init__(self) -> None:
        self._hashes: dict[str, Any] = {}

    def add(self, batch: Batch) -> None:
        for name, array in batch.inputs.items():
            self._hashes.setdefault(name, hashlib.blake2b(digest_size=16)).update(np.ascontiguousarray(array).data)

    def digest(self) -> str:
        return ",".join(f"{name}:{found.hexdigest()}" for name, found in sorted(self._hashes.items()))


def open_source(where: str) -> Source:
    """Returns the source that `where` names.

    Raises:
        BadInput: there is none, or its kind is unknown.
    """
    path = Path(where)
    if path.is_dir():
        files = sorted(path.glob("*.npz"))
        if not files:
            raise BadInput(f"{where}: the folder has no .npz files")
        return Source(where, lambda rows: (c for f in files for c in _npz(f, rows)), _digest(files))
    if path.suffix == ".npz" and path.is_file():
        return Source(where, lambda rows: _npz(path, rows), _digest([path]))
    if path.suffix in (".parquet", ".pq") and path.is_file():
        return Source(where, lambda rows: _parquet(path, rows), _digest([path]))
    if ":" in where and not path.exists():
        function = _function(where)
        return Source(where, lambda rows: function(), hashlib.sha256(where.encode()).hexdigest())
    if path.exists():
        raise BadInput(f"{where}: neither .npz, .parquet nor a folder of .npz")
    raise BadInput(f"{where}: no such file or folder (a Python source is written module:function)")


def from_arrays(name: str, arrays: Mapping[str, NDArray[Any]]) -> Source:
    """Returns a source over arrays in memory."""
    digest = hashlib.sha256()
    for key in sorted(arrays):
        digest.update(key.encode() + np.ascontiguousarray(arrays[key]).tobytes())
    return Source(name, lambda rows: [arrays], digest.hexdigest())


def _npz(path: Path, rows: int) -> Iterator[Arrays]:
    """Yields chunks of an .npz without unpacking it whole: every member is read a few rows at a time."""
    try:
        with zipfile.ZipFile(path) as archive, ExitStack() as stack:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            if not members:
                raise BadInput(f"{path}: empty archive")
            streams: dict[str, IO[bytes]] = {
                key: stack.enter_context(archive.open(info)) for key, info in members.items()
            }
            heads = {key: _head(path, key, stream) for key, stream in streams.items()}
            counts = {key: head[0][0] for key, head in heads.items()}
            for key in (key for key, head in heads.items() if head[2]):
                streams[key] = _in_row_order(key, archive)
            if len(set(counts.values())) > 1:
                said = ", ".join(f"{key} {count}" for key, count in counts.items())
                raise BadInput(f"{path}: ragged, arrays have different numbers of rows ({said})")
            total = next(iter(counts.values()))
            for start in range(0, total, rows):
                count = min(rows, total - start)
                yield {key: _read_rows(path, key, streams[key], *heads[key][:2], count) for key in members}
    except (zipfile.BadZipFile, OSError, EOFError, zipfile.LargeZipFile) as error:
        raise BadInput(f"{path}: not a readable .npz ({error})") from error


def _head(path: Path, key: str, stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any], bool]:
    try:
        version = np.lib.format.read_magic(stream)
        reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = reader(stream)
    except ValueError as error:
        raise BadInput(f"{path}: {key} is not an array ({error})") from error
    if dtype.hasobject:
        raise BadInput(f"{path}: {key} holds Python objects (ragged rows?), which are never read")
    if not shape:
        raise BadInput(f"{path}: {key} is a single value, not rows")
    return shape, dtype, fortran and len(shape) > 1


def _in_row_order(key: str, archive: zipfile.ZipFile) -> IO[bytes]:
    """Returns the rows of a Fortran-ordered member one after the other; only such a member is unpacked whole."""
    with archive.open(key + ".npy") as stream:
        array = np.lib.format.read_array(stream, allow_pickle=False)
    return io.BytesIO(np.ascontiguousarray(array).tobytes())


def _read_rows(
    path: Path, key: str, stream: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any], count: int
) -> NDArray[Any]:
    size = count * int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
    data = stream.read(size)
    if len(data) != size:
        raise BadInput(f"{path}: {key} is cut off")
    return np.frombuffer(data, dtype).reshape(count, *shape[1:])


def _parquet(path: Path, rows: int) -> Iterator[Arrays]:
    """Yields record batches; a column is one input, its cells numbers or equally long lists of numbers."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise BadInput(f"{path}: Parquet needs the package pyarrow (pip install 'sluice[quantize]')") from error
    try:
        for record in pyarrow.parquet.ParquetFile(path).iter_batches(batch_size=rows):
            chunk = {}
            for name, column in zip(record.schema.names, record.columns, strict=True):
                if column.null_count:
                    raise BadInput(f"{path}: column {name!r} has empty cells")
                array = np.array(column.to_pylist())
                if array.dtype.hasobject or array.dtype.kind not in "fiub":
                    raise BadInput(f"{path}: column {name!r} is not numeric")
                kind = column.type.value_type if hasattr(column.type, "value_type") else column.type
                chunk[name] = array.astype(kind.to_pandas_dtype())
            yield chunk
    except (OSError, ValueError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"{path}: not readable Parquet, or ragged ({str(error)[:200]})") from error


def _function(where: str) -> Callable[[], Iterable[Mapping[str, NDArray[Any]]]]:
    found = load_function(where)

    def read() -> Iterable[Mapping[str, NDArray[Any]]]:
        chunks: Iterable[Mapping[str, NDArray[Any]]] = found()
        return chunks

    return read


def load_function(where: str) -> Callable[..., Any]:
    """Returns the callable that `module:name` names.

    Raises:
        BadInput: it cannot be imported, or is not callable.
    """
    module, _, name = where.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise BadInput(f"{where}: cannot be imported ({error})") from error
    if not callable(found):
        raise BadInput(f"{where}: not callable")
    return found  # type: ignore[no-any-return]


def _batch(name: str, chunk: Mapping[str, NDArray[Any]]) -> Batch:
    if not isinstance(chunk, Mapping) or not chunk:
        raise BadInput(f"{name}: gave {type(chunk).__name__}, not a mapping of arrays by input name")
    arrays = {}
    for key, value in chunk.items():
        try:
            array = np.asarray(value)
        except ValueError as error:
            raise BadInput(f"{name}: {key} is ragged or not an array of numbers") from error
        if array.dtype.hasobject or array.ndim == 0:
            raise BadInput(f"{name}: {key} is ragged or not an array of numbers")
        if array.dtype.kind not in "iufcb" and str(key) not in (*LABELS, GROUP):
            raise BadInput(f"{name}: {key} is {array.dtype}, not an array of numbers")
        if array.dtype.kind in "iufc" and not array.dtype.isnative:
            array = array.astype(array.dtype.newbyteorder("="))
        arrays[str(key).removeprefix("input.")] = array
    counts = {key: len(array) for key, array in arrays.items()}
    if len(set(counts.values())) > 1:
        raise BadInput(f"{name}: ragged, arrays have different numbers of rows ({counts})")
    labels = next((arrays.pop(key) for key in LABELS if key in arrays), None)
    groups = arrays.pop(GROUP, None)
    if groups is not None and (groups.ndim != 1 or groups.dtype.kind not in "iubUS"):
        raise BadInput(
            f"{name}: {GROUP} must be one whole number or word a row, not {groups.dtype} {list(groups.shape)}"
        )
    if not arrays:
        raise BadInput(f"{name}: has no inputs")
    return Batch(arrays, labels, groups)


def _rows(batch: Batch, start: int, stop: int) -> Batch:
    return Batch(
        {key: np.ascontiguousarray(array[start:stop]) for key, array in batch.inputs.items()},
        None if batch.labels is None else batch.labels[start:stop],
        None if batch.groups is None else batch.groups[start:stop],
    )


def _digest(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.name.encode())
        with open(path, "rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()
