"""The memristor of a Build as SPICE text: one law for all its cells, which decks give their states.

Deck lines name the device and the state, `Rm_0_0 rn0 c0 {aist(0.84)}`. Who wants to see or change the law does so
here, once.
"""

from collections.abc import Iterator

from hvae_mnn.hardware.memristors import DynamicMemristor, Memristor

DEVICE_LIBRARY = "device"
"""Name of the file in a Build's `lib/`, without its suffix."""


def format_device_library(memristor: Memristor, dynamic: bool) -> str:
    """Return the library: what a cell at rest is, and, where cells move, the device with its dynamics."""
    lines = [*_emit_law(memristor)]
    if dynamic and isinstance(memristor, DynamicMemristor):
        lines += _emit_dynamics(memristor)
    return "\n".join(lines) + "\n"


def _emit_law(memristor: Memristor) -> Iterator[str]:
    yield f"* device: memristor {memristor.model} of this build; a change here changes every cell"
    yield f"* {memristor.model}(x) is the resistance of a cell at state x, 0..1, in ohm, while its voltage stays below"
    yield "*   its thresholds"
    yield f".func {memristor.model}(x) {{{memristor.spice_resistance('x')}}}"


def _emit_dynamics(memristor: DynamicMemristor) -> Iterator[str]:
    name, values = memristor.model, memristor.netlist_parameters()
    yield f"* {name} p n x is the same cell with its dynamics, from state x0; node x is its state as a voltage"
    yield f".subckt {name} p n x x0=0.5"
    yield f"X_m p n x {memristor.library} x0={{x0}}"
    yield from (f"+ {parameter}={value:.17g}" for parameter, value in values.items())
    yield f".ends {name}"
