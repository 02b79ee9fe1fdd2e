"""The AIST memristor's statics: state and conductance (eq. 8 of Hu & Yang 2023)."""

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.hardware import Memristor

Array = NDArray[np.float64]


def state_of(g: Array, memristor: Memristor) -> Array:
    """Return the state x, 0..1, of a conductance in siemens: R = r_on x + r_off (1 - x)."""
    return (memristor.r_off - 1 / g) / (memristor.r_off - memristor.r_on)
