"""The layers of a Build: how numbers become codes, which tile adds to which gate sum.

These are the parts of `manifest.json` that engines and the orchestrator work from.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

Array = NDArray[np.float64]

BIAS = -1


class _Plan(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class GroupPlan(_Plan):
    """Neighbouring inputs that share a full scale.

    Attributes:
        name: `x`, `h` or `z`.
        size: Number of inputs.
        x_max: The number that full scale stands for.
    """

    name: str
    size: int
    x_max: float


class TilePlan(_Plan):
    """One tile: its place in the layer, its circuit values, its scales.

    Attributes:
        name: `layer.gate.r<row tile>c<column tile>`.
        gate: The gate whose sum it adds to.
        deck: Path of its deck in the Build.
        inputs: For each row, the layer's input it carries; -1 is a bias row (always full scale).
        column_start: First hidden unit of its columns.
        column_stop: One past its last hidden unit.
        weight_per_siemens: k of w = k (1/r_s - G), or of w = k (G+ - G-) for `differential`.
        r_s: Fixed resistor of eq. 12, ohm; unset for `differential`.
        r_f: Transimpedance, ohm.
        r_reference: Transimpedance of the reference column, ohm; unset for `paired`.
        full_scale: Gate sum that the ADC's full scale stands for.
        scale: Gate sum for a fraction 1 of ADC full scale: +-full_scale, by the circuit's sign.
        clipped_weights: Weights beyond the conductance range.
        uncompensated: What IR-drop compensation left, rms over that of the weights; unset without it.
    """

    name: str
    gate: str
    deck: str
    inputs: tuple[int, ...]
    column_start: int
    column_stop: int
    weight_per_siemens: float
    r_s: float | None
    r_f: float
    r_reference: float | None
    full_scale: float
    scale: float
    clipped_weights: int
    uncompensated: float | None = None

    @property
    def rows(self) -> int:
        """Number of rows (word lines)."""
        return len(self.inputs)

    @property
    def columns(self) -> int:
        """Number of columns (bit lines)."""
        return self.column_stop - self.column_start

    @property
    def memristor_rows(self) -> int:
        """Number of rows of memristors: two a row for `differential`, first all at +V, then all at -V."""
        return self.rows if self.r_s is not None else 2 * self.rows


class LayerPlan(_Plan):
    """One recurrent layer on crossbars.

    Attributes:
        name: `encoder1`, `encoder2` or `decoder`.
        cell: `lstm`, `gru` or `rnn`.
        hidden: Hidden units.
        groups: Inputs in order: x, h and, in the decoder, z.
        gates: Gate names, one crossbar unit each.
        tiles: All tiles; a Reading holds their columns one after another in this order.
    """

    name: str
    cell: str
    hidden: int
    groups: tuple[GroupPlan, ...]
    gates: tuple[str, ...]
    tiles: tuple[TilePlan, ...]

    def fractions(self, values: Mapping[str, Array]) -> Array:
        """Return inputs as fractions of full scale, (batch, inputs), from each group's numbers."""
        return np.concatenate([values[group.name] / group.x_max for group in self.groups], axis=1)

    def tile_outputs(self) -> Iterator[tuple[TilePlan, slice]]:
        """Yield each tile with the slice of a Reading that holds its columns."""
        edges = np.cumsum([0, *(tile.columns for tile in self.tiles)]).tolist()
        for tile, (start, stop) in zip(self.tiles, pairwise(edges), strict=True):
            yield tile, slice(start, stop)

    def gate_sums(self, fractions: Array) -> dict[str, Array]:
        """Add the tiles' partial sums in digital.

        Args:
            fractions: Fractions of ADC full scale, (batch, outputs).

        Returns:
            For each gate, (batch, hidden).
        """
        sums = {gate: np.zeros((len(fractions), self.hidden), order="F") for gate in self.gates}
        for run in self._runs:
            sums[run.gate][:, run.units] += run.scales * fractions[:, run.outputs]
        return sums

    @cached_property
    def _runs(self) -> "tuple[_Run, ...]":
        """Tiles after tiles that add to neighbouring units of one gate, each as one."""
        runs: list[_Run] = []
        for tile, outputs in self.tile_outputs():
            scales = np.full(tile.columns, tile.scale)
            run = _Run(tile.gate, slice(tile.column_start, tile.column_stop), outputs, scales)
            if runs and runs[-1].gate == run.gate and runs[-1].units.stop == run.units.start:
                run = runs.pop().joined(run)
            runs.append(run)
        return tuple(runs)


@dataclass(frozen=True, slots=True)
class _Run:
    """Some outputs of a Reading, what they are multiplied with, (outputs,), and the hidden units they add to."""

    gate: str
    units: slice
    outputs: slice
    scales: Array

    def joined(self, following: "_Run") -> "_Run":
        units = slice(self.units.start, following.units.stop)
        outputs = slice(self.outputs.start, following.outputs.stop)
        return _Run(self.gate, units, outputs, np.concatenate([self.scales, following.scales]))


@dataclass(frozen=True, slots=True)
class Tile:
    """A tile with its conductances.

    Attributes:
        plan: Place, circuit values and scales.
        g_target: Conductances that the weights ask for, siemens, (memristor rows, columns).
        g: Conductances as programmed, siemens, (memristor rows, columns).
    """

    plan: TilePlan
    g_target: Array
    g: Array


def row_inputs(rows: Sequence[int] | NDArray[np.int64], inputs: Array, bias: float) -> Array:
    """Return what each row of a tile gets, (batch, rows).

    Args:
        rows: For each row the layer's input it carries, -1 for a bias row.
        inputs: The layer's inputs, (batch, inputs).
        bias: What a bias row carries.
    """
    padded = np.concatenate([inputs, np.full((len(inputs), 1), bias)], axis=1)
    return padded[:, np.asarray(rows)]
