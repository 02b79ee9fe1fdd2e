"""A tile's array as SPICE text: its crosspoints and wires, or the port admittance they amount to.

Names and nodes: `hvae_mnn.circuit.spice.tile_deck`. An array has thousands of parts and a model millions, so a row is
one pattern, with `@` for the row's number and `%` for its values, and is yielded as one text of several lines.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.circuit.memristor import state_of
from hvae_mnn.circuit.plan import Tile
from hvae_mnn.circuit.wires import PortAdmittance
from hvae_mnn.hardware.config import AistMemristor, HardwareConfig

Array = NDArray[np.float64]


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
    for j, values in enumerate(_crosspoint_values(tile, config).tolist()):
        yield pattern.replace("@", str(j)) % tuple(values)


def format_memristor(m: AistMemristor, state: float) -> str:
    """Return the parameters of `netlists/memristor_dynamic.lib` for a memristor that starts at a state, 0..1."""
    return f"x0={state:.17g} {_format_device(m)}"


def _format_device(m: AistMemristor) -> str:
    return (
        f"r_on={m.r_on:.17g} r_off={m.r_off:.17g} v_set={m.v_set:.17g} v_reset={m.v_reset:.17g} "
        f"mobility={m.mobility:.17g} thickness={m.thickness:.17g} i_0={m.i_0:.17g} i_off={m.i_off:.17g} "
        f"i_on={m.i_on:.17g} window={int(m.window == 'directional')} window_p={m.window_p} "
        f"window_floor={m.window_floor:.17g} v_soft={m.v_soft:.17g} pole_width={m.pole_width:.17g}"
    )


def _emit_crosspoints(tile: Tile, config: HardwareConfig) -> Iterator[str]:
    """Yield the pattern of a row's lines; its values are those of `_crosspoint_values`."""
    plan, dynamic = tile.plan, config.array.memristor == "dynamic"
    if plan.r_reference is not None:
        yield f"Rs_@ {_row_node(config, 'p', plan.columns)} {_bit_node(config, 'ref')} {plan.r_s:.17g}"
    for k in range(plan.columns):
        positive, negative, bit = _row_node(config, "p", k), _row_node(config, "n", k), _bit_node(config, k)
        if dynamic:
            device = f"x0=%.17g {_format_device(config.aist('array.memristor = dynamic'))}"
            if plan.r_reference is None:
                yield f"Xm_@_{k} {positive} {negative} {bit} x@_{k} crosspoint_dynamic r_s={plan.r_s:.17g} {device}"
            else:
                yield f"Xm_@_{k} {positive} {bit} x@_{k} memristor_dynamic {device}"
        elif plan.r_s is None:
            yield f"Rp_@_{k} {positive} {bit} %.17g\nRm_@_{k} {negative} {bit} %.17g"
        elif plan.r_reference is None:
            yield f"Rs_@_{k} {positive} {bit} {plan.r_s:.17g}\nRm_@_{k} {negative} {bit} %.17g"
        else:
            yield f"Rm_@_{k} {positive} {bit} %.17g"


def _crosspoint_values(tile: Tile, config: HardwareConfig) -> Array:
    """Return a memristor's states or resistances, ohm, in the order of a row's lines, (rows, memristors of a row)."""
    if config.array.memristor == "dynamic":
        return state_of(tile.g, config.memristor)
    if tile.plan.r_s is None:
        pairs = np.stack([tile.g[: tile.plan.rows], tile.g[tile.plan.rows :]], axis=2)
        return np.asarray(1 / pairs.reshape(tile.plan.rows, -1))
    return np.asarray(1 / tile.g)


def _row_node(config: HardwareConfig, line: str, k: int) -> str:
    """Return the node of a row line, `p` or `n`, at a crosspoint."""
    return f"{line}@_{k}" if config.array.wires == "full" else f"r{line}@"


def _bit_node(config: HardwareConfig, k: int | str) -> str:
    """Return the node of a bit line, a column's or `ref`, at a crosspoint."""
    return f"b@_{k}" if config.array.wires == "full" else f"c{k}"


def _emit_wires(tile: Tile, config: HardwareConfig) -> Iterator[str]:
    """Yield every segment: `Rwp_j_k` and `Rwn_j_k` lead to crosspoint k of row j, `Rwb_j_k` from it down column k."""
    array, plan = config.array, tile.plan
    columns: list[int | str] = [*range(plan.columns)] + ([] if plan.r_reference is None else ["ref"])
    lines = []
    for line in "pn" if plan.r_reference is None else "p":
        lines.append(f"Rw{line}_@_0 r{line}@ {line}@_0 {array.r_driver + array.r_wire:.17g}")
        for k in range(1, len(columns)):
            lines.append(f"Rw{line}_@_{k} {line}@_{k - 1} {line}@_{k} {array.r_wire:.17g}")
    lines += (f"Rwb_@_{column} b@_{column} #{column} {array.r_wire:.17g}" for column in columns)
    pattern = "\n".join(lines)
    for j in range(plan.rows):
        below = f"b{j + 1}_" if j + 1 < plan.rows else "c"  # below the last row are the amplifiers' nodes
        yield pattern.replace("@", str(j)).replace("#", below)


def _emit_ports(tile: Tile, ports: PortAdmittance) -> Iterator[str]:
    """Yield the port admittance: `Gt_j_k` from row j into column k, `Rl_k` and `Rl_k_m` what the amplifiers see."""
    columns = [f"c{k}" for k in range(tile.plan.columns)] + ([] if tile.plan.r_reference is None else ["cref"])
    pattern = "\n".join(f"Gt_@_{k} 0 {column} rp@ 0 %.17g" for k, column in enumerate(columns))
    for j, row in enumerate(ports.transfer.tolist()):
        yield pattern.replace("@", str(j)) % tuple(row)
    to_ground = (1 / ports.load.sum(axis=1)).tolist()
    for k, (column, between) in enumerate(zip(columns, (-ports.load).tolist(), strict=True)):
        yield f"Rl_{k} {column} 0 {to_ground[k]:.17g}"
        before = enumerate(zip(columns[:k], between[:k], strict=True))
        yield from (f"Rl_{k}_{m} {column} {other} {1 / g:.17g}" for m, (other, g) in before if g > 0)
