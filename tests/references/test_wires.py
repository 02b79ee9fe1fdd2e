"""A crossbar with wires against badcrossbar, Kirchhoff's laws written out here, and stock ngspice.

The references know a network as a list of resistors between named nodes, and share no code with the
package: `dp0` and `dn0` are the drives of row 0, `c0` is the port of column 0.
"""

import logging
import warnings
from decimal import Decimal, localcontext

import numpy as np
import pytest
from support import run_ngspice_batch

from hvae_mnn.circuit import wires
from hvae_mnn.circuit.wires import PortAdmittance, RowLines, solve_ports

with warnings.catch_warnings(record=True) as _caught:  # it says that its plots cannot be had, whatever the filter
    import badcrossbar
assert all(each.category is ImportWarning for each in _caught)
logging.getLogger("badcrossbar").setLevel(logging.WARNING)

R_WIRES = (1e-3, 1.0, 1e3)
NAMES = ("transfer", "load")
RANGES = {  # of conductances, siemens
    "usual": (10e-6, 200e-6),
    "any": (1e-9, 1e-2),
    "all low": (1e-9, 1e-9),
    "all high": (1e-2, 1e-2),
}
SMALL = ((1, 1), (1, 4), (4, 1), (2, 3), (3, 2), (4, 4))


def random_g(shape, limits, seed=0):
    """Return conductances, log-uniform within limits."""
    return np.exp(np.random.default_rng([seed, *shape]).uniform(*np.log(limits), shape))


def two_lines(shape, limits, seed=0):
    """Return the lines at +V and at -V of every row, with nothing alike."""
    return (RowLines(1, random_g(shape, limits, seed)), RowLines(-1, random_g(shape, limits, seed + 1)))


def resistors(lines, r_wire, r_driver):
    """Yield (node, node, ohm) of every part; parts of 0 ohm are left in."""
    rows, columns = lines[0].g.shape
    for j in range(rows):
        for line in lines:
            s = side(line)
            yield f"d{s}{j}", f"line{s}{j}", r_driver
            for k in range(columns):
                yield f"line{s}{j}" if k == 0 else f"line{s}{j}_{k - 1}", f"line{s}{j}_{k}", r_wire
                yield f"line{s}{j}_{k}", f"b{j}_{k}", 1 / line.g[j, k]
    for k in range(columns):
        for j in range(rows):
            yield f"b{j}_{k}", f"b{j + 1}_{k}" if j + 1 < rows else f"c{k}", r_wire


def side(line):
    return "p" if line.sign > 0 else "n"


def without_shorts(parts):
    """Return the parts of more than 0 ohm as (node, node, siemens), joined nodes under one name.

    A terminal keeps its name: no two of them are ever joined.
    """
    name, rest = {}, []

    def find(node):
        while node in name:
            node = name[node]
        return node

    for a, b, ohm in parts:
        if ohm > 0:
            rest.append((a, b, 1 / Decimal(ohm)))
        elif is_terminal(find(a)):
            name[find(b)] = find(a)
        else:
            name[find(a)] = find(b)
    return [(find(a), find(b), g) for a, b, g in rest]


def is_terminal(node):
    return node[0] in "dc"


def kirchhoff(lines, r_wire, r_driver):
    """Return the port admittance from the matrix of all nodes at once, by elimination with 60 digits."""
    parts = without_shorts(resistors(lines, r_wire, r_driver))
    names = sorted({node for part in parts for node in part[:2]}, key=lambda node: (is_terminal(node), node))
    at = {node: i for i, node in enumerate(names)}
    matrix = np.full((len(names), len(names)), Decimal(0))
    for a, b, g in parts:
        i, j = at[a], at[b]
        matrix[i, i] += g
        matrix[j, j] += g
        matrix[i, j] -= g
        matrix[j, i] -= g
    free = sum(not is_terminal(node) for node in names)
    with localcontext(prec=60):
        for i in range(free):
            matrix[i + 1 :] -= np.outer(matrix[i + 1 :, i] / matrix[i, i], matrix[i])
    return from_terminals(lines, lambda a, b: matrix[at[a], at[b]])  # current out of terminal a per volt on b


def from_terminals(lines, admittance):
    rows, columns = lines[0].g.shape
    transfer, load = np.full((rows, columns), Decimal(0)), np.full((columns, columns), Decimal(0))
    for k in range(columns):
        for j in range(rows):
            for line in lines:
                transfer[j, k] -= line.sign * admittance(f"c{k}", f"d{side(line)}{j}")
        for m in range(columns):
            load[k, m] = admittance(f"c{k}", f"c{m}")
    return PortAdmittance(transfer.astype(float), load.astype(float))


def assert_close(found, expected, tolerance):
    """Compare both matrices; the tolerance is a part of the largest element of each."""
    for name in NAMES:
        a, b = getattr(found, name), getattr(expected, name)
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max(), err_msg=name)


BADCROSSBAR_SHAPES = ((1, 1), (2, 3), (5, 1), (16, 9), (64, 64), (128, 64))


@pytest.mark.parametrize("r_wire", R_WIRES)
@pytest.mark.parametrize("limits", RANGES.values(), ids=RANGES.keys())
@pytest.mark.parametrize("shape", BADCROSSBAR_SHAPES, ids=str)
def test_currents_are_badcrossbars(shape, limits, r_wire):
    g, rows = random_g(shape, limits), shape[0]
    signed = np.random.default_rng(1).uniform(-1, 1, rows)
    drives = np.column_stack([np.ones(rows), signed, np.eye(rows)[:, [0, rows // 2, -1]]])
    answer = badcrossbar.compute(drives, 1 / g, r_wire, node_voltages=False, all_currents=False)
    found = drives.T @ solve_ports([RowLines(1, g)], r_wire, 0.0).transfer
    for mine, theirs in zip(found, answer.currents.output, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-10 * np.abs(theirs).max())


@pytest.mark.parametrize("r_driver", [0.0, 7.0])
@pytest.mark.parametrize("r_wire", [0.0, 3.0])
def test_one_crosspoint_a_line_is_ohms_law(r_wire, r_driver):
    up, down = 1 / (r_driver + r_wire + 5e3), 1 / (r_driver + r_wire + 20e3)
    below = 1 / (1 + r_wire * (up + down))
    ports = solve_ports([RowLines(1, np.array([[1 / 5e3]])), RowLines(-1, np.array([[1 / 20e3]]))], r_wire, r_driver)
    np.testing.assert_allclose(ports.transfer, [[(up - down) * below]], rtol=1e-14)
    np.testing.assert_allclose(ports.load, [[(up + down) * below]], rtol=1e-14)


def test_two_columns_by_hand():
    """1 ohm everywhere, two crosspoints on one line: two unknowns on the line, solved on paper.

    With the ports grounded each crosspoint leads to ground through 2 ohm: p1 = p0 * 2/3, so the first node sees
    1/2 + 1/3 S below a source of 1 V behind 1 ohm: p0 = 6/11, p1 = 4/11. Seen from a port, drive at 0 V:
    port 0 sees 2 + 1 || 3 = 11/4 ohm, and port 1 gets a quarter of that current.
    """
    ports = solve_ports([RowLines(1, np.ones((1, 2)))], 1.0, 0.0)
    np.testing.assert_allclose(ports.transfer, [[3 / 11, 2 / 11]], rtol=1e-14)
    np.testing.assert_allclose(ports.load, [[4 / 11, -1 / 11], [-1 / 11, 1 / (2 + 1 + 2 / 3)]], rtol=1e-14)


@pytest.mark.parametrize("r_driver", [0.0, 50.0, 1e5])
@pytest.mark.parametrize("r_wire", [0.0, 1.0, 1e3])
@pytest.mark.parametrize("shape", SMALL, ids=str)
def test_ports_obey_kirchhoff(shape, r_wire, r_driver):
    lines = two_lines(shape, RANGES["usual"])
    for some in (lines, lines[:1], lines[1:]):
        assert_close(solve_ports(some, r_wire, r_driver), kirchhoff(some, r_wire, r_driver), 1e-12)


@pytest.mark.parametrize("r_driver", [0.0, 1e-2, 1e5])
@pytest.mark.parametrize("r_wire", [0.0, *R_WIRES])
@pytest.mark.parametrize("limits", RANGES.values(), ids=RANGES.keys())
def test_ports_keep_their_accuracy_at_any_ratio(limits, r_wire, r_driver):
    lines = two_lines((4, 4), limits)
    assert_close(solve_ports(lines, r_wire, r_driver), kirchhoff(lines, r_wire, r_driver), 1e-13)
    for line in lines:  # one line: no difference of two, so every element by itself
        found, expected = solve_ports([line], r_wire, r_driver), kirchhoff([line], r_wire, r_driver)
        np.testing.assert_allclose(found.transfer, expected.transfer, rtol=1e-12)
        np.testing.assert_allclose(np.diag(found.load), np.diag(expected.load), rtol=1e-12)


@pytest.mark.parametrize("r_driver", [0.0, 1e4])
@pytest.mark.parametrize("r_wire", [0.0, *R_WIRES])
@pytest.mark.parametrize("limits", RANGES.values(), ids=RANGES.keys())
@pytest.mark.parametrize("shape", [(3, 5), (24, 17)], ids=str)
class TestProperties:
    def test_load_is_that_of_resistors(self, shape, limits, r_wire, r_driver):
        load = solve_ports(two_lines(shape, limits), r_wire, r_driver).load
        largest = np.abs(load).max()
        np.testing.assert_allclose(load, load.T, rtol=0, atol=1e-15 * largest)
        assert (load - np.diag(np.diag(load)) <= 1e-15 * largest).all()
        assert (load.sum(axis=1) > 0).all()

    def test_no_current_flows_at_equal_voltages(self, shape, limits, r_wire, r_driver):
        lines = [RowLines(1, line.g) for line in two_lines(shape, limits)]  # both lines at +V
        ports = solve_ports(lines, r_wire, r_driver)
        driven = ports.transfer.sum(axis=0)
        np.testing.assert_allclose(ports.load.sum(axis=1), driven, rtol=1e-9, atol=1e-13 * np.abs(ports.load).max())

    def test_more_wire_carries_less_current(self, shape, limits, r_wire, r_driver):
        g = random_g(shape, limits)
        ports, longer = (solve_ports([RowLines(1, g)], r, r_driver) for r in (r_wire, 1.5 * r_wire + 1e-2))
        assert (longer.transfer >= 0).all()
        assert longer.transfer.sum() < ports.transfer.sum() * (1 + 1e-14)  # rows at one voltage: Rayleigh's law
        assert (np.diag(longer.load) <= np.diag(ports.load) * (1 + 1e-14)).all()


@pytest.mark.parametrize("r_wire", R_WIRES)
@pytest.mark.parametrize("limits", RANGES.values(), ids=RANGES.keys())
def test_drives_and_ports_can_be_exchanged(limits, r_wire):
    g = random_g((20, 13), limits)
    there = solve_ports([RowLines(1, g)], r_wire, 0.0).transfer
    back = solve_ports([RowLines(1, g[::-1, ::-1].T)], r_wire, 0.0).transfer  # the same network, seen from its ports
    np.testing.assert_allclose(back[::-1, ::-1].T, there, rtol=1e-11)


@pytest.mark.parametrize("shape", [(2, 160), (3, 37)], ids=str)
@pytest.mark.parametrize("tiny", [wires.TINY, 1e-3, 0.99])  # from never to always
def test_lines_that_fade_along_the_way(monkeypatch, tiny, shape):
    """Wires so long that the product of all steps along a line is no number any more."""
    lines = [RowLines(1, random_g(shape, (1e-3, 1e-2), seed)) for seed in (0, 1)]
    whole = solve_ports(lines, 3e3, 10.0)
    monkeypatch.setattr(wires, "TINY", tiny)
    ports = solve_ports(lines, 3e3, 10.0)
    np.testing.assert_allclose(ports.load, whole.load, rtol=1e-10, atol=1e-18 * whole.load.max())
    np.testing.assert_allclose(ports.load.sum(axis=1), ports.transfer.sum(axis=0), rtol=0, atol=1e-18)


@pytest.mark.parametrize("r_driver", [0.0, 1e3])
def test_short_wires_are_no_wires(r_driver):
    lines = two_lines((12, 7), RANGES["usual"])
    none = solve_ports(lines, 0.0, r_driver)
    gaps = [
        max(np.abs(getattr(solve_ports(lines, r, r_driver), name) - getattr(none, name)).max() for name in NAMES)
        for r in (1e-1, 1e-3, 1e-5, 1e-12)
    ]
    assert gaps[0] > 1e-8  # siemens: seen
    assert gaps[1] == pytest.approx(gaps[0] * 1e-2, rel=0.02)  # first order in the wire
    assert gaps[2] == pytest.approx(gaps[0] * 1e-4, rel=0.02)
    assert gaps[3] < 1e-15


NGSPICE_CASES = [((2, 3), 2), ((16, 9), 2), ((32, 32), 2), pytest.param((64, 64), 1, marks=pytest.mark.slow)]
OPTIONS = ".options reltol=1e-9 abstol=1e-18 vntol=1e-15 gmin=1e-18 itl1=500"


@pytest.mark.ngspice
@pytest.mark.parametrize("r_wire", R_WIRES)
@pytest.mark.parametrize("limits", [RANGES["usual"], RANGES["any"]], ids=["usual", "any"])
@pytest.mark.parametrize(("shape", "number"), NGSPICE_CASES, ids=str)
def test_currents_are_ngspices(tmp_path, shape, number, limits, r_wire):
    lines, r_driver = two_lines(shape, limits)[:number], 20.0
    volts = np.random.default_rng(2).uniform(-0.1, 0.1, shape[0])
    deck = tmp_path / "crossbar.cir"
    deck.write_text("\n".join(resistor_deck(lines, r_wire, r_driver, volts)) + "\n")
    answer = run_ngspice_batch(deck)
    expected = np.array([answer[f"i(vc{k})"][0] for k in range(shape[1])])
    found = volts @ solve_ports(lines, r_wire, r_driver).transfer
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


def resistor_deck(lines, r_wire, r_driver, volts):
    """Yield a netlist of plain resistors and sources, every column held at 0 V."""
    yield "crossbar"
    yield OPTIONS
    for i, (a, b, ohm) in enumerate(resistors(lines, r_wire, r_driver)):
        yield f"R{i} {a} {b} {ohm:.17g}"
    for j, volt in enumerate(volts):
        yield f"Vp{j} dp{j} 0 {volt:.17g}"
        yield f"Vn{j} dn{j} 0 {-volt:.17g}"
    columns = range(lines[0].g.shape[1])
    yield from (f"Vc{k} c{k} 0 0" for k in columns)
    yield ".save " + " ".join(f"i(vc{k})" for k in columns)
    yield ".op"
    yield ".end"
