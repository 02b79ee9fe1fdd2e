"""Sweeps give the same rows whoever measures them, in whatever pieces, and however often they are stopped."""

import gc
import io
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest
from distributed import Client, LocalCluster
from sweeping import FAKE, REFUSES, SLOW, assert_same, make_studies, plan_of, stored, sweep

from hvae_mnn.errors import ArtifactError, EngineError
from hvae_mnn.experiments.sweep import run, store
from hvae_mnn.experiments.sweep.cluster import BenchInputs, local_client, remote_client
from hvae_mnn.experiments.sweep.run import chosen_for_check
from hvae_mnn.experiments.sweep.store import Parts, Sweep, SweepStore, load_sweep
from hvae_mnn.runtime import interrupts
from hvae_mnn.runtime.interrupts import Interrupts

PLAN, POINTS = plan_of()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """The rows of a process by itself."""
    return sweep(tmp_path_factory.mktemp("run") / "whole", PLAN, POINTS)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with local_client(2) as client:
        yield client


@pytest.mark.parametrize("chunk", [1, 3, 7])
def test_rows_do_not_depend_on_chunks(tmp_path: Path, whole: Sweep, chunk: int) -> None:
    assert_same(sweep(tmp_path / "out", PLAN, POINTS, chunk=chunk).rows, whole.rows)


@pytest.mark.parametrize("chunk", [1, 3, 7])
def test_rows_do_not_depend_on_workers(tmp_path: Path, whole: Sweep, cluster: Any, chunk: int) -> None:
    address = cluster.scheduler.address
    assert_same(sweep(tmp_path / "out", PLAN, POINTS, scheduler=address, chunk=chunk).rows, whole.rows)


def worker_pids(folder: Path) -> set[int]:
    return {process.pid for process in psutil.Process().children(recursive=True) if "spawn_main" in _command(process)}


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def test_a_worker_that_is_killed_is_replaced(tmp_path: Path, whole: Sweep, capfd: pytest.CaptureFixture[str]) -> None:
    """Of two processes on this machine; and none of them, nor a word of theirs, is left."""
    before, killed = worker_pids(tmp_path), []

    def kill(stage: str, done: int, total: int | None) -> None:
        if done >= 4 and not killed:
            killed.append(max(worker_pids(tmp_path) - before))
            os.kill(killed[0], signal.SIGKILL)

    found = sweep(tmp_path / "out", PLAN, POINTS, SLOW, workers=2, chunk=2, progress=kill)
    assert len(killed) == 1
    assert_same(found.rows, whole.rows)
    assert worker_pids(tmp_path) == before
    assert capfd.readouterr() == ("", "")


def interrupt_after(count: int) -> Callable[[str, int, int | None], None]:
    """Return what sends Ctrl-C to this process when so many trials are there."""

    def report(stage: str, done: int, total: int | None) -> None:
        if done >= count:
            os.kill(os.getpid(), signal.SIGINT)

    return report


@pytest.mark.parametrize("scheduler", [False, True])
def test_an_interrupted_sweep_goes_on_with_other_chunks(
    tmp_path: Path, whole: Sweep, cluster: Any, scheduler: bool
) -> None:
    out, said = tmp_path / "out", list[str]()
    address = cluster.scheduler.address if scheduler else None
    with pytest.raises(KeyboardInterrupt, match=r"\d+ of 70 trials are kept; the same command goes on from there"):
        sweep(out, PLAN, POINTS, SLOW, scheduler=address, chunk=3, progress=interrupt_after(20))
    kept = stored(tmp_path / "out.unfinished")
    assert 20 <= kept < 70
    found = sweep(out, PLAN, POINTS, scheduler=address, chunk=7, tell=said.append)
    assert said == [f"going on after {kept} of 70 trials ({tmp_path / 'out.unfinished'})", f"wrote {out}"]
    assert_same(found.rows, whole.rows)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_is_there_is_not_measured_again(tmp_path: Path, whole: Sweep) -> None:
    out = tmp_path / "out"
    drawn: list[list[str]] = []
    draw = lambda found, folder: drawn.append(sorted(path.name for path in folder.iterdir()))  # noqa: E731
    sweep(out, PLAN, POINTS, draw=draw)
    (tmp_path / "out.unfinished").mkdir()  # of a process that was killed before it had deleted all of it
    assert drawn == [["plan.json", "rows.parquet"]]
    assert_same(sweep(out, PLAN, POINTS, "nothing:there", draw=draw).rows, whole.rows)
    assert len(drawn) == 1
    assert not (tmp_path / "out.unfinished").exists()
    again = sweep(out, PLAN.model_copy(update={"yield_at": 0.25}), POINTS, "nothing:there", draw=draw)
    assert_same(again.rows, whole.rows)
    assert len(drawn) == 2
    assert load_sweep(out).plan.yield_at == 0.25
    assert load_sweep(out).plan.software == {"reconstruction": 10.0, "kl": 2.0, "elbo": 12.0}
    other, points = plan_of(seed=4)
    with pytest.raises(ArtifactError, match="the folder holds another sweep"):
        sweep(out, other, points)


def test_every_point_has_the_same_dies(tmp_path: Path) -> None:
    plan, points = plan_of(make_studies(3), seed=5)
    rows = sweep(tmp_path / "out", plan, points).rows
    assert (rows["seed"] == rows["trial"] + 5).all()
    other, others = plan_of(make_studies(2), seed=6)
    shifted = sweep(tmp_path / "other", other, others).rows
    one = rows[(rows["study"] == "errors") & (rows["seed"].isin([6, 7]))].drop(columns="trial").reset_index(drop=True)
    two = shifted[shifted["study"] == "errors"].drop(columns="trial").reset_index(drop=True)
    assert_same(one, two)


@pytest.mark.parametrize("scheduler", [False, True])
def test_a_trial_that_cannot_be_measured_stops_the_sweep_and_keeps_the_others(
    tmp_path: Path, cluster: Any, scheduler: bool
) -> None:
    address = cluster.scheduler.address if scheduler else None
    with pytest.raises(EngineError) as caught:
        sweep(tmp_path / "out", PLAN, POINTS, REFUSES, scheduler=address, chunk=5)
    assert str(caught.value).startswith("study errors, point ")
    assert str(caught.value).endswith("array.scheme=paired): the bench is on strike")
    assert "device.sigma=0.2" in str(caught.value)
    kept = stored(tmp_path / "out.unfinished")
    assert kept == 40 or (scheduler and kept > 0)
    assert not (tmp_path / "out").exists()


def test_a_full_disk_leaves_nothing_with_the_workers(
    tmp_path: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(parts: Parts, rows: object) -> None:
        raise ArtifactError("the disk is full")

    monkeypatch.setattr(Parts, "add", full)
    with pytest.raises(ArtifactError, match="the disk is full"):
        sweep(tmp_path / "out", PLAN, POINTS, scheduler=cluster.scheduler.address)
    plugins = cluster.run(lambda dask_worker: [name for name in dask_worker.plugins if name.startswith("hvae-mnn")])
    assert list(plugins.values()) == [[], []]


def test_a_scheduler_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hvae_mnn.experiments.sweep.cluster._PATIENCE", 0.5)
    for address, said in (("tcp://127.0.0.1:1", "cannot be reached"), ("nothing://x", "cannot be reached")):
        with pytest.raises(EngineError, match=said) as caught:
            sweep(tmp_path / "out", PLAN, POINTS, scheduler=address)
        assert str(caught.value).startswith(f"--scheduler {address}: ")
        assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_no_half_made_client_is_left_to_the_garbage_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would close itself when it is collected, and wait for ever if that is while Dask holds its lock."""
    monkeypatch.setattr("hvae_mnn.experiments.sweep.cluster._PATIENCE", 0.5)
    gc.disable()
    try:
        for address in ("tcp://127.0.0.1:1", "nothing://x", "127.0.0.1:port"):
            with pytest.raises(EngineError, match="cannot be reached"), remote_client(address):
                pass
            known = [each for each in gc.get_objects() if type(each) is Client]
            assert all(client.status in ("closed", "newly-created", "running") for client in known)
    finally:
        gc.enable()


def test_workers_that_lack_the_bench_are_said(tmp_path: Path, cluster: Any) -> None:
    with pytest.raises(ModuleNotFoundError, match="missing"):
        sweep(tmp_path / "out", PLAN, POINTS, "missing:Bench", scheduler=cluster.scheduler.address)


def test_a_scheduler_without_workers_is_waited_for(tmp_path: Path) -> None:
    said: list[str] = []
    options = {"dashboard_address": "127.0.0.1:0", "scheduler_kwargs": {"dashboard": False}}
    with LocalCluster(n_workers=0, **options) as empty:
        timer = threading.Timer(2, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt, match="no trial was finished, nothing was written"):
            sweep(tmp_path / "out", PLAN, POINTS, scheduler=empty.scheduler_address, tell=said.append)
    assert said == ["no worker at the scheduler yet; waiting for one"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_scheduler_that_ends_leaves_what_is_measured(
    tmp_path: Path, whole: Sweep, capfd: pytest.CaptureFixture[str]
) -> None:
    port, out = 30_000 + os.getpid() % 10_000, tmp_path / "out"
    dask = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--port", f"{port}", "--no-dashboard", "--no-show"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    address = f"tcp://127.0.0.1:{port}"
    paths = {"PYTHONPATH": os.pathsep.join(sys.path)}
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--no-nanny", "--nthreads", "1"]
    worker += ["--local-directory", str(tmp_path / "worker")]
    with (
        subprocess.Popen(dask, **quiet) as scheduler,
        subprocess.Popen(worker, env=os.environ | paths, **quiet) as measuring,
    ):

        def end(stage: str, done: int, total: int | None) -> None:
            if done >= 20:
                scheduler.kill()

        time.sleep(5)
        try:
            with pytest.raises(EngineError, match="the Dask scheduler is gone; start one again and repeat the command"):
                sweep(out, PLAN, POINTS, SLOW, scheduler=address, chunk=2, progress=end)
        finally:
            scheduler.kill()
            measuring.kill()
    assert 20 <= stored(tmp_path / "out.unfinished") < 70
    assert capfd.readouterr() == ("", "")
    assert_same(sweep(out, PLAN, POINTS).rows, whole.rows)


def test_checks_are_spread_over_the_points() -> None:
    plan, points = plan_of(make_studies(4))

    def chosen(count: int) -> list[tuple[str, int, int]]:
        return [(point.study, point.index, trial) for point, trial in chosen_for_check(points, count)]

    assert chosen(0) == []
    assert chosen(1) == [("errors", 0, 0)]
    assert chosen(2) == [("errors", 0, 0), ("tiles", 1, 0)]
    assert chosen(3) == [("errors", 0, 0), ("errors", 4, 0), ("tiles", 1, 0)]
    assert len(set(chosen(8))) == 8 and {trial for *_, trial in chosen(8)} == {0}
    assert chosen(9)[8:] == [("errors", 0, 1)]
    assert len(set(chosen(1000))) == plan.trials


def test_a_check_in_ngspice_goes_on_a_trial_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "describe_ngspice", lambda: {"version": "39"})
    plan, points = plan_of(make_studies(4), spice_check=6)
    reports: list[tuple[str, int, int | None]] = []

    def stop(stage: str, done: int, total: int | None) -> None:
        reports.append((stage, done, total))
        if stage != "trials" and done == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt, match="28 of 28 trials are kept, 3 of them repeated in ngspice; the same"):
        sweep(tmp_path / "out", plan, points, progress=stop)
    assert reports[-1] == ("trials in ngspice", 3, 6)
    found = sweep(tmp_path / "out", plan, points)
    assert found.spice_check is not None
    assert len(found.spice_check) == 6
    assert set(found.spice_check["backend"]) == {"spice"}
    same = found.spice_check.merge(found.rows, on=["study", "point", "trial"], suffixes=("", "_nodal"))
    assert (same["elbo"] == same["elbo_nodal"]).all()
    assert_same(load_sweep(tmp_path / "out").spice_check, found.spice_check)
    assert found.plan.engine.endswith("; checked by ngspice 39")


def test_a_finished_sweep_takes_checks_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And its rows stay what they are, values that are not finite too."""
    plan, points = plan_of(make_studies(2))
    before = sweep(tmp_path / "out", plan, points)
    assert before.plan.engine.startswith("numpy ")
    content = (tmp_path / "out" / "rows.parquet").read_bytes()
    monkeypatch.setattr(run, "describe_ngspice", lambda: {"version": "39"})
    found = sweep(tmp_path / "out", plan_of(make_studies(2), spice_check=3)[0], points)
    assert found.spice_check is not None and len(found.spice_check) == 3
    assert pq.read_table(tmp_path / "out" / "rows.parquet").equals(pq.read_table(io.BytesIO(content)))
    again = sweep(tmp_path / "out", plan.model_copy(update={"yield_at": 0.5}), points)
    assert again.plan.spice_check == 3 and again.spice_check is not None


def test_what_a_process_left_that_was_killed_while_it_deleted_is_no_other_sweep(tmp_path: Path) -> None:
    plan, points = plan_of(make_studies(2))
    sweep(tmp_path / "out", plan, points)
    rows = (tmp_path / "out" / "rows.parquet").read_bytes()
    order: list[str] = []
    real = shutil.rmtree
    with SweepStore(tmp_path / "other", plan) as kept, pytest.MonkeyPatch.context() as patch:
        patch.setattr(store.shutil, "rmtree", lambda folder, **how: (order.append(folder.name), real(folder, **how)))
        kept.remove()
    assert order == ["rows", "checks", "other.unfinished"]  # what tells whose rows they are goes last
    assert (tmp_path / "out" / "rows.parquet").read_bytes() == rows


def test_all_trials_in_ngspice(tmp_path: Path, whole: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "describe_ngspice", lambda: {"version": "39"})
    plan, points = plan_of(backend="spice")
    rows = sweep(tmp_path / "out", plan, points, workers=2).rows
    assert set(rows["backend"]) == {"spice"}
    assert_same(rows.drop(columns="backend"), whole.rows.drop(columns="backend"))


def test_ngspice_is_missed_before_anything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise EngineError("libngspice was not found")

    monkeypatch.setattr(run, "describe_ngspice", missing)
    plan, points = plan_of(spice_check=1)
    with pytest.raises(EngineError, match="libngspice was not found"):
        sweep(tmp_path / "out", plan, points)
    assert list(tmp_path.iterdir()) == []


def test_inputs_of_a_bench_name_what_makes_it() -> None:
    with pytest.raises(ModuleNotFoundError):
        BenchInputs(None, (), factory="nothing:there").make()  # type: ignore[arg-type]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupts_wait_until_they_are_let_in(number: signal.Signals) -> None:
    before = [signal.getsignal(each) for each in interrupts._SIGNALS]
    done = []
    with pytest.raises(KeyboardInterrupt), Interrupts() as held:
        os.kill(os.getpid(), number)
        done.append("held")
        with held.allowed():
            done.append("not reached")
    assert done == ["held"]
    with pytest.raises(KeyboardInterrupt), Interrupts() as held, held.allowed():
        os.kill(os.getpid(), number)
        time.sleep(5)
        done.append("not reached")
    with pytest.raises(KeyboardInterrupt), Interrupts():
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)  # somebody insists
        done.append("not reached")
    with pytest.raises(KeyboardInterrupt), Interrupts():
        os.kill(os.getpid(), number)
    with pytest.raises(ZeroDivisionError), Interrupts():
        os.kill(os.getpid(), number)
        done.append(1 / 0)
    assert done == ["held"]
    assert [signal.getsignal(each) for each in interrupts._SIGNALS] == before


@pytest.mark.slow
def test_memory_does_not_grow_with_trials(tmp_path: Path, cluster: Any) -> None:
    """Over the second 1,000 of trials, one a chunk: of this process and of the workers."""
    plan, points = plan_of(make_studies(286))
    assert plan.trials >= 2000
    sizes: dict[int, list[int]] = {}

    def note(stage: str, done: int, total: int | None) -> None:
        if done in (1000, plan.trials):
            memory = cluster.run(lambda: psutil.Process().memory_info().rss)
            sizes[done] = [psutil.Process().memory_info().rss, *(memory[key] for key in sorted(memory))]

    sweep(tmp_path / "out", plan, points, FAKE, scheduler=cluster.scheduler.address, chunk=1, progress=note)
    grown = [(last - first) / 1e6 for first, last in zip(sizes[1000], sizes[plan.trials], strict=True)]
    assert len(grown) == 3
    assert max(grown) < 20, grown
