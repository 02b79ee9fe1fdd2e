"""A sweep from its plan to its folder: what is there is not measured again."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hvae_mnn.engines.nodal import check_device
from hvae_mnn.engines.spice.engine import describe_ngspice
from hvae_mnn.experiments.sweep.bench import dies_together
from hvae_mnn.experiments.sweep.cluster import (
    BENCH,
    Bench,
    BenchInputs,
    Chunk,
    Measured,
    local_client,
    measure_here,
    measure_on,
    naming,
    remote_client,
)
from hvae_mnn.experiments.sweep.plan import Point, Study, SweepPlan
from hvae_mnn.experiments.sweep.sentences import SweepSentences
from hvae_mnn.experiments.sweep.store import (
    Parts,
    Sweep,
    SweepStore,
    check_sweep_folder,
    is_sweep,
    load_sweep,
    make_row,
)
from hvae_mnn.hardware.config import HardwareConfig
from hvae_mnn.model.checkpoint import Checkpoint
from hvae_mnn.model.network.threads import one_thread
from hvae_mnn.runtime.folders import unfinished_folder
from hvae_mnn.runtime.interrupts import Interrupts
from hvae_mnn.runtime.progress import Progress
from hvae_mnn.runtime.version import VERSION
from hvae_mnn.runtime.workers import core_count


@dataclass(frozen=True, slots=True)
class SweepSettings:
    """How a sweep is measured; no row depends on it.

    Attributes:
        workers: Processes; with backend `spice`, those of ngspice. As many as cores if not given.
        scheduler: Address of a Dask scheduler, instead of processes on this machine.
        chunk: Trials of a point that are measured together, and lost together on Ctrl-C; as many as are faster
            together if not given.
        bench: `module:callable` of what measures.
    """

    workers: int | None = None
    scheduler: str | None = None
    chunk: int | None = None
    bench: str = BENCH


def make_plan(
    checkpoint: Checkpoint,
    hardware: HardwareConfig,
    studies: Sequence[Study],
    sentences: SweepSentences,
    *,
    model_name: str,
    hardware_name: str,
    seed: int = 0,
    backend: str = "nodal",
    spice_check: int = 0,
    yield_at: float = 0.9,
    device: str | None = None,
) -> tuple[SweepPlan, tuple[Point, ...]]:
    """Return a plan and its points, whose hardware is checked.

    Raises:
        HardwareError: A point's hardware is refused; names the point.
        SweepError: The studies contradict themselves.
    """
    return SweepPlan(
        program_version=VERSION,
        model=model_name,
        model_hash=checkpoint.compiled_hash(),
        hardware_name=hardware_name,
        hardware=hardware,
        studies=tuple(studies),
        corpus=sentences.corpus,
        sentences=sentences.places,
        sentences_hash=sentences.content_hash(),
        seed=seed,
        backend=backend,
        spice_check=spice_check,
        yield_at=yield_at,
        device=device,
    ).settled()


def run_sweep(
    plan: SweepPlan,
    points: Sequence[Point],
    checkpoint: Checkpoint,
    sentences: SweepSentences,
    out: Path,
    settings: SweepSettings = SweepSettings(),
    *,
    draw: Callable[[Sweep, Path], object] | None = None,
    tell: Callable[[str], object] = lambda line: None,
    progress: Progress | None = None,
) -> Sweep:
    """Measure every trial of a plan that is not there yet, and write its Sweep.

    Args:
        plan: What is swept.
        points: Its points.
        checkpoint: The model.
        sentences: The plan's sentences.
        out: Folder of the Sweep; what is measured meanwhile lies beside it.
        settings: Who measures.
        draw: Called with the Sweep and the folder that its figures go to.
        tell: Called with a line about what goes on.
        progress: Called with a stage, how much is done and how much there is.

    Raises:
        ArtifactError: `out` holds another sweep or something else, or the disk fails.
        EngineError: ngspice, the scheduler or workers are missing or failed.
        UserError: A trial cannot be measured; names its point.
        KeyboardInterrupt: Interrupted; says how many trials are kept.
    """
    check_sweep_folder(out, plan)
    found = load_sweep(out) if is_sweep(out) else None
    if found is not None and _serves(found.plan, plan):
        _clear_away(plan, out)
        tell(f"{out} is there already: nothing was measured")
        return found
    if plan.device is not None and settings.scheduler is None:
        check_device(plan.device)
    if found is not None:
        plan = plan.model_copy(update={"spice_check": max(plan.spice_check, found.plan.spice_check)})
    engine = _name_engine(plan, found)
    inputs = BenchInputs(checkpoint, sentences.ids, plan.seed, settings.bench, plan.device)
    with Interrupts() as interrupts, SweepStore(out, plan) as store, one_thread():
        sweeping = _Sweeping(plan, points, inputs, settings, store, interrupts, tell, progress)
        try:
            sweeping.measure()
            with interrupts.allowed():
                software = found.plan.software if found else replace(inputs, device=None).make().software()
            sweep = store.finish(software, engine, draw)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(sweeping.kept()) from None
    tell(f"wrote {out}")
    return sweep


def chosen_for_check(points: Sequence[Point], count: int) -> list[tuple[Point, int]]:
    """Return trials that ngspice repeats: spread evenly over the points, first and last among them.

    Where there are more than points, the first trial of each comes first, then second ones, and so on.
    """
    chosen: list[tuple[Point, int]] = []
    for trial in range(max((point.trials for point in points), default=0)):
        group = [point for point in points if point.trials > trial]
        wanted = min(count - len(chosen), len(group))
        last = max(wanted - 1, 1)
        chosen += [(group[round(i * (len(group) - 1) / last)], trial) for i in range(wanted)]
    return chosen


def _serves(found: SweepPlan, plan: SweepPlan) -> bool:
    """Say whether a finished sweep has all that is asked for: the same yield, and as many checks."""
    return found.yield_at == plan.yield_at and found.spice_check >= plan.spice_check


def _clear_away(plan: SweepPlan, out: Path) -> None:
    """Finish deleting the journal if an earlier process was killed while deleting it."""
    if unfinished_folder(out).exists():
        with SweepStore(out, plan) as store:
            store.remove()


def _name_engine(plan: SweepPlan, found: Sweep | None) -> str:
    """Return what measures a plan, with its version; where nothing is left to measure, what measured it.

    Raises:
        EngineError: ngspice is needed, and missing or too old.
    """
    if found is not None and found.plan.spice_check >= plan.spice_check:
        return found.plan.engine
    numpy = f"numpy {np.__version__}"
    if plan.backend == "nodal" and not plan.spice_check:
        return numpy
    ngspice = f"ngspice {describe_ngspice()['version']}"
    return ngspice if plan.backend == "spice" else f"{numpy}; checked by {ngspice}"


class _Sweeping:
    """A sweep under way: trials on disk and trials still to measure."""

    def __init__(
        self,
        plan: SweepPlan,
        points: Sequence[Point],
        inputs: BenchInputs,
        settings: SweepSettings,
        store: SweepStore,
        interrupts: Interrupts,
        tell: Callable[[str], object],
        progress: Progress | None,
    ) -> None:
        self._plan, self._points, self._inputs, self._settings = plan, points, inputs, settings
        self._store, self._interrupts, self._tell, self._progress = store, interrupts, tell, progress
        self._bench: Bench | None = None

    def kept(self) -> str:
        """Return what is said after Ctrl-C."""
        if not (len(self._store.rows) or len(self._store.checks)):
            return "no trial was finished, nothing was written"
        said = f"{len(self._store.rows)} of {self._plan.trials} trials are kept"
        if self._plan.spice_check:
            said += f", {len(self._store.checks)} of them repeated in ngspice"
        return f"{said}; the same command goes on from there"

    def bench(self) -> Bench:
        """Return this process's own bench."""
        if self._bench is None:
            self._bench = self._inputs.make()
        return self._bench

    def measure(self) -> None:
        """Measure what is not there."""
        rows = self._store.rows
        for parts in (rows, self._store.checks):
            if parts.dropped:
                self._tell(
                    f"{parts.dropped} damaged files in {self._store.folder} were deleted; their trials are repeated"
                )
        if len(rows):
            self._tell(f"going on after {len(rows)} of {self._plan.trials} trials ({self._store.folder})")
        self._report(rows, self._plan.trials, "trials")
        if len(rows) < self._plan.trials:
            if self._plan.backend == "spice":
                self._measure_in_spice([(p, t) for p in self._points for t in range(p.trials)], rows, False, "trials")
            else:
                self._measure_nodal()
        if self._plan.spice_check:
            chosen = chosen_for_check(self._points, self._plan.spice_check)
            self._measure_in_spice(chosen, self._store.checks, True, "trials in ngspice")

    def _measure_nodal(self) -> None:
        with ExitStack() as stack:
            measured = stack.enter_context(closing(self._who_measures(stack)))
            for chunk, metrics in measured:
                rows = (
                    make_row(self._plan, chunk.point, t, m, "nodal") for t, m in zip(chunk.trials, metrics, strict=True)
                )
                self._store.rows.add(rows)
                self._report(self._store.rows, self._plan.trials, "trials")

    def _who_measures(self, stack: ExitStack) -> Measured:
        """Return the results of this process or of workers, which end with the stack."""
        settings, chunks = self._settings, list(self._chunks())
        if settings.scheduler is not None:
            client = stack.enter_context(remote_client(settings.scheduler))
        elif (workers := min(settings.workers or core_count(), len(chunks))) > 1:
            client = stack.enter_context(local_client(workers))
        else:
            with self._interrupts.allowed():
                bench = self.bench()
            return measure_here(chunks, bench, self._interrupts)
        return measure_on(client, chunks, self._inputs, self._interrupts, self._tell)

    def _chunks(self) -> Iterator[Chunk]:
        """Yield the trials that are not there, consecutive ones of a point together."""
        for point in self._points:
            missing = [t for t in range(point.trials) if (point.study, point.index, t) not in self._store.rows]
            chunk = self._settings.chunk or dies_together(len(self._inputs.sentences))
            for start in range(0, len(missing), chunk):
                trials = tuple(missing[start : start + chunk])
                yield Chunk(point, trials, tuple(self._plan.seed + t for t in trials))

    def _measure_in_spice(self, trials: Sequence[tuple[Point, int]], parts: Parts, check: bool, stage: str) -> None:
        """Measure trials in ngspice, which takes all cores by itself, one after the other."""
        for point, trial in trials:
            if (point.study, point.index, trial) in parts:
                continue
            with self._interrupts.allowed(), naming(point):
                metrics, compared = self.bench().measure_spice(
                    point.hardware, self._plan.seed + trial, self._settings.workers, check
                )
            parts.add([make_row(self._plan, point, trial, metrics | compared, "spice")])
            self._report(parts, len(trials), stage)

    def _report(self, parts: Parts, total: int, stage: str) -> None:
        if self._progress is not None:
            self._progress(stage, len(parts), total)
