"""Plain values and tensors out of a file of `torch.save`, without torch and without running code.

Loading torch takes seconds and its libraries are large; what a checkpoint holds is a dictionary and arrays. The file
is a zip of uncompressed parts: `data.pkl`, a pickle in which each tensor names its storage, and `data/N`, the bytes
of storage N. A pickle is a program: this one may make plain values and tensors, and is refused unread if it asks for
anything else. What torch itself would refuse is refused too. Tests hold this reader against `torch.load`.
"""

import io
import pickle
import pickletools
import re
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
_OTHER_TENSORS = re.compile(r"torch \w+Storage|torch\._utils _rebuild_\w+|torch\._tensor _rebuild_\w+")
_PLAIN = frozenset(
    "PROTO FRAME STOP MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT "
    "BINUNICODE SHORT_BINUNICODE EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST APPEND APPENDS EMPTY_DICT "
    "SETITEM SETITEMS BINPUT LONG_BINPUT MEMOIZE BINGET LONG_BINGET POP POP_MARK GLOBAL REDUCE BINPERSID".split()
)
"""What a pickle may do: no attribute is set, and only the names above are called."""
_CALLS = ("STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "BUILD")
_LARGEST = 2**24
"""Most bytes of a pickle: it holds names and shapes, the arrays lie beside it. Chosen."""
_MOST_TUPLES = 20_000
"""A tensor has a handful; Python hashes a tuple of tuples by recursion, without a limit of its own. Chosen."""


class CodeError(ValueError):
    """The file asks for something to be imported or called that no plain value needs."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of numbers, as a pickle names it."""

    dtype: str


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
        if _old_file_asks_for_code(path):
            raise CodeError(str(error)) from error
        raise ValueError(str(error)) from error
    except (KeyError, TypeError, AttributeError, IndexError, EOFError, OverflowError, MemoryError) as error:
        raise ValueError(str(error)) from error


class _Parts:
    """The parts of an open file; each storage is read once, however many tensors share it."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        if any(part.compress_type != zipfile.ZIP_STORED for part in archive.infolist()):
            raise ValueError("its parts are compressed: they could have any size once they are unpacked")
        found = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(found) != 1:
            raise ValueError(f"it has {len(found)} parts data.pkl instead of one")
        self._archive, self._folder = archive, found[0].removesuffix("data.pkl")
        order = self._read_if_there("byteorder") or b"little"
        if order not in (b"little", b"big"):
            raise ValueError(f"its byte order is {order[:20]!r}")
        self._swapped = order != sys.byteorder.encode()
        self._storages: dict[str, NDArray[Any]] = {}

    def load(self) -> Any:
        name = f"{self._folder}data.pkl"
        if self._archive.getinfo(name).file_size > _LARGEST:
            raise ValueError(f"its data.pkl has more than {_LARGEST} bytes")
        content = self._archive.read(name)
        _check_operations(content)
        return _Unpickler(content, self.storage).load()

    def storage(self, kind: _Kind, key: str, count: int) -> NDArray[Any]:
        if key not in self._storages:
            content = self._archive.read(f"{self._folder}data/{key}")
            values = np.frombuffer(bytearray(content), np.dtype(kind.dtype))
            self._storages[key] = values.byteswap(inplace=True) if self._swapped else values
        storage = self._storages[key]
        if storage.dtype != np.dtype(kind.dtype) or len(storage) != count:
            raise ValueError(f"data/{key} holds {len(storage)} of {storage.dtype}; its tensors need {count}")
        return storage

    def _read_if_there(self, name: str) -> bytes:
        full = self._folder + name
        return self._archive.read(full) if full in self._archive.namelist() else b""


class _Unpickler(pickle.Unpickler):
    """Makes plain values, and arrays where the pickle has tensors."""

    def __init__(self, content: bytes, storage: Callable[[_Kind, str, int], NDArray[Any]]) -> None:
        super().__init__(io.BytesIO(content))
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == _REBUILD:
            return _tensor
        return OrderedDict if (module, name) == _ORDERED else _Kind(_STORAGES[name])

    def persistent_load(self, pid: tuple[str, _Kind, str, str, int]) -> NDArray[Any]:
        _, kind, key, _, count = pid
        if not isinstance(kind, _Kind):
            raise TypeError(f"a storage of {kind!r}")
        return self._storage(kind, key, count)


def _tensor(
    storage: NDArray[Any],
    offset: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    requires_grad: bool = False,
    hooks: object = None,
    metadata: object = None,
) -> NDArray[Any]:
    """Return the array that lies in a storage; one that repeats its few entries to any size is refused."""
    if metadata:
        raise ValueError("a tensor is a view that changes its numbers, by sign or conjugation")
    if any(stride < 0 for stride in strides):
        raise ValueError("a tensor runs backwards")
    size = storage.itemsize
    array = np.ndarray(shape, storage.dtype, storage.data, offset * size, [stride * size for stride in strides])
    if array.nbytes > storage.nbytes:
        raise ValueError(f"an array of {array.nbytes} bytes has {storage.nbytes} in the file")
    return array


def _check_operations(content: bytes) -> None:
    """Refuse a pickle that makes anything but plain values and tensors; nothing is executed.

    Raises:
        CodeError: It names something else to be imported or called.
        ValueError: It is damaged, or its values are of other kinds.
    """
    tuples = 0
    for code, argument, _ in pickletools.genops(content):
        if code.name == "GLOBAL" and argument not in _NAMES:
            if _OTHER_TENSORS.fullmatch(str(argument)):
                raise ValueError(f"it holds {argument}, no plain tensor of numbers that numpy knows")
            raise CodeError(f"it names {argument}")
        if code.name in _CALLS:
            raise CodeError(f"it calls ({code.name})")
        tuples += code.name.startswith("TUPLE")
        if code.name not in _PLAIN or tuples > _MOST_TUPLES:
            raise ValueError(f"its values are no plain ones ({code.name})")
        if code.name == "LONG_BINPUT" and int(argument or 0) > len(content):
            raise ValueError("its memory would be larger than the file")


def _old_file_asks_for_code(path: Path) -> bool:
    """Whether a file that is no zip is a pickle, as torch's files of before 1.6 are, that names something to call."""
    try:
        with path.open("rb") as file:
            content = file.read(2**20)
        if not content.startswith(pickle.PROTO):
            return False
        return any(
            code.name == "STACK_GLOBAL" or (code.name == "GLOBAL" and argument not in _NAMES)
            for code, argument, _ in pickletools.genops(content)
        )
    except ValueError:
        return False
