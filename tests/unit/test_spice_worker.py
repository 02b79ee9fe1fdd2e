"""ngspice that is too old, broken decks, decks that do not converge, workers that die: what is said."""

import os
import re
import signal
import time
from collections.abc import Collection
from pathlib import Path

import numpy as np
import psutil
import pytest
from making import make_build

from hvae_mnn.compiler.build import Build
from hvae_mnn.engines import doctor
from hvae_mnn.engines.base import DeckSource, ReadCycle
from hvae_mnn.engines.spice import binding as ngspice
from hvae_mnn.engines.spice import engine as spice
from hvae_mnn.engines.spice.engine import SpiceEngine, describe_ngspice
from hvae_mnn.engines.spice.worker import SpiceWorker
from hvae_mnn.errors import ArtifactError, EngineError
from hvae_mnn.runtime.workers import WorkerPool
from hvae_mnn.simulation.sentence import simulate_sentence

TILE = "encoder2.h.r0c0"
NO_SOLUTION = "Bno 0 q I=V(q)*V(q)+1\nRno q 0 1\n"
"""q = q^2 + 1 has no real solution."""

pytestmark = pytest.mark.timeout(60)


def make(folder: Path, *overrides: str) -> Build:
    return make_build(folder, "default", ("array.tile_rows=9", *overrides), cells=("rnn", "rnn"), decoder="rnn")


def deck_of(build: Build, tile: str = TILE) -> Path:
    assert build.folder is not None
    return build.folder / build.tiles[tile].plan.deck


def add(path: Path, lines: str) -> None:
    text = path.read_text()
    assert text.count("\n.op\n") == 1
    path.write_text(text.replace("\n.op\n", f"\n{lines}.op\n"))


def load_fails(build: Build, *parts: str) -> None:
    with pytest.raises(EngineError) as found, SpiceEngine(build, workers=2):
        pass
    for part in parts:
        assert part in str(found.value)


def simulation_fails(build: Build, transient: Collection[str] = ()) -> str:
    with pytest.raises(EngineError) as found:
        simulate_sentence(build, "a b c", workers=2, transient=transient)
    return str(found.value)


class FakeNgspice:
    def __init__(self, says: str) -> None:
        self.says = says

    def run(self, command: str, what: str) -> str:
        assert command == "version -f"
        return self.says


def test_version_is_read_and_an_old_one_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(says: str) -> str:
        return ngspice.check_version(FakeNgspice(says))  # type: ignore[arg-type]

    assert check("** ngspice-39.3 : Circuit level simulation program") == "39.3"
    assert check("******\n** ngspice-42+ : Circuit") == "42+"
    with pytest.raises(
        EngineError, match=r"libngspice is ngspice-38; expected ngspice-39 or newer\. Upgrade with: sudo apt"
    ):
        check("** ngspice-38 : Circuit")
    with pytest.raises(EngineError, match="libngspice is no version; expected"):
        check("hello")
    monkeypatch.setattr(ngspice, "OLDEST", 43)
    with pytest.raises(EngineError, match="libngspice is ngspice-42; expected ngspice-43 or newer"):
        check("** ngspice-42 : Circuit")


def worker_that_wants_more() -> SpiceWorker:
    """Stand in for an ngspice that is too old."""
    ngspice.OLDEST = 999
    return SpiceWorker()


class WorkerThatTells(SpiceWorker):
    """Says which solver ngspice names when it reads a deck."""

    def takes_klu(self) -> bool:
        said = self._ngspice.run("op", "solver") + self._ngspice.stderr
        self._ngspice.run("destroy", "solver")
        return "Using KLU" in said


def broken_worker() -> SpiceWorker:
    raise ZeroDivisionError("a bug in the worker")


@pytest.mark.ngspice
def test_an_old_ngspice_stops_the_engine_and_doctor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spice, "_FACTORY", f"{__name__}:worker_that_wants_more")
    load_fails(make(tmp_path / "build"), "libngspice is ngspice-", "expected ngspice-999 or newer")
    with pytest.raises(EngineError, match="expected ngspice-999 or newer"):
        describe_ngspice()


def test_no_library_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Missing:
        LIBRARY_PATH = "nowhere.so"

        def __init__(self) -> None:
            raise OSError("nowhere.so: cannot open shared object file")

    monkeypatch.setattr(ngspice, "Ngspice", Missing)
    with pytest.raises(
        EngineError, match="libngspice was not found; install it with: sudo apt-get install -y libngspice0"
    ):
        ngspice.load_ngspice()


def test_a_bug_in_a_worker_keeps_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spice, "_FACTORY", f"{__name__}:broken_worker")
    with pytest.raises(RuntimeError, match=r"(?s)Traceback.*in broken_worker.*ZeroDivisionError: a bug in the worker"):
        SpiceEngine(make(tmp_path / "build"), workers=1)


@pytest.mark.ngspice
def test_ngspice_describes_itself() -> None:
    facts = describe_ngspice()
    assert int(re.match(r"\d+", str(facts["version"]))[0]) >= ngspice.OLDEST  # type: ignore[index]
    assert "ngspice" in str(facts["library"])
    assert isinstance(facts["klu"], bool)


@pytest.mark.ngspice
@pytest.mark.parametrize("wires", ["full", "reduced"])
def test_klu_solves_full_wires_and_no_others(tmp_path: Path, wires: str) -> None:
    """Where ngspice has KLU, its readings of full wires are Sparse 1.3's; ngspice names the solver it takes."""
    build = make(tmp_path / "build", "array.r_wire=5", f"array.parasitics={wires}")
    klu = bool(describe_ngspice()["klu"])
    with SpiceEngine(build, workers=1) as engine:
        assert engine.info.klu == (klu and wires == "full")
    plan = build.tiles[TILE].plan
    deck = DeckSource(plan.deck, (False,) * plan.rows, plan.columns)
    codes = np.arange(2.0 * plan.rows).reshape(2, plan.rows) - plan.rows
    pool = WorkerPool(f"{__name__}:WorkerThatTells", 2)
    try:
        pool.call(
            "load", [(str(build.folder), deck, full, ReadCycle("", None, None)) for full in (wires == "full", False)]
        )
        solvers = pool.call("takes_klu", [(), ()])
        held = [read[1] for read in pool.call("read", [(codes, None)] * 2)]
    finally:
        pool.close()
    assert solvers == [engine.info.klu, False]
    np.testing.assert_allclose(held[0], held[1], rtol=0, atol=1e-9)


def test_doctor_says_what_klu_means(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = {"version": "44.2", "xspice": True, "library": "libngspice.so.0"}

    def line(klu: bool) -> str:
        monkeypatch.setattr(spice, "describe_ngspice", lambda: {**facts, "klu": klu})
        return next(finding.text for finding in doctor.examine() if finding.name == "ngspice klu")

    assert line(klu=True) == "yes (used for full wires)"
    assert line(klu=False) == "no (full wires will be slow; use parasitics = reduced)"


def test_an_unsaved_build_has_no_decks() -> None:
    with pytest.raises(ArtifactError, match="the spice engine reads decks from disk: save the build first"):
        SpiceEngine(make_build(None))


def test_waveforms_of_an_unknown_tile(tmp_path: Path) -> None:
    message = r"--waveforms encoder3\.h\.r0c0: no such tile in the build; expected all, a pattern or one of encoder1\.h"
    with pytest.raises(ArtifactError, match=message):
        SpiceEngine(make(tmp_path / "build"), transient=["encoder3.h.r0c0"])


@pytest.mark.ngspice
@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("Xbad c0 0 nosuch\n", "unknown subckt: xbad c0 0 nosuch"),
        (".subckt open a b\n", "Mismatch of .subckt"),
        ("Rbad c0 0 {nowhere}\n", "Cannot compute substitute"),
    ],
)
def test_a_broken_deck(tmp_path: Path, lines: str, said: str) -> None:
    build = make(tmp_path / "build")
    add(deck_of(build), lines)
    load_fails(build, f"{deck_of(build)}: ngspice failed at `source ", said)


@pytest.mark.ngspice
def test_a_library_that_is_gone(tmp_path: Path) -> None:
    build = make(tmp_path / "build")
    (tmp_path / "build" / "lib" / "adc.lib").unlink()
    load_fails(build, "Could not find include file ../../../lib/adc.lib")


@pytest.mark.ngspice
def test_a_deck_that_is_gone(tmp_path: Path) -> None:
    build = make(tmp_path / "build")
    deck_of(build).unlink()
    load_fails(build, f"{deck_of(build)}: ngspice f")


@pytest.mark.ngspice
def test_an_empty_deck_is_not_taken_for_its_neighbour(tmp_path: Path) -> None:
    build = make(tmp_path / "build")
    deck_of(build).write_text("")
    load_fails(build, f"{deck_of(build)}: ngspice found no circuit in the deck")


@pytest.mark.ngspice
def test_a_deck_without_a_node_or_a_source_of_its_own(tmp_path: Path) -> None:
    build = make(tmp_path / "build")
    path, text = deck_of(build), deck_of(build).read_text()
    path.write_text(text.replace("Xadc_1 hold1 adc1", "Xadc_1 hold1 other"))
    assert f"{path}: ngspice has no result `adc1`" in simulation_fails(build)
    path.write_text(text.replace("Vcode_3 ", "Vother_3 "))
    assert f"{path}: ngspice failed at `alter vcode_3 = " in simulation_fails(build)


@pytest.mark.ngspice
def test_a_deck_that_does_not_converge_names_layer_and_step(tmp_path: Path) -> None:
    build = make(tmp_path / "build")
    add(deck_of(build), NO_SOLUTION)
    said = simulation_fails(build)
    assert said.startswith(
        f"at encoder1 step 1, encoder2 step 0: {deck_of(build)}: ngspice failed at `dc vclk 1 1e12 1`: "
    )
    assert 'trouble with node "q"' in said
    assert "\n" not in said


@pytest.mark.ngspice
def test_a_deck_that_does_not_converge_in_time(tmp_path: Path) -> None:
    build = make(tmp_path / "build")
    add(deck_of(build), NO_SOLUTION.replace("+1", "+V(en)") + "Cno q 0 1p\n")
    said = simulation_fails(build, transient=[TILE])
    assert said.startswith(f"at encoder1 step 1, encoder2 step 0: {deck_of(build)}: ngspice failed at `tran ")
    assert "imestep too small" in said


@pytest.mark.ngspice
def test_a_worker_killed_in_a_run_is_an_error_and_not_a_hang(tmp_path: Path) -> None:
    build = make(tmp_path / "build")
    names = [layer.name for layer in build.manifest.layers]
    sizes = {name: sum(group.size for group in build.layer(name).groups) for name in names}
    with SpiceEngine(build, workers=2) as engine:
        codes = {name: np.zeros((1, sizes[name])) for name in names}
        assert set(engine.step(codes)) == set(names)
        pid, other = engine.worker_pids()
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(EngineError, match=rf"engine worker \(process {pid}\) was killed by signal SIGKILL"):
            engine.step(codes)
    assert not psutil.pid_exists(other)
    engine.close()
    assert engine.worker_pids() == []


@pytest.mark.ngspice
def test_a_deck_killed_in_a_run_is_an_error_too(tmp_path: Path) -> None:
    build = make(tmp_path / "build")
    size = sum(group.size for group in build.layer("encoder2").groups)
    with SpiceEngine(build, workers=1) as engine:
        pids = engine.deck_pids()
        assert set(pids) == set(build.tiles)
        os.kill(pids[TILE], signal.SIGKILL)
        with pytest.raises(EngineError, match=rf"engine worker \(process {pids[TILE]}\) was killed by signal SIGKILL"):
            engine.step({"encoder2": np.zeros((1, size))})
    deadline = time.monotonic() + 10
    while any(psutil.pid_exists(pid) for pid in pids.values()):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.ngspice
def test_a_read_is_the_same_at_every_point_of_a_sweep(tmp_path: Path) -> None:
    """Reads are points of one sweep; none depends on where in it it stands."""
    build = make(tmp_path / "build")
    size = sum(group.size for group in build.layer("encoder2").groups)
    codes = np.random.default_rng(0).integers(-127, 128, (3, size)).astype(float)
    with SpiceEngine(build, workers=1) as engine:
        reads = [engine.step({"encoder2": codes})["encoder2"] for _ in range(40)]
    for read in reads[1:]:
        np.testing.assert_array_equal(read.codes, reads[0].codes)
        np.testing.assert_allclose(read.analog, reads[0].analog, rtol=0, atol=1e-14)


@pytest.mark.ngspice
def test_a_worker_killed_between_steps_names_the_step(tmp_path: Path) -> None:
    build = make(tmp_path / "build")
    seen: list[tuple[str, int]] = []

    def kill_at_the_decoder(stage: str, done: int, total: int | None) -> None:
        seen.append((stage, done))
        if (stage, done) == ("decoder", 1):
            (worker,) = _workers()
            worker.kill()

    with pytest.raises(EngineError, match=r"^at decoder step 1: engine worker .* SIGKILL"):
        simulate_sentence(build, "a b", workers=1, progress=kill_at_the_decoder)
    assert ("encoder", 5) in seen  # <sos> a b <eos>, and encoder 2 one step behind


@pytest.mark.ngspice
def test_a_deck_that_fails_to_load_leaves_no_worker(tmp_path: Path) -> None:
    build = make(tmp_path / "build")
    add(deck_of(build), "Xbad c0 0 nosuch\n")
    load_fails(build, "nosuch")
    assert _workers() == []


@pytest.mark.ngspice
def test_transient_reads_take_one_sentence_at_a_time(tmp_path: Path) -> None:
    build = make(tmp_path / "build")
    size = sum(group.size for group in build.layer("encoder2").groups)
    with SpiceEngine(build, workers=1, transient=[TILE]) as engine:
        with pytest.raises(EngineError, match=r"^encoder2\.h\.r0c0: transient reads take one sentence at a time$"):
            engine.step({"encoder2": np.zeros((2, size))})
        engine.step({"encoder2": np.zeros((1, size))})
        engine.step({"encoder2": np.zeros((1, size))})
        (waveform,) = engine.waveforms().values()
    assert waveform.time[0] < 1e-6
    assert waveform.time[-1] == pytest.approx(2 * build.manifest.hardware.timing.cycle, rel=1e-6)
    assert (np.diff(waveform.time) >= 0).all()
    assert {"adc0", "hold5", "rp4", "en", "clk"} <= set(waveform.signals)


@pytest.mark.ngspice
def test_dynamic_states_go_on_from_cycle_to_cycle(tmp_path: Path) -> None:
    """With thresholds lowered in the Build's device a read moves cells; a cycle starts where the last one ended."""
    tiny = {"cells": ("rnn", "rnn"), "decoder": "rnn", "embedding": 3, "hidden": 2, "latent": 1}
    build = make_build(tmp_path / "build", "default", ("array.memristor=dynamic",), **tiny)
    tile = build.tiles["encoder1.h.r0c0"]
    device = build.folder / "lib" / "device.lib"
    device.write_text(re.sub(r"v_set=\S+\n\+ v_reset=\S+", "v_set=0.01 v_reset=-0.01", device.read_text()))
    codes = {"encoder1": np.array([[120.0, -110, 90, -100, 125]])}
    with SpiceEngine(build, workers=1) as engine:
        for _ in range(3):
            engine.step(codes)
        waveform = engine.waveforms()[tile.plan.name]
    starts = np.searchsorted(waveform.time, waveform.cycle * np.arange(1, 3) + 1e-12)
    assert (waveform.time[starts] - waveform.time[starts - 1] < 0.02 * waveform.cycle).all()
    for j, k in np.ndindex(tile.g.shape):
        state = waveform.signals[f"x{j}_{k}"]
        compiled = (100e3 - 1 / tile.g[j, k]) / 95e3  # R = 5k x + 100k (1 - x)
        assert state[0] == pytest.approx(compiled, abs=1e-9)
        moves = np.diff([state[0], *state[starts - 1], state[-1]])
        assert (np.abs(moves) > 1e-6).all()
        assert (np.sign(moves) == np.sign(moves[0])).all()
        assert np.abs(state[starts] - state[starts - 1]).max() < 0.05 * np.abs(moves).min()


def _workers() -> list[psutil.Process]:
    return [
        child for child in psutil.Process().children() if any("runtime.workers" in part for part in child.cmdline())
    ]
