"""Trials measured in this process, or by Dask workers: on this machine, or of a scheduler that is running.

A worker builds its bench once, from inputs that it gets by a plugin: so do workers that join later, or that take
the place of one that died.
"""

import gc
import importlib
import itertools
import logging
import multiprocessing.resource_tracker
import signal
import tempfile
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol

import dask
from distributed import (
    CancelledError,
    Client,
    Future,
    KilledWorker,
    LocalCluster,
    Worker,
    WorkerPlugin,
    as_completed,
    get_worker,
)

from hvae_mnn.errors import EngineError, SweepError, UserError
from hvae_mnn.experiments.sweep.plan import Point
from hvae_mnn.hardware.config import HardwareConfig
from hvae_mnn.model.checkpoint import Checkpoint
from hvae_mnn.model.network.threads import limit_to_one_thread
from hvae_mnn.runtime.interrupts import Interrupts
from hvae_mnn.runtime.version import VERSION

BENCH = "hvae_mnn.experiments.sweep.bench:TrialBench"

_PER_WORKER = 3
"""Chunks under way for each worker: one that it measures, and some that it need not wait for."""
_DEATHS = 10
"""Workers on this machine that may die of one chunk before it is given up; a running scheduler has its own limit."""
_PATIENCE = 10.0
_LOOK_AGAIN = 5.0
_LOGGERS = ("distributed", "tornado", "asyncio")
_KEPT = 2**30  # bytes that a worker keeps for itself once it had them
_SETTINGS = {
    "distributed.scheduler.allowed-failures": _DEATHS,
    "distributed.scheduler.work-stealing": False,
    "distributed.worker.profile.enabled": False,
    # Dask lets workers give memory back after each task, and a trial takes megabytes anew at each step.
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": _KEPT,
    "distributed.nanny.pre-spawn-environ.MALLOC_MMAP_THRESHOLD_": _KEPT,
    "distributed.comm.timeouts.connect": "30s",
}


class Bench(Protocol):
    """What measures trials: `hvae_mnn.experiments.sweep.bench.TrialBench`."""

    def measure(self, hardware: HardwareConfig, seeds: Sequence[int]) -> list[dict[str, float]]:
        """Return the metrics of each die by the nodal engine."""

    def measure_spice(
        self, hardware: HardwareConfig, seed: int, workers: int | None = None, check: bool = False
    ) -> tuple[dict[str, float], dict[str, float]]:
        """Return the metrics of a die by ngspice, and a comparison with the nodal engine."""

    def software(self) -> dict[str, float]:
        """Return the software model's own figures."""


@dataclass(frozen=True, slots=True)
class BenchInputs:
    """What a bench is made of, wherever it is.

    Attributes:
        checkpoint: The model.
        sentences: Word numbers of each.
        seed: Seed of the latents' noise.
        factory: `module:callable`, called with these three.
        device: What torch multiplies on; given to the factory where it is set.
    """

    checkpoint: Checkpoint
    sentences: tuple[tuple[int, ...], ...]
    seed: int = 0
    factory: str = BENCH
    device: str | None = None

    def make(self) -> Bench:
        """Build the bench."""
        module, _, name = self.factory.partition(":")
        device = {} if self.device is None else {"device": self.device}
        make = getattr(importlib.import_module(module), name)
        bench: Bench = make(self.checkpoint, self.sentences, self.seed, **device)
        return bench


@dataclass(frozen=True, slots=True)
class Chunk:
    """Trials of one point that are measured together.

    Attributes:
        point: The point.
        trials: Their numbers.
        seeds: Their dies.
    """

    point: Point
    trials: tuple[int, ...]
    seeds: tuple[int, ...]


Measured = Generator[tuple[Chunk, list[dict[str, float]]], None, None]


@contextmanager
def local_client(workers: int) -> Iterator[Client]:
    """Start worker processes on this machine; they, and the files they leave, are gone afterwards.

    Raises:
        EngineError: They cannot be started.
    """
    with (
        tempfile.TemporaryDirectory(prefix="hvae-mnn-", ignore_cleanup_errors=True) as folder,
        dask.config.set({**_SETTINGS, "temporary-directory": folder}),
        _quiet(),
    ):
        try:
            with _deaf_threads():
                cluster = LocalCluster(
                    n_workers=workers,
                    threads_per_worker=1,
                    processes=True,
                    dashboard_address="127.0.0.1:0",  # unset is a port that others have too
                    scheduler_kwargs={"dashboard": False},
                    local_directory=folder,
                    memory_limit=0,
                    silence_logs=logging.CRITICAL,
                )
                client = Client(cluster)
        except (OSError, RuntimeError) as error:
            raise EngineError(f"{workers} workers cannot be started ({_line(error)}); give fewer --workers") from None
        try:
            yield client
        finally:
            with suppress(Exception):
                client.close(timeout=_PATIENCE)
            cluster.close(timeout=_PATIENCE)


@contextmanager
def remote_client(address: str) -> Iterator[Client]:
    """Connect to a scheduler that is running.

    Raises:
        EngineError: It cannot be reached.
    """
    with dask.config.set(_SETTINGS), _quiet():
        client, found = None, ""
        try:
            client = Client(address, timeout=_PATIENCE)
        except (OSError, ValueError, TypeError) as error:
            found = _line(error)
        if client is None:
            gc.collect()  # a half-made client closes itself, for which Dask takes a lock: not while Dask holds it
            raise EngineError(
                f"--scheduler {address}: cannot be reached ({found}); expected the address of a running Dask "
                "scheduler, for example tcp://host:8786"
            )
        try:
            yield client
        finally:
            with suppress(Exception):
                client.close(timeout=_PATIENCE)


def measure_here(chunks: Iterable[Chunk], bench: Bench, interrupts: Interrupts) -> Measured:
    """Measure chunks in this process."""
    for chunk in chunks:
        with interrupts.allowed(), naming(chunk.point):
            found = bench.measure(chunk.point.hardware, chunk.seeds)
        yield chunk, found


def measure_on(
    client: Client,
    chunks: Iterable[Chunk],
    inputs: BenchInputs,
    interrupts: Interrupts,
    tell: Callable[[str], object] = lambda line: None,
) -> Measured:
    """Measure chunks by the workers of a client, in the order in which they get done.

    On Ctrl-C what has been measured meanwhile comes first, then the `KeyboardInterrupt`.

    Args:
        client: Its workers, of which there may be more or fewer as time goes by.
        chunks: Taken a few a worker at a time.
        inputs: What each worker builds its bench from.
        interrupts: Lets Ctrl-C in while it waits.
        tell: Called with a line where there is nobody to measure yet.

    Raises:
        EngineError: The workers do not take the bench, die again and again, or the scheduler is gone.
        UserError: What a worker raised; names the point.
    """
    plugin = _BenchPlugin(f"hvae-mnn-{uuid.uuid4().hex}", inputs)
    try:
        with interrupts.allowed():
            client.register_plugin(plugin)
    except Exception as error:
        raise EngineError(
            f"the workers do not take the model ({_line(error)}); they need hvae-mnn {VERSION} and Python as here"
        ) from None
    try:
        if not client.nthreads():
            tell("no worker at the scheduler yet; waiting for one")
        yield from _Gathering(client, plugin.name, chunks).run(interrupts)
    finally:
        with suppress(Exception):
            client.unregister_worker_plugin(plugin.name)


@contextmanager
def naming(point: Point) -> Iterator[None]:
    """Prefix user errors with the sweep point."""
    try:
        yield
    except UserError as error:
        raise type(error)(f"{point}: {error}") from None


class _Gathering:
    """Chunks that are handed out and come back."""

    def __init__(self, client: Client, plugin: str, chunks: Iterable[Chunk]) -> None:
        self._client, self._plugin, self._chunks = client, plugin, iter(chunks)
        self._under_way: dict[Future, Chunk] = {}
        self._finished = as_completed(loop=client.loop)
        self._most, self._looked = 0, -_LOOK_AGAIN

    def run(self, interrupts: Interrupts) -> Measured:
        """Yield chunks and what was measured until there are no more."""
        try:
            self._hand_out()
            while self._under_way:
                with interrupts.allowed():
                    future = next(self._finished)
                yield self._take(future)
                self._hand_out()
        except (KeyboardInterrupt, UserError):
            for future in [each for each in self._under_way if each.status == "finished"]:
                yield self._take(future)
            raise
        finally:
            with suppress(Exception):
                self._client.cancel(list(self._under_way))

    def _hand_out(self) -> None:
        now = time.monotonic()
        if now - self._looked > _LOOK_AGAIN:
            with _connected():
                self._most, self._looked = _PER_WORKER * max(1, len(self._client.nthreads())), now
        for chunk in itertools.islice(self._chunks, max(0, self._most - len(self._under_way))):
            arguments = (self._plugin, chunk.point.hardware, chunk.seeds)
            future = self._client.submit(_measure, *arguments, pure=False)
            self._under_way[future] = chunk
            self._finished.add(future)

    def _take(self, future: Future) -> tuple[Chunk, list[dict[str, float]]]:
        chunk = self._under_way.pop(future)
        if future.status != "error":
            with _connected():
                return chunk, future.result()
        try:
            with naming(chunk.point):
                return chunk, future.result()
        except KilledWorker:
            raise EngineError(
                f"{chunk.point}: one worker after the other died of it; if memory ran out, give fewer --workers or "
                "a smaller --chunk, and repeat the command, which goes on from here"
            ) from None


class _BenchPlugin(WorkerPlugin):  # type: ignore[misc]
    """Holds a worker's bench, which is built when the first chunk comes."""

    def __init__(self, name: str, inputs: BenchInputs) -> None:
        self.name, self._inputs, self._version = name, inputs, VERSION

    def setup(self, worker: Worker) -> None:
        self._lock = threading.Lock()  # a worker of several threads measures one chunk at a time
        self._bench: Bench | None = None

    def measure(self, hardware: HardwareConfig, seeds: Sequence[int]) -> list[dict[str, float]]:
        if self._version != VERSION:
            raise SweepError(f"a worker has hvae-mnn {VERSION}; expected {self._version}, as here")
        with self._lock:
            if self._bench is None:
                limit_to_one_thread()
                self._bench = self._inputs.make()
            return self._bench.measure(hardware, seeds)


def _measure(plugin: str, hardware: HardwareConfig, seeds: Sequence[int]) -> list[dict[str, float]]:
    """Measure dies; this runs in a worker."""
    found: list[dict[str, float]] = get_worker().plugins[plugin].measure(hardware, seeds)
    return found


@contextmanager
def _connected() -> Iterator[None]:
    """Say in one line that the scheduler is gone."""
    try:
        yield
    except (OSError, CancelledError):
        raise EngineError(
            "the Dask scheduler is gone; start one again and repeat the command, which goes on from here"
        ) from None


@contextmanager
def _deaf_threads() -> Iterator[None]:
    """Start threads, and processes of theirs, that never hear of Ctrl-C: a terminal sends it to all processes."""
    multiprocessing.resource_tracker.ensure_running()  # which would open the ears of a thread that starts it
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what Dask says of workers that come and go from stderr."""
    names = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] in _LOGGERS]
    loggers = [logging.getLogger(name) for name in names]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="distributed|dask|tornado")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _line(error: BaseException) -> Any:
    return " ".join(str(error).split())[:200] or type(error).__name__
