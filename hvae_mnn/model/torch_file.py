"""Plain values and tensors out of a file of `torch.save`, without torch and without running code.

Loading torch takes seconds and its libraries are large; what a checkpoint holds is a dictionary and arrays. The file
is a zip of uncompressed parts: `data.pkl`, a pickle in which each tensor names its storage, and `data/N`, the bytes
of storage N. A pickle is a program: this one may make plain values and tensors, and is refused unread if it asks for
anything else. `torch.save` is documented to keep the layout; tests hold this reader against `torch.load`.
"""

import io
import pickle
import pickletools
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_REBUILD = ("torch._utils", "_rebuild_tensor_v2")
_ORDERED = ("collections", "OrderedDict")
_STORAGES: Mapping[str, str] = {
    "DoubleStorage": "f8",
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
"""Kinds of numbers that numpy knows too, by torch's name."""
_NAMES = {f"{module} {name}" for module, name in (_REBUILD, _ORDERED, *(("torch", kind) for kind in _STORAGES))}
_PLAIN = frozenset(
    "PROTO FRAME STOP MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT "
    "BINUNICODE SHORT_BINUNICODE EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST APPEND APPENDS EMPTY_DICT "
    "SETITEM SETITEMS BINPUT LONG_BINPUT MEMOIZE BINGET LONG_BINGET POP POP_MARK GLOBAL REDUCE BINPERSID".split()
)
"""What a pickle may do: no attribute is set, and only the names above are called."""


class CodeError(ValueError):
    """The file asks for something to be imported or called that no plain value needs."""


def read_torch_file(path: Path) -> Any:
    """Return what `torch.save` wrote: plain values, and tensors as arrays.

    Raises:
        CodeError: It would run code; nothing of it was run.
        ValueError: It is no such file, is damaged, or holds numbers that numpy does not know.
        OSError: It cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _Parts(archive).load()
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, pickle.UnpicklingError) as error:
        if _asks_for_code(_bytes_of_old_file(path)):
            raise CodeError(str(error)) from error
        raise ValueError(str(error)) from error
    except (KeyError, TypeError, AttributeError, IndexError, EOFError, OverflowError) as error:
        raise ValueError(str(error)) from error


class _Parts:
    """The parts of an open file; each storage is read once, however many tensors share it."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        if any(part.compress_type != zipfile.ZIP_STORED for part in archive.infolist()):
            raise ValueError("its parts are compressed: they could have any size once they are unpacked")
        found = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if not found:
            raise ValueError("it has no data.pkl")
        self._archive, self._folder = archive, found[0].removesuffix("data.pkl")
        self._swapped = (self._read_if_there("byteorder") == b"big") == (sys.byteorder == "little")
        self._storages: dict[str, NDArray[Any]] = {}

    def load(self) -> Any:
        content = self._archive.read(f"{self._folder}data.pkl")
        if _asks_for_code(content):
            raise CodeError("it names code")
        _check_operations(content)
        return _Unpickler(content, self.storage).load()

    def storage(self, kind: str, key: str) -> NDArray[Any]:
        if key not in self._storages:
            content = self._archive.read(f"{self._folder}data/{key}")
            values = np.frombuffer(bytearray(content), np.dtype(kind))
            self._storages[key] = values.byteswap(inplace=True) if self._swapped else values
        return self._storages[key]

    def _read_if_there(self, name: str) -> bytes:
        full = self._folder + name
        return self._archive.read(full) if full in self._archive.namelist() else b""


class _Unpickler(pickle.Unpickler):
    """Makes plain values, and arrays where the pickle has tensors."""

    def __init__(self, content: bytes, storage: Callable[[str, str], NDArray[Any]]) -> None:
        super().__init__(io.BytesIO(content))
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == _REBUILD:
            return _tensor
        if (module, name) == _ORDERED:
            return OrderedDict
        return _STORAGES[name]

    def persistent_load(self, pid: tuple[str, str, str, str, int]) -> NDArray[Any]:
        _, kind, key, _, _ = pid
        return self._storage(kind, key)


def _tensor(storage: NDArray[Any], offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any) -> Any:
    """Return the array that lies in a storage; one that repeats its few entries to any size is refused."""
    size = storage.itemsize
    array = np.ndarray(shape, storage.dtype, storage.data, offset * size, [stride * size for stride in strides])
    if array.nbytes > storage.nbytes:
        raise ValueError(f"an array of {array.nbytes} bytes has {storage.nbytes} in the file")
    return array


def _check_operations(content: bytes) -> None:
    for code, argument, _ in pickletools.genops(content):
        if code.name not in _PLAIN or (code.name == "LONG_BINPUT" and int(argument or 0) > len(content)):
            raise ValueError(f"its values are no plain ones ({code.name})")


def _asks_for_code(content: bytes) -> bool:
    """Whether a pickle names an object other than tensors and what they are made of; nothing is executed."""
    try:
        operations = [(code.name, argument) for code, argument, _ in pickletools.genops(content)]
    except (ValueError, StopIteration):
        return False
    return any(
        name in ("STACK_GLOBAL", "INST", "OBJ") or (name == "GLOBAL" and argument not in _NAMES)
        for name, argument in operations
    )


def _bytes_of_old_file(path: Path) -> bytes:
    """Return a file that is no zip, as pickles and torch's files of before 1.6 are; nothing of a zip."""
    return b"" if zipfile.is_zipfile(path) else path.read_bytes()
