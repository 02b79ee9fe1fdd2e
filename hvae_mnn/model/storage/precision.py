"""Rounding of weights to 16 bits, and bfloat16 weights packed into fewer.

A bfloat16 is the upper half of a float32: sign, 8 bits of exponent, 7 of mantissa. It reaches as far
as a float32 and is eight times as coarse as a float16 where both reach. Trained weights use few of its
exponents: the high bytes, taken apart from the low ones, need about 3 bits each.
"""

import math
import zlib

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.errors import CheckpointError
from hvae_mnn.model.config import PRECISIONS

_HIGHEST_RATIO = 8  # of bytes to packed bytes: a Huffman code has at least one bit


def round_weight(value: NDArray[np.float32], precision: str) -> NDArray[np.float32]:
    """Return a weight rounded to nearest, ties to even, of the same shape; what is too large becomes infinite.

    Raises:
        CheckpointError: There is no such precision.
    """
    if precision not in PRECISIONS:
        raise CheckpointError(f"precision is {precision!r}; expected one of {', '.join(PRECISIONS)}. Change it.")
    if precision == "float32":
        return value
    if precision == "float16":
        with np.errstate(over="ignore"):
            return value.astype(np.float16).astype(np.float32)
    bits = value.astype(np.float32).view(np.uint32)
    even = (bits >> np.uint32(16)) & np.uint32(1)
    kept = (bits + np.uint32(0x7FFF) + even) & np.uint32(0xFFFF0000)
    return kept.view(np.float32)


def pack(value: NDArray[np.float32]) -> bytes:
    """Return bfloat16 values as a zlib stream: all high bytes, then all low ones, in the order of rows.

    Huffman codes alone, without repeats: they are the smaller for weights, and thirty times as fast.
    """
    bits = value.astype(np.float32).view(np.uint32)
    high, low = (bits >> np.uint32(24)).astype(np.uint8), (bits >> np.uint32(16)).astype(np.uint8)
    packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_HUFFMAN_ONLY)
    return packer.compress(high.tobytes() + low.tobytes()) + packer.flush()


def unpack(stream: bytes, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return the values, of a shape known beforehand, that `pack` packed.

    No more memory is taken than the shape needs, nor more than a stream of this length can hold.

    Raises:
        ValueError: The stream is damaged or holds more or less.
    """
    count = math.prod(shape)
    if 2 * count > _HIGHEST_RATIO * len(stream):
        raise ValueError(f"has {len(stream)} packed bytes; too few for the shape {shape} that config says")
    unpacker = zlib.decompressobj()
    try:
        content = unpacker.decompress(stream, 2 * count + 1)
    except zlib.error as error:
        raise ValueError(f"is damaged ({error})") from error
    if len(content) != 2 * count or not unpacker.eof or unpacker.unused_data:
        raise ValueError(f"does not hold the {2 * count} bytes of the shape {shape} that config says")
    high, low = np.frombuffer(content, np.uint8).reshape(2, *shape).astype(np.uint32)
    return np.asarray((high << np.uint32(24)) | (low << np.uint32(16)), np.uint32).view(np.float32)
