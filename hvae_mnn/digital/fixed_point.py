"""The digital half as a controller computes it: fixed-point sums, gates and states, tables for sigmoid and tanh.

Numbers are symmetric codes as those of the converters (`hvae_mnn.circuit.converters`): the nearest of
-code_max..code_max with code_max = 2^(bits-1) - 1, halves upwards, saturating. Their full scales are

    gate sums                     gate_bits   +-sum_max
    sigmoid, tanh, products       gate_bits   +-1         r n_h of a gru, p c of a peephole: as gate sums
    weights p of peepholes        gate_bits   +- the largest of a layer's gate
    c                             state_bits  +-c_max     f c of an lstm too, which is as large as c
    h                             state_bits  +-1         the decoder's first h: +- the layer's full scale of h

A table has an entry for each code of table_bits over +-sum_max (tanh(c): +-c_max), so that zero is one
of them and the address -2^(table_bits-1) is not used. What a table gives is rounded like any gate.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from hvae_mnn.circuit.converters import Converter
from hvae_mnn.hardware.config import Periphery

Array = NDArray[np.float64]

_TIE = 2.0**-51
"""Fractions that lie this little below a half belong to it: integers meet halves where float64 just misses them."""


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """Rounding of everything the digital half computes; what is unset passes unchanged.

    Values go in and come out as numbers, not as codes, in arrays of any shape.

    Attributes:
        settings: Bits and full scales.
    """

    settings: Periphery

    def gate_sum(self, value: Array) -> Array:
        """Return gate sums as the controller holds them."""
        return _nearest(value, self.settings.gate_bits, self.settings.sum_max)

    def gate(self, value: Array) -> Array:
        """Return the output of a gate, or a product, as the controller holds it."""
        return _nearest(value, self.settings.gate_bits, 1.0)

    def cell(self, value: Array) -> Array:
        """Return c as the controller holds it."""
        return _nearest(value, self.settings.state_bits, self.settings.c_max)

    def hidden(self, value: Array, full_scale: float = 1.0) -> Array:
        """Return h as the controller holds it."""
        return _nearest(value, self.settings.state_bits, full_scale)

    def weight(self, value: Array) -> Array:
        """Return weights (..., units) as the controller holds them; the largest of each row is its full scale."""
        largest = np.abs(value).max(axis=-1, keepdims=True)
        return _nearest(value, self.settings.gate_bits, np.where(largest > 0, largest, 1.0))

    def sigmoid(self, sums: Array) -> Array:
        """Return the sigmoid of gate sums."""
        return self.gate(expit(self._address(self.gate_sum(sums), self.settings.sum_max)))

    def tanh(self, sums: Array) -> Array:
        """Return tanh of gate sums."""
        return self.gate(np.tanh(self._address(self.gate_sum(sums), self.settings.sum_max)))

    def tanh_cell(self, c: Array) -> Array:
        """Return tanh of c."""
        return self.gate(np.tanh(self._address(c, self.settings.c_max)))

    def _address(self, value: Array, full_scale: float) -> Array:
        """Return the number of the table's entry that a value reads."""
        return _nearest(value, self.settings.table_bits, full_scale)


def _nearest(value: Array, bits: int | None, full_scale: float | Array) -> Array:
    if bits is None:
        return value
    converter = Converter(bits)
    return full_scale * converter.decode(converter.encode(value / full_scale + _TIE))
