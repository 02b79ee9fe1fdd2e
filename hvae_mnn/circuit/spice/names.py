"""Names of the parts and nodes of decks: decks write them, engines alter and read them, figures draw them.

ngspice makes no difference between small and large letters and answers in small ones: parts are written here with
their letter large, as decks show them, and `lower()` gives what ngspice calls them.
"""

from typing import Literal

Place = int | str
"""Of a row or column; a pattern that stands for one, such as `@`, or `ref`."""

ENABLE, CLOCK, RESET, TICK, ON = "en", "clk", "reset", "tick", "on"
"""Clocks: rows are driven, columns sampled, integrators reset; what pulses count; where a supply is needed, 1 V."""
ROW, OUT, HOLD, ADC = "rp", "out", "hold", "adc"
"""Kinds of nodes that runs show: a row at +V, an amplifier, its held value, its code."""
REFERENCE = "ref"


def code(row: Place) -> str:
    """Return the node of a row's input code."""
    return f"code{row}"


def level(row: Place) -> str:
    """Return the node of a pulse's signed length; with an `n` before it stands its negative."""
    return f"level{row}"


def line(sign: Literal["p", "n"], row: Place) -> str:
    """Return the node of a row's line at +V (`p`) or -V (`n`), where its driver is."""
    return f"r{sign}{row}"


def bit(column: Place) -> str:
    """Return the node of a bit line at its amplifier."""
    return f"c{column}"


def out(column: Place) -> str:
    """Return the node of a column's amplifier."""
    return f"{OUT}{column}"


def noisy(column: Place) -> str:
    """Return the node of a column's amplifier with the noise of its cells added."""
    return f"noisy{column}"


def hold(column: Place) -> str:
    """Return the node of a column's sample-and-hold."""
    return f"{HOLD}{column}"


def adc(column: Place) -> str:
    """Return the node of a column's output code."""
    return f"{ADC}{column}"


def state(row: Place, column: Place) -> str:
    """Return the node of a dynamic memristor's state, 0..1."""
    return f"x{row}_{column}"


def clock_source(node: str) -> str:
    """Return the source of a clock's node."""
    return f"V{node}"


def code_source(row: Place) -> str:
    """Return the source of a row's input code."""
    return f"Vcode_{row}"


def read_noise_source(column: Place) -> str:
    """Return the source of the noise that a column's cells make in a read."""
    return f"Vread_{column}"


CELL = "Xm"
"""The memristor of a deck that holds one alone."""


def memristor(row: Place, column: Place) -> str:
    """Return a dynamic memristor of a tile."""
    return f"Xm_{row}_{column}"


def amplifier(column: Place) -> str:
    """Return a column's amplifier; of `ref`, the reference column's."""
    return "Xref" if column == REFERENCE else f"Xamp_{column}"


def inside(part: str, element: str) -> str:
    """Return what ngspice calls an element of a subcircuit: its letter, the way to it, its name."""
    return f"{element[0]}.{part}.{element}".lower()


def offset_source(column: Place) -> str:
    """Return the source of an amplifier's offset, as ngspice calls it."""
    return inside(amplifier(column), "V_os")


def state_source(part: str) -> str:
    """Return the source that holds where a memristor's state starts, as ngspice calls it."""
    return inside(f"{part}.X_m", "I_start")


def moved_capacitor(part: str) -> str:
    """Return the capacitor that holds how far a memristor's state has moved, as ngspice calls it."""
    return inside(f"{part}.X_m", "C_moved")
