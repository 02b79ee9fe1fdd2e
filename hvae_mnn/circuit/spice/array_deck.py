"""A tile's array as SPICE text: its crosspoints and wires, or the port admittance they amount to.

Names and nodes: `hvae_mnn.circuit.spice.tile_deck`. An array has thousands of parts and a model millions, so a row is
one pattern, with `@` for the row's number and `%` for its values, and is yielded as one text of several lines.
"""

from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.circuit.plan import Tile
from hvae_mnn.circuit.spice import names
from hvae_mnn.circuit.wires import PortAdmittance
from hvae_mnn.hardware.config import HardwareConfig

Array = NDArray[np.float64]
Sign = Literal["p", "n"]


def emit_array(tile: Tile, config: HardwareConfig, ports: PortAdmittance) -> Iterator[str]:
    """Yield the crosspoints (and the reference column, where the scheme has one) with their wires, row by row.

    Args:
        tile: Conductances and scales.
        config: The hardware.
        ports: The array's port admittance, which stands for it where wires are reduced.
    """
    if config.array.wires == "reduced":
        yield from _emit_ports(tile, ports)
        return
    if config.array.wires == "full":
        yield from _emit_wires(tile, config)
    pattern = "\n".join(_emit_crosspoints(tile, config))
    for j, values in enumerate(_crosspoint_states(tile, config).tolist()):
        yield pattern.replace("@", str(j)) % tuple(values)


def _emit_crosspoints(tile: Tile, config: HardwareConfig) -> Iterator[str]:
    """Yield the pattern of a row's lines; its values are the states of `_crosspoint_states`."""
    plan = tile.plan
    if plan.r_reference is not None:
        yield f"Rs_@ {_row_node(config, 'p', plan.columns)} {_bit_node(config, names.REFERENCE)} {plan.r_s:.17g}"
    for k in range(plan.columns):
        positive, negative, bit = _row_node(config, "p", k), _row_node(config, "n", k), _bit_node(config, k)
        if plan.r_s is None:
            yield f"Rp_@_{k} {positive} {bit} {{{config.memristor.model}(%.17g)}}"
        elif plan.r_reference is None:
            yield f"Rs_@_{k} {positive} {bit} {plan.r_s:.17g}"
        yield _cell(config, k, positive if plan.r_reference is not None else negative, bit)


def _cell(config: HardwareConfig, k: int, row: str, bit: str) -> str:
    """Return a memristor's line: a resistor by the device's law at a state, or the device with its dynamics."""
    if config.array.memristor == "dynamic":
        device = f"{config.memristor.model} x0=%.17g"
        return f"{names.memristor('@', k)} {row} {bit} {names.state('@', k)} {device}"
    return f"Rm_@_{k} {row} {bit} {{{config.memristor.model}(%.17g)}}"


def _crosspoint_states(tile: Tile, config: HardwareConfig) -> Array:
    """Return the memristors' states, in the order of a row's lines, (rows, memristors of a row)."""
    states = config.memristor.state(tile.g)
    if tile.plan.r_s is not None:
        return states
    pairs = np.stack([states[: tile.plan.rows], states[tile.plan.rows :]], axis=2)
    return np.asarray(pairs.reshape(tile.plan.rows, -1))


def _row_node(config: HardwareConfig, line: Sign, k: int) -> str:
    """Return the node of a row line, `p` or `n`, at a crosspoint."""
    return f"{line}@_{k}" if config.array.wires == "full" else names.line(line, "@")


def _bit_node(config: HardwareConfig, k: int | str) -> str:
    """Return the node of a bit line, a column's or `ref`, at a crosspoint."""
    return f"b@_{k}" if config.array.wires == "full" else names.bit(k)


def _emit_wires(tile: Tile, config: HardwareConfig) -> Iterator[str]:
    """Yield every segment: `Rwp_j_k` and `Rwn_j_k` lead to crosspoint k of row j, `Rwb_j_k` from it down column k."""
    array, plan = config.array, tile.plan
    columns: list[int | str] = [*range(plan.columns)] + ([] if plan.r_reference is None else [names.REFERENCE])
    lines = []
    signs: tuple[Sign, ...] = ("p", "n") if plan.r_reference is None else ("p",)
    for line in signs:
        lines.append(f"Rw{line}_@_0 {names.line(line, '@')} {line}@_0 {array.r_driver + array.r_wire:.17g}")
        for k in range(1, len(columns)):
            lines.append(f"Rw{line}_@_{k} {line}@_{k - 1} {line}@_{k} {array.r_wire:.17g}")
    lines += (f"Rwb_@_{column} b@_{column} #{column} {array.r_wire:.17g}" for column in columns)
    pattern = "\n".join(lines)
    for j in range(plan.rows):
        below = f"b{j + 1}_" if j + 1 < plan.rows else names.bit("")  # below the last row are the amplifiers' nodes
        yield pattern.replace("@", str(j)).replace("#", below)


def _emit_ports(tile: Tile, ports: PortAdmittance) -> Iterator[str]:
    """Yield the port admittance: `Gt_j_k` from row j into column k, `Rl_k` and `Rl_k_m` what the amplifiers see."""
    places = [*range(tile.plan.columns)] + ([] if tile.plan.r_reference is None else [names.REFERENCE])
    columns, row = [names.bit(place) for place in places], names.line("p", "@")
    pattern = "\n".join(f"Gt_@_{k} 0 {column} {row} 0 %.17g" for k, column in enumerate(columns))
    for j, row in enumerate(ports.transfer.tolist()):
        yield pattern.replace("@", str(j)) % tuple(row)
    to_ground = (1 / ports.load.sum(axis=1)).tolist()
    for k, (column, between) in enumerate(zip(columns, (-ports.load).tolist(), strict=True)):
        yield f"Rl_{k} {column} 0 {to_ground[k]:.17g}"
        before = enumerate(zip(columns[:k], between[:k], strict=True))
        yield from (f"Rl_{k}_{m} {column} {other} {1 / g:.17g}" for m, (other, g) in before if g > 0)
