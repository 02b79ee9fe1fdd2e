"""The memristor of a Build as SPICE text: one law for all its cells, which decks give their states.

Deck lines name the device and the state, `Rm_0_0 rn0 c0 {aist(0.84)}`. Who wants to see or change the law does so
here, once.
"""

from collections.abc import Iterator

from hvae_mnn.hardware.config import AistMemristor, AnyMemristor

DEVICE_LIBRARY = "device"
"""Name of the file in a Build's `lib/`, without its suffix."""
DYNAMIC_LIBRARY = "memristor_dynamic"
"""The netlist that the dynamic device is an instance of."""


def format_device_library(memristor: AnyMemristor, dynamic: bool) -> str:
    """Return the library: what a cell at rest is, and, where cells move, the device with its dynamics."""
    lines = [*_emit_law(memristor)]
    if dynamic and isinstance(memristor, AistMemristor):
        lines += _emit_dynamics(memristor)
    return "\n".join(lines) + "\n"


def _emit_law(memristor: AnyMemristor) -> Iterator[str]:
    yield f"* device: memristor {memristor.model} of this build; a change here changes every cell"
    yield f"* {memristor.model}(x) resistance of a cell at state x, 0..1, ohm: r_on x + r_off (1 - x), eq. 8 of"
    yield "*         Hu & Yang 2023; exact while the voltage at the cell stays below its thresholds"
    yield f".func {memristor.model}(x) {{{memristor.r_on:.17g}*(x) + {memristor.r_off:.17g}*(1 - (x))}}"


def _emit_dynamics(memristor: AistMemristor) -> Iterator[str]:
    m = memristor
    yield f"* {m.model} p n x: the same cell with its dynamics (eq. 9), from state x0; node x is its state as a voltage"
    yield f".subckt {m.model} p n x x0=0.5"
    yield f"X_m p n x {DYNAMIC_LIBRARY} x0={{x0}} r_on={m.r_on:.17g} r_off={m.r_off:.17g}"
    yield f"+ v_set={m.v_set:.17g} v_reset={m.v_reset:.17g} mobility={m.mobility:.17g} thickness={m.thickness:.17g}"
    yield f"+ i_0={m.i_0:.17g} i_off={m.i_off:.17g} i_on={m.i_on:.17g} window={int(m.window == 'directional')}"
    yield f"+ window_p={m.window_p} window_floor={m.window_floor:.17g} v_soft={m.v_soft:.17g}"
    yield f"+ pole_width={m.pole_width:.17g}"
    yield f".ends {m.model}"
