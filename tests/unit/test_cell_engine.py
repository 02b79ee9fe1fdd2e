"""The bank of memristors in ngspice: workers, and what is said when something breaks."""

import os
import signal
from pathlib import Path

import numpy as np
import psutil
import pytest

from hvae_mnn.engines.spice import cells
from hvae_mnn.engines.spice.cell_worker import Pulse
from hvae_mnn.engines.spice.cells import SpiceCells, trace_decks
from hvae_mnn.errors import EngineError
from hvae_mnn.hardware.files import load_hardware

pytestmark = [pytest.mark.ngspice, pytest.mark.timeout(60)]

ONE = np.ones(1)


def children() -> list[psutil.Process]:
    return psutil.Process().children()


def test_a_deck_that_ngspice_refuses_is_named_and_leaves_no_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = cells.format_cell_deck
    monkeypatch.setattr(cells, "format_cell_deck", lambda config: good(config).replace("Xm ", "Xm bad "))
    before = children()
    with pytest.raises(EngineError, match=r"decks/cell\.cir: ngspice failed at `source cell\.cir`: .*[Tt]oo"):
        SpiceCells(tmp_path, ONE / 2, load_hardware("default"), workers=2)
    assert children() == before


def test_a_pulse_that_does_not_converge_names_the_deck(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = cells.format_cell_deck
    no_solution = "Bno 0 q I=V(q)*V(q)+V(drive)+1\nRno q 0 1\n.end\n"
    monkeypatch.setattr(cells, "format_cell_deck", lambda config: good(config).replace(".end\n", no_solution))
    with SpiceCells(tmp_path, ONE / 2, load_hardware("default"), workers=1) as bank:
        with pytest.raises(EngineError, match=r"decks/cell\.cir: ngspice failed at `tran "):
            bank.read()


def test_a_deck_without_the_cell_s_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = cells.format_cell_deck
    monkeypatch.setattr(cells, "format_cell_deck", lambda config: good(config).replace("v(x)", ""))
    with SpiceCells(tmp_path, ONE / 2, load_hardware("default"), workers=1) as bank:
        with pytest.raises(EngineError, match=r"decks/cell\.cir: ngspice has no result `x`"):
            bank.read()


def test_a_library_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = cells.format_cell_deck
    monkeypatch.setattr(cells, "format_cell_deck", lambda config: good(config).replace("../lib/", "../nowhere/"))
    with pytest.raises(EngineError, match=r"Could not find include file \.\./nowhere/memristor_dynamic\.lib"):
        SpiceCells(tmp_path, ONE / 2, load_hardware("default"), workers=1)


def test_a_worker_that_is_killed_is_an_error_and_not_a_hang(tmp_path: Path) -> None:
    before = children()
    with SpiceCells(tmp_path, np.full(4, 0.5), load_hardware("default"), workers=2) as bank:
        bank.read()
        started = [process for process in children() if process not in before]
        assert len(started) == 2
        os.kill(started[1].pid, signal.SIGKILL)
        with pytest.raises(EngineError, match="was killed by signal SIGKILL"):
            for _ in range(2):
                bank.pulse(np.full(4, 0.2), np.full(4, 1e-6), np.ones(4))
    assert children() == before


def test_no_more_workers_than_cells(tmp_path: Path) -> None:
    before = len(children())
    with SpiceCells(tmp_path, np.full(2, 0.5), load_hardware("default"), workers=8):
        assert len(children()) - before == 2
    assert len(children()) == before


def test_only_cells_that_get_a_pulse_are_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run: list[float] = []
    call = cells.WorkerPool.call

    def counting(pool: cells.WorkerPool, method: str, arguments: list[tuple[list[Pulse]] | None]) -> list[object]:
        if method == "pulse":
            run.extend(pulse.volts for given in arguments if given is not None for pulse in given[0])
        return call(pool, method, arguments)

    monkeypatch.setattr(cells.WorkerPool, "call", counting)
    with SpiceCells(tmp_path, np.full(5, 0.5), load_hardware("default"), workers=2) as bank:
        bank.read()
        assert run == [0.0] * 5
        bank.read()
        run.clear()
        bank.pulse(np.array([0, 0.2, 0, 0, -0.5]), np.full(5, 1e-6), np.ones(5))
        assert sorted(run) == [-0.5, 0.2]
        bank.pulse(np.zeros(5), np.full(5, 1e-6), np.ones(5))
        bank.read()
        assert len(run) == 2


def test_a_folder_with_spaces_and_other_letters(tmp_path: Path) -> None:
    folder = tmp_path / "Größe 1; $x"
    with SpiceCells(folder, np.array([0.25]), load_hardware("default"), workers=1) as bank:
        assert bank.read() == pytest.approx(1 / (5e3 * 0.25 + 100e3 * 0.75), rel=1e-9)
    assert (folder / "lib" / "memristor_dynamic.lib").is_file()


def test_the_same_folder_again(tmp_path: Path) -> None:
    for state in (0.25, 0.75):
        with SpiceCells(tmp_path, np.array([state]), load_hardware("default"), workers=1) as bank:
            assert bank.read() == pytest.approx(1 / (5e3 * state + 100e3 * (1 - state)), rel=1e-9)


def test_what_is_read_and_given_is_the_callers_own(tmp_path: Path) -> None:
    states = np.array([0.25, 0.5])
    with SpiceCells(tmp_path, states, load_hardware("default"), workers=1) as bank:
        bank.read()[:] = 0
        bank.pulse(np.full(2, 0.2), np.full(2, 1e-4), np.ones(2))
        assert np.all(bank.read() > 0)
        assert np.all(bank.states > states)
    np.testing.assert_array_equal(states, [0.25, 0.5])


def test_a_trace_of_a_broken_deck(tmp_path: Path) -> None:
    before = children()
    with pytest.raises(EngineError, match=r"decks/broken\.cir: ngspice found no circuit|decks/broken\.cir: ngspice f"):
        trace_decks(tmp_path, {"broken": ""}, load_hardware("aist").dynamic_memristor("a test"))
    assert children() == before
