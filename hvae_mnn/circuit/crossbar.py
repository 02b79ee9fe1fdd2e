"""A tile solved once for all inputs: rows to column voltages, wires and amplifiers included.

The crossbar is a port admittance (`hvae_mnn.circuit.wires`): with row drives v and amplifier inputs at u
the current into the amplifiers is i = v T - u Y. An amplifier of gain A, offset V_os and feedback R_f puts
out o = A (V_os - u). The reference column's output o_ref reaches every other column through R_ref.
Kirchhoff's current law at the amplifiers' inputs, in terms of the outputs:

    [L/A + diag(1/R_f) + E] o = L V_os - T^t v        L = Y + diag(1/R_f) + diag(1/R_ref on the columns)

with E the reference output's 1/R_ref into the columns. An ideal amplifier is A -> infinity, V_os = 0.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.circuit.amplifiers import amplifier_offsets
from hvae_mnn.circuit.plan import Tile
from hvae_mnn.circuit.wires import PortAdmittance, RowLines, solve_ports
from hvae_mnn.hardware.config import HardwareConfig
from hvae_mnn.hardware.timing import PULSE_SHARE, PULSE_START, SAMPLE_STOP

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Transfer:
    """A tile as a map from row fractions to the outputs of its amplifiers, the reference column's last.

    While no amplifier saturates that is rows @ matrix + v_offset @ offsets. One that does leaves its bit line, and
    through the wires it shares with others theirs; the outputs then are solved for again.

    Attributes:
        matrix: Volt per full-scale fraction of a row, (rows, outputs).
        offsets: Volt at an output per volt of an amplifier's offset, (outputs, outputs).
        limit: Saturation of either sign, volt.
        columns: Number of columns, without the reference.
        currents: Ampere into grounded amplifiers per full-scale fraction of a row, (rows, outputs).
        loaded: L of the equation above, siemens, (outputs, outputs).
        feedback: diag(1/R_f) + E, siemens, (outputs, outputs).
        gain: Open-loop gain, V/V.
        v_offset: Offsets at the amplifiers' inputs, volt, (outputs,).
    """

    matrix: Array
    offsets: Array
    limit: float
    columns: int
    currents: Array
    loaded: Array
    feedback: Array
    gain: float
    v_offset: Array

    @property
    def coupled(self) -> bool:
        """Whether bit lines share wires or drivers, so that one amplifier's saturation moves other outputs."""
        return bool((self.loaded != np.diag(np.diag(self.loaded))).any())

    @property
    def per_ampere(self) -> Array:
        """Volt at each column's output per ampere out of its bit line besides, (columns,)."""
        return np.diag(np.linalg.inv(self.loaded / self.gain + self.feedback))[: self.columns]

    def read(self, rows: Array, noise: Array | None = None) -> Array:
        """Return column voltages, (batch, columns).

        Args:
            rows: Row fractions, (batch, rows).
            noise: What is added to the offsets in each read, volt, (batch, outputs).
        """
        v_offset = self.v_offset if noise is None else self.v_offset + noise
        v_offset = np.broadcast_to(v_offset, (len(rows), len(self.loaded)))
        outputs = rows @ self.matrix + v_offset @ self.offsets
        beyond = np.abs(outputs) > self.limit
        matters = beyond.any(axis=1) if self.coupled else beyond[:, self.columns :].any(axis=1)
        for sample in np.flatnonzero(matters):
            signs = np.sign(outputs[sample]) * beyond[sample]
            outputs[sample] = self._saturate(rows[sample] @ self.currents, signs, v_offset[sample])
        return np.clip(outputs[:, : self.columns], -self.limit, self.limit)

    def _saturate(self, currents: Array, signs: Array, v_offset: Array) -> Array:
        """Solve for outputs of which those of nonzero sign are at their limits, until they are the right ones.

        Where an amplifier saturates its input voltage is the unknown, elsewhere its output.
        """
        for attempt in range(20 * len(signs)):
            held = signs != 0
            matrix = np.where(held, self.loaded, -self.loaded / self.gain - self.feedback)
            known = self.feedback @ (self.limit * signs) - self.loaded @ np.where(held, 0.0, v_offset)
            solved = np.linalg.solve(matrix, currents + known)
            wanted = np.where(held, self.gain * (v_offset - solved), solved)
            found = np.where(np.abs(wanted) > self.limit, np.sign(wanted), 0.0)
            found[found == -signs] = 0.0  # from one limit an amplifier is let go before it is held at the other
            wrong = np.flatnonzero(found != signs)
            if not len(wrong):
                break
            if attempt > len(signs):  # all at once may go in circles; the first alone does not (Murty's rule)
                wrong = wrong[:1]
            signs = signs.copy()
            signs[wrong] = found[wrong]
        return np.where(signs != 0, self.limit * signs, wanted)


def array_lines(tile: Tile) -> tuple[RowLines, ...]:
    """Return a tile's row lines with their crosspoints; a reference column comes last."""
    if tile.plan.r_s is None:
        return RowLines(1, tile.g[: tile.plan.rows]), RowLines(-1, tile.g[tile.plan.rows :])
    fixed = np.full_like(tile.g, 1 / tile.plan.r_s)
    if tile.plan.r_reference is None:
        return RowLines(1, fixed), RowLines(-1, tile.g)
    return (RowLines(1, np.hstack([tile.g, fixed[:, :1]])),)


def solve_array(tile: Tile, config: HardwareConfig) -> PortAdmittance:
    """Reduce a tile's crossbar, wires and drivers included, to its column ports."""
    return solve_ports(array_lines(tile), config.array.r_wire, config.array.r_driver)


def effective_conductance(tile: Tile, r_wire: float, r_driver: float) -> Array:
    """Return what a tile's crosspoints amount to behind wires and drivers, siemens, (rows, columns).

    Times `weight_per_siemens` it is the weight that the grounded columns see: 1/r_s - G, or G+ - G-, without wires.
    """
    transfer = solve_ports(array_lines(tile), r_wire, r_driver).transfer
    return transfer if tile.plan.r_reference is None else transfer[:, -1:] - transfer[:, :-1]


def cell_reach(tile: Tile, r_wire: float, r_driver: float) -> Array:
    """Return what a change of each cell's conductance changes at its column, (memristor rows, columns).

    In parts of drive times change: 1 without wires and drivers. Behind them it is the current of the cell's line
    alone that reaches the grounded column, over its conductance; that is to first order, since it leaves out the
    voltage that the change itself takes from its line and gives to its bit line.
    """
    if not (r_wire or r_driver):
        return np.ones_like(tile.g)
    lines, columns = array_lines(tile), tile.plan.columns
    cells = lines if tile.plan.r_s is None else lines[-1:]
    alone = [[replace(line, sign=int(line is cell)) for line in lines] for cell in cells]
    return np.vstack([solve_ports(each, r_wire, r_driver).transfer[:, :columns] for each in alone]) / tile.g


def solve_transfer(tile: Tile, config: HardwareConfig) -> Transfer:
    """Solve a tile's linear network once, for all inputs."""
    amplifier, plan, ports = config.amplifier, tile.plan, solve_array(tile, config)
    feedback = np.diag(np.full(len(ports.load), 1 / plan.r_f))
    between = np.zeros(len(ports.load))
    if plan.r_reference is not None:
        feedback[:, -1] = 1 / plan.r_reference
        between[:-1] = 1 / plan.r_reference
    loaded = ports.load + np.diag(np.diag(feedback) + between)
    gain = np.inf if amplifier.gain is None else amplifier.gain
    outputs = np.linalg.inv(loaded / gain + feedback)
    currents = config.drive.v_read * ports.transfer
    return Transfer(
        matrix=-currents @ outputs.T,
        offsets=(outputs @ loaded).T,
        limit=np.inf if amplifier.gain is None else amplifier.v_saturation,
        columns=plan.columns,
        currents=currents,
        loaded=loaded,
        feedback=feedback,
        gain=gain,
        v_offset=amplifier_offsets(plan, config),
    )


def settling_error(tile: Tile, config: HardwareConfig) -> float:
    """Return the part of a step that is still missing at the sampling edge (one pole a column, one a row).

    A transimpedance follows its rows at gain_bandwidth / N, with N its noise gain. An integrator's feedback is
    a capacitor, so that it follows at gain_bandwidth, and has from the last pulse to the sampling edge.
    """
    return float(np.exp(-_settling_time(config) * _slowest_rate(tile, config)))


def settled_cycle(tile: Tile, config: HardwareConfig, error: float) -> float:
    """Return the cycle time, second, with which a tile has settled to a part of a step."""
    rate, timing = _slowest_rate(tile, config), config.timing
    share = _settling_time(config) + _lost_time(config)
    return float((-np.log(error) / rate + _lost_time(config)) * timing.cycle / share)


def _slowest_rate(tile: Tile, config: HardwareConfig) -> float:
    amplifier = config.amplifier
    rates = [1 / config.dac.settling if config.dac.settling else np.inf]
    if amplifier.gain is not None:
        omega = 2 * np.pi * amplifier.gain_bandwidth
        rates.append(omega if config.drive.pulsed else omega * (1 / amplifier.gain + 1 / _noise_gain(tile, config)))
    return float(min(rates))


def _noise_gain(tile: Tile, config: HardwareConfig) -> float:
    """Return the largest noise gain of a tile's transimpedances."""
    plan, load = tile.plan, np.diag(solve_array(tile, config).load)
    between = 0.0 if plan.r_reference is None else 1 / plan.r_reference
    return float(1 + plan.r_f * (load[: plan.columns].max() + between))


def _settling_time(config: HardwareConfig) -> float:
    """Return the time from the last edge of the rows to the sampling edge, second."""
    if config.drive.pulsed:
        return (SAMPLE_STOP - PULSE_START - PULSE_SHARE) * config.timing.cycle - _lost_time(config)
    return SAMPLE_STOP * config.timing.cycle - _lost_time(config)


def _lost_time(config: HardwareConfig) -> float:
    """Return how much of the settling time edges take, second."""
    return config.timing.edge
