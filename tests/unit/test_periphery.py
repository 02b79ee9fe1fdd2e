"""Fixed-point cells against the same arithmetic in integers and fractions, and against float64."""

import math
from fractions import Fraction

import numpy as np
import pytest
from making import make_build, random_sentences

from hvae_mnn.digital.fixed_point import Arithmetic
from hvae_mnn.digital.gates import CellState, first_state, next_state
from hvae_mnn.engines.software import SoftwareEngine
from hvae_mnn.errors import HardwareError
from hvae_mnn.hardware.config import Periphery
from hvae_mnn.hardware.files import load_hardware
from hvae_mnn.simulation.orchestrator import Simulation
from hvae_mnn.simulation.sentence import draw_noise

GATES = {"lstm": "ifgo", "peephole": "ifgo", "gru": ("r", "z", "n_x", "n_h"), "rnn": ("h",)}
CELLS = tuple(GATES)
"""`peephole` is an lstm with peepholes."""


def round_to_code(value: Fraction, bits: int, full_scale: float) -> Fraction:
    """Return the number of the nearest code, halves upwards, saturating, in exact arithmetic."""
    code_max = 2 ** (bits - 1) - 1
    code = math.floor(value / Fraction(full_scale) * code_max + Fraction(1, 2))
    return Fraction(max(-code_max, min(code_max, code)), code_max) * Fraction(full_scale)


class Controller:
    """One hidden unit of every cell in exact arithmetic but for sigmoid and tanh themselves.

    `weights` are the unit's peepholes, already rounded.
    """

    def __init__(self, settings: Periphery) -> None:
        self.settings = settings
        self.weights: tuple[Fraction, ...] = ()

    def gate(self, value: Fraction) -> Fraction:
        return round_to_code(value, self.settings.gate_bits, 1.0)

    def sum(self, value: Fraction) -> Fraction:
        return round_to_code(value, self.settings.gate_bits, self.settings.sum_max)

    def c(self, value: Fraction) -> Fraction:
        return round_to_code(value, self.settings.state_bits, self.settings.c_max)

    def h(self, value: Fraction) -> Fraction:
        return round_to_code(value, self.settings.state_bits, 1.0)

    def entry(self, value: Fraction, full_scale: float) -> float:
        bits = self.settings.table_bits
        return float(value if bits is None else round_to_code(value, bits, full_scale))

    def sigmoid(self, value: Fraction) -> Fraction:
        x = self.entry(self.sum(value), self.settings.sum_max)
        return self.gate(Fraction(1 / (1 + math.exp(-x))))

    def tanh(self, value: Fraction) -> Fraction:
        return self.gate(Fraction(math.tanh(self.entry(self.sum(value), self.settings.sum_max))))

    def lstm(self, sums: dict[str, Fraction], h: Fraction, c: Fraction) -> tuple[Fraction, Fraction]:
        added = self.gate(self.sigmoid(sums["i"]) * self.tanh(sums["g"]))
        c = self.c(self.c(self.sigmoid(sums["f"]) * c) + added)
        squashed = self.gate(Fraction(math.tanh(self.entry(c, self.settings.c_max))))
        return self.h(self.gate(self.sigmoid(sums["o"]) * squashed)), c

    def peephole(self, sums: dict[str, Fraction], h: Fraction, c: Fraction) -> tuple[Fraction, Fraction]:
        p_i, p_f, p_o = self.weights
        i, f = (self.sigmoid(self.sum(sums[gate]) + self.sum(p * c)) for gate, p in (("i", p_i), ("f", p_f)))
        c = self.c(self.c(f * c) + self.gate(i * self.tanh(sums["g"])))
        squashed = self.gate(Fraction(math.tanh(self.entry(c, self.settings.c_max))))
        return self.h(self.gate(self.sigmoid(self.sum(sums["o"]) + self.sum(p_o * c)) * squashed)), c

    def gru(self, sums: dict[str, Fraction], h: Fraction, c: Fraction) -> tuple[Fraction, Fraction]:
        update = self.sigmoid(sums["z"])
        reset = self.sum(self.sigmoid(sums["r"]) * self.sum(sums["n_h"]))
        candidate = self.tanh(self.sum(sums["n_x"]) + reset)
        h = self.h(self.gate((1 - update) * candidate) + self.gate(update * h))
        return h, h

    def rnn(self, sums: dict[str, Fraction], h: Fraction, c: Fraction) -> tuple[Fraction, Fraction]:
        h = self.h(self.tanh(sums["h"]))
        return h, h


def draw_steps(cell: str, steps: int, units: int = 40) -> list[dict[str, np.ndarray]]:
    """Return gate sums of some steps, (1, units) each, of which some saturate and some are exactly zero."""
    rng = np.random.default_rng(units)
    steps_sums = [{gate: rng.normal(0, 3, (1, units)) for gate in GATES[cell]} for _ in range(steps)]
    for sums in steps_sums:
        for values in sums.values():
            values[0, :2] = 0.0
    return steps_sums


def peepholes(units: int) -> np.ndarray:
    """Return weights of i, f and o, (3, units)."""
    return np.random.default_rng(9).normal(0, [[1], [2], [3]], (3, units))


def step(cell: str, sums: dict[str, np.ndarray], state: CellState, settings: Periphery | None = None) -> CellState:
    if cell == "peephole":
        return next_state("lstm", sums, state, settings, peepholes(state.h.shape[1]))
    return next_state(cell, sums, state, settings)


def advance(cell: str, steps: list[dict[str, np.ndarray]], settings: Periphery | None) -> CellState:
    units = next(iter(steps[0].values())).shape[1]
    state = first_state(np.linspace(-1.4, 1.4, units)[None], 1.3, settings)
    for sums in steps:
        state = step(cell, sums, state, settings)
    return state


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(
    ("gate_bits", "state_bits", "table_bits", "c_max"),
    [(8, 8, 6, 8.0), (8, 12, None, 8.0), (12, 8, 10, 4.0), (2, 2, 2, 8.0), (16, 16, 16, 2.5), (24, 24, None, 8.0)],
)
def test_every_number_is_that_of_integer_arithmetic(
    cell: str, gate_bits: int, state_bits: int, table_bits: int | None, c_max: float
) -> None:
    settings = Periphery(gate_bits=gate_bits, state_bits=state_bits, table_bits=table_bits, sum_max=6.0, c_max=c_max)
    steps, controller = draw_steps(cell, 6), Controller(settings)
    found = advance(cell, steps, settings)
    first, weights = np.linspace(-1.4, 1.4, found.h.size), peepholes(found.h.size)
    for unit in range(found.h.size):
        controller.weights = tuple(
            round_to_code(Fraction(row[unit]), gate_bits, float(np.abs(row).max())) for row in weights
        )
        h = round_to_code(Fraction(first[unit]), state_bits, 1.3)
        c = round_to_code(Fraction(first[unit]), state_bits, c_max)
        for sums in steps:
            values = {gate: Fraction(value[0, unit]) for gate, value in sums.items()}
            h, c = getattr(controller, cell)(values, h, c)
        assert found.h[0, unit] == pytest.approx(float(h), abs=1e-12)  # an LSB is 1e-7 and more
        assert found.c[0, unit] == pytest.approx(float(c), abs=1e-12)


def test_halves_of_a_code_go_upwards_where_float64_just_misses_them() -> None:
    """With equal bits and c_max = 8 every code of i g that is 4 (mod 8) lies between two codes of c."""
    settings = Periphery(gate_bits=8, state_bits=8, c_max=8.0)
    controller, halves = Controller(settings), 0
    grid = np.linspace(-6, 6, 601)[None]
    sums = {"i": np.full_like(grid, 8.0), "f": np.full_like(grid, 8.0), "g": grid, "o": grid}
    before = [round_to_code(Fraction(value), 8, 8.0) for value in np.linspace(-7, 7, 601)]
    state = CellState(np.zeros_like(grid), np.array([[float(c) for c in before]]))
    found = next_state("lstm", sums, state, settings)
    for unit in range(grid.size):
        values = {gate: Fraction(value[0, unit]) for gate, value in sums.items()}
        _, c = controller.lstm(values, Fraction(0), before[unit])
        code = controller.gate(controller.sigmoid(values["i"]) * controller.tanh(values["g"])) * 127
        halves += code % 8 == 4
        assert found.c[0, unit] == pytest.approx(float(c), abs=1e-12)
    assert halves > 10


@pytest.mark.parametrize("cell", CELLS)
def test_two_more_bits_leave_a_quarter_of_the_error(cell: str) -> None:
    """Also the table's: all three grow together. Sums stay within sum_max, where nothing saturates."""
    steps = [{gate: values.clip(-5, 5) for gate, values in sums.items()} for sums in draw_steps(cell, 2, units=20_000)]
    exact = step(cell, steps[1], CellState(np.tanh(steps[0][GATES[cell][0]]), np.tanh(steps[0][GATES[cell][-1]])))
    errors = []
    for bits in (8, 10, 12, 14, 16):
        settings = Periphery(gate_bits=bits, state_bits=bits, table_bits=bits, sum_max=12.0, c_max=2.0)
        before = CellState(np.tanh(steps[0][GATES[cell][0]]), np.tanh(steps[0][GATES[cell][-1]]))
        found = step(cell, steps[1], before, settings)
        errors.append(float(np.sqrt(np.mean((found.h - exact.h) ** 2))))
    ratios = np.array(errors[:-1]) / np.array(errors[1:])
    assert ratios == pytest.approx(4.0, rel=0.1)
    assert errors[-1] < 1e-3


@pytest.mark.parametrize("cell", CELLS)
def test_unset_bits_leave_float64_as_it_is(cell: str) -> None:
    steps = draw_steps(cell, 5)
    plain, unset = advance(cell, steps, None), advance(cell, steps, Periphery(sum_max=0.1, c_max=0.1))
    assert (plain.h == unset.h).all()
    assert (plain.c == unset.c).all()


def test_parts_are_rounded_alone() -> None:
    sums = {"h": np.linspace(-3, 3, 50)[None]}
    state = CellState(np.zeros((1, 50)), np.zeros((1, 50)))
    exact = np.tanh(sums["h"])
    for settings, entries in (
        (Periphery(state_bits=4), 15),
        (Periphery(gate_bits=4), 15),
        (Periphery(table_bits=3), 3),
    ):
        found = next_state("rnn", sums, state, settings).h
        assert 3 <= len(np.unique(found)) <= entries
        assert 0 < np.abs(found - exact).max() < 0.9


def test_a_table_has_zero_and_both_ends_and_saturates() -> None:
    sums = {"h": np.array([[-99.0, -8.0, -0.4, 0.0, 0.4, 8.0, 99.0]])}
    state = CellState(np.zeros((1, 7)), np.zeros((1, 7)))
    found = next_state("rnn", sums, state, Periphery(table_bits=4, sum_max=2.0)).h[0]
    entry = math.tanh(2 / 7)
    assert found == pytest.approx([-math.tanh(2), -math.tanh(2), -entry, 0, entry, math.tanh(2), math.tanh(2)])


def test_the_largest_weight_of_a_peephole_is_its_full_scale() -> None:
    weights = np.array([[0.0, 0.0, 0.0], [0.1, -3.0, 1.4], [0.5, 0.25, 0.1]])
    found = Arithmetic(Periphery(gate_bits=3)).weight(weights)
    assert found == pytest.approx(np.array([[0, 0, 0], [0, -3, 1], [0.5, 1 / 3, 1 / 6]]))
    assert (Arithmetic(Periphery()).weight(weights) == weights).all()


def test_the_first_state_keeps_to_the_full_scale_of_h_and_c() -> None:
    h = np.array([[-5.0, -1.2, 0.0, 1.2, 5.0]])
    state = first_state(h, 1.5, Periphery(state_bits=16, c_max=4.0))
    assert state.h[0] == pytest.approx([-1.5, -1.2, 0, 1.2, 1.5], abs=1e-4)
    assert state.c[0] == pytest.approx([-4, -1.2, 0, 1.2, 4], abs=1e-4)
    plain = first_state(h, 1.5)
    assert (plain.h == h).all() and (plain.c == h).all() and plain.c is not h


@pytest.mark.parametrize("cell", CELLS)
def test_a_simulation_computes_with_the_periphery_of_its_hardware(cell: str) -> None:
    """h read back in fixed point is on its grid, and many bits say what float64 says."""
    outcomes = {}
    for bits in (None, 4, 20):
        overrides = () if bits is None else (f"periphery.state_bits={bits}", f"periphery.gate_bits={bits}")
        name = "lstm" if cell == "peephole" else cell
        cells = {"cells": (name, name), "decoder": name, "peepholes": cell == "peephole"}
        build = make_build(None, "ideal", overrides, **cells)
        simulation = Simulation(build, SoftwareEngine(build))
        sentences = random_sentences(4, 1, len(build.checkpoint.vocabulary))
        outcomes[bits] = simulation.run(sentences, [draw_noise(build, ids, 3) for ids in sentences])
        if bits == 4:
            for name in ("encoder1", "encoder2", "decoder"):
                layer = build.layer(name)
                (x_max,) = (group.x_max for group in layer.groups if group.name == "h")
                start, hidden = layer.groups[0].size, layer.hidden
                steps = simulation.traces[name].inputs[name == "decoder" :]
                codes = 7 * x_max * np.concatenate(steps)[:, start : start + hidden]
                assert codes == pytest.approx(np.round(codes), abs=1e-9)
    for exact, fine, coarse in zip(outcomes[None], outcomes[20], outcomes[4], strict=True):
        assert fine.mu == pytest.approx(exact.mu, abs=1e-3)
        assert np.abs(coarse.mu - exact.mu).max() > 1e-2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("gate_bits=1", "periphery.gate_bits is 1"),
        ("gate_bits=25", "periphery.gate_bits is 25"),
        ("state_bits=8.5", "periphery.state_bits is 8.5"),
        ("table_bits=17", "periphery.table_bits is 17"),
        ("sum_max=0", "periphery.sum_max is 0"),
        ("c_max=-1", "periphery.c_max is -1"),
        ("gates_bits=8", "did you mean gate_bits?"),
    ],
)
def test_hardware_files_refuse_what_no_controller_has(override: str, message: str) -> None:
    with pytest.raises(HardwareError, match=message.replace("?", r"\?")):
        load_hardware("default", [f"periphery.{override}"])
