"""The random numbers of a tile: one stream for each purpose, keyed by seed and the tile's name.

Equal keys give equal numbers on any machine, in any order and in any process, so that a die is the same for the
deck, for the engines and for a sweep's workers.
"""

import zlib
from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """What a tile draws random numbers for. A number is part of every die: one that is given away stays so."""

    PROGRAMMING_ERROR = 0
    STUCK_CELLS = 1
    PULSE_RESPONSE = 2
    """Of write-verify: how fast each cell answers pulses."""
    PULSES = 3
    """Of write-verify: how it answers each."""
    VERIFYING_READS = 4
    PROGRAMMED_SAMPLE = 0x5A
    """Which cells are programmed in SPICE too."""
    AMPLIFIER_OFFSETS = 0xA0
    AMPLIFIER_NOISE = 0xA1
    READ_NOISE = 0xA2
    """Of the cells, from read to read."""
    ADC_ERRORS = 0xAD
    DAC_ERRORS = 0xDA


def keyed_stream(seed: int, tile: str, purpose: Purpose, *key: int) -> np.random.Generator:
    """Return the random numbers of a tile for one purpose; `key` tells streams of one purpose apart."""
    return np.random.default_rng(np.random.SeedSequence([seed, zlib.crc32(tile.encode()), int(purpose), *key]))
