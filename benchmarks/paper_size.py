"""What does a model of the paper's size cost, from compiling it to a sentence in ngspice?

MODEL is meant to have 2.1 million memristors (embedding 512, hidden 256, z 32, three lstm layers); any other
runs too. Each part prints a table of figures with their goals:

compile      `hvae-mnn compile` in a process of its own: seconds, peak memory, size of the Build
spice        a sentence through ngspice, preset `default`: seconds with loading, ms a tile read, peak memory
plain        the same tile reads the plain way (see simulate_speed.py), some tiles of each layer multiplied out
reduced      a step (every tile once) with wires of 1 ohm a segment, reduced, against one of preset `default`
workers      a step with 1 worker against one with 2
pulse-width  some tile reads on preset `pulse-width`, multiplied out to the sentence
nodal        64 sentences at once through the nodal engine against PyTorch's own greedy decoding

In the parts `spice` and `plain` the decoder says one word more than the sentence has, whatever the model was
trained for: `<eos>` is barred. `reduced` and `workers` load one set of decks at a time, for two would not fit into
memory, and take turns twice; medians of the steps after each first count. Memory is the sum of the proportional
set sizes of this process and its descendants, sampled twice a second, or rarer where sampling would take more than
a twentieth of a core. Sentences of `nodal` come from the test split of CORPUS, or are random words of lengths like
the Penn Treebank's; both ways start from the same z in float64, and their ratio counts against PyTorch in float32.
The script ends with an error that names the goals missed.

    python benchmarks/paper_size.py MODEL [--corpus FOLDER] [--parts compile,spice,...] [--sentence "..."]
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from ptb_agreement import draw_sentences
from simulate_speed import draw_places, time_plain_way
from step_cost import time_step
from threadpoolctl import threadpool_limits

from hvae_mnn.compiler.build import Build, load_build
from hvae_mnn.compiler.shipped import open_model
from hvae_mnn.engines.nodal import NodalEngine
from hvae_mnn.engines.spice.engine import SpiceEngine
from hvae_mnn.model.checkpoint import Checkpoint
from hvae_mnn.model.evaluation.measures import decode_freely
from hvae_mnn.model.network.vae import pad_batch
from hvae_mnn.model.text.corpus import EOS
from hvae_mnn.simulation.orchestrator import Simulation
from hvae_mnn.simulation.sentence import draw_noise, read_sentence

Array = NDArray[np.float64]
Ids = tuple[int, ...]

SENTENCE = "the company said it will sell its shares next year because the price of its stock has been too low"
HARDWARE = {
    "default": ["default"],
    "wires, reduced": ["default", "--set", "array.r_wire=1 ohm"],
    "pulse-width": ["pulse-width"],
    "ideal": ["ideal"],
}
COMPILE_SECONDS, COMPILE_BYTES, BUILD_BYTES = 60, 6e9, 400e6
SPICE_SECONDS, SPICE_BYTES = 120, 8e9
PLAIN_RATIO, REDUCED_RATIO, WORKERS_RATIO = 100, 1.5, 1.6
PULSE_SECONDS = 15 * 60  # an aim: to miss it is no failure
NODAL_RATE, NODAL_RATIO = 20, 3
BATCH = 64
TURNS, ROUNDS = 2, 3
LOGIT_BARRED = -1e9


def main() -> None:
    options = parse_options()
    missed = []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(options, Path(folder))
        for part in options.parts:
            print(f"\n{part}:", flush=True)
            for i, row in enumerate(PARTS[part](bench)):
                print("\n| figure | value | goal | |\n|---|---|---|---|" * (i == 0) + f"\n{row}", end="", flush=True)
                missed += [f"{row.figure} {row.value}, goal {row.goal}"] if row.met is False else []
            print(flush=True)
    if missed:
        sys.exit("missed: " + "; ".join(missed))


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure a model of the paper's size against its goals.")
    parser.add_argument("model", metavar="MODEL", help="a file or a shipped model")
    parser.add_argument("--corpus", type=Path, help="folder in PTB's layout whose test split `nodal` reads")
    parser.add_argument("--parts", type=part_names, default=list(PARTS), help=f"some of {','.join(PARTS)} (all)")
    parser.add_argument("--sentence", default=SENTENCE, help="in words of the model's vocabulary")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="ngspice workers (the cores)")
    threads = torch.get_num_threads()  # asked for now: ngspice, loaded by `plain`, sets its own number in OpenMP
    parser.add_argument("--threads", type=int, default=threads, help=f"threads of both ways of `nodal` ({threads})")
    parser.add_argument("--plain-tiles", type=int, default=8, help="tiles of each layer the plain way reads (8)")
    parser.add_argument("--steps", type=int, default=6, help="steps a turn of `reduced` and `workers` (6)")
    parser.add_argument("--pulse-tiles", type=int, default=8, help="tiles of each layer `pulse-width` reads (8)")
    return parser.parse_args()


def part_names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - set(PARTS):
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: expected some of {', '.join(PARTS)}")
    return names


@dataclass(frozen=True)
class Row:
    """A row of a part's table; `met` is None where there is no goal, or one that is only aimed at."""

    figure: str
    value: str
    goal: str = ""
    met: bool | None = None

    def __str__(self) -> str:
        verdict = {None: "", True: "met", False: "missed"}[self.met]
        return f"| {self.figure} | {self.value} | {self.goal} | {verdict} |"


@dataclass(frozen=True)
class Compiled:
    """A Build and what it cost."""

    folder: Path
    seconds: float
    peak: float

    def size(self) -> int:
        """Return the bytes of its files."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())


@dataclass(frozen=True)
class Spoken:
    """A sentence that went through ngspice."""

    build: Build
    simulation: Simulation
    loading: float
    seconds: float
    peak: float
    in_decks: float


@dataclass
class Bench:
    """What parts share; each thing is made when the first part asks for it."""

    options: argparse.Namespace
    folder: Path
    _compiled: dict[str, Compiled] = field(default_factory=dict)

    def compiled(self, hardware: str) -> Compiled:
        """Return the Build on some hardware of HARDWARE, on disk."""
        if hardware not in self._compiled:
            folder = self.folder / str(len(self._compiled))
            self._compiled[hardware] = compile_apart(self.options.model, HARDWARE[hardware], folder)
        return self._compiled[hardware]

    def build(self, hardware: str) -> Build:
        """Return it, loaded."""
        return load_build(self.compiled(hardware).folder)

    @cached_property
    def spoken(self) -> Spoken:
        """Return the sentence on preset `default`."""
        return speak(self.build("default"), self.options.sentence, self.options.workers)


def run_compile(bench: Bench) -> Iterator[Row]:
    found = bench.compiled("default")
    size, peak = found.size(), found.peak
    yield Row("compiling", f"{found.seconds:.1f} s", f"{COMPILE_SECONDS} s", found.seconds <= COMPILE_SECONDS)
    yield Row("its peak memory", gigabytes(peak), gigabytes(COMPILE_BYTES), peak <= COMPILE_BYTES)
    yield Row("the Build", f"{size / 1e6:.1f} MB", f"{BUILD_BYTES / 1e6:g} MB", size <= BUILD_BYTES)


def compile_apart(model: str, hardware: list[str], folder: Path) -> Compiled:
    """Run `hvae-mnn compile` in a process of its own."""
    command = [sys.executable, "-m", "hvae_mnn.cli", "compile", model, "--out", str(folder), "--hardware"]
    began = time.perf_counter()
    process = subprocess.Popen([*command, *hardware], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"hvae-mnn compile ended with code {process.returncode}")
    return Compiled(folder, time.perf_counter() - began, usage.ru_maxrss * 1024)


def gigabytes(size: float) -> str:
    return f"{size / 1e9:.2f} GB"


def run_spice(bench: Bench) -> Iterator[Row]:
    found = bench.spoken
    steps = {name: len(trace.inputs) for name, trace in found.simulation.traces.items()}
    reads, total = count_reads(found.build, steps), found.loading + found.seconds
    yield Row("tiles, memristors", f"{len(found.build.tiles)}, {found.build.memristors():,}")
    yield Row("workers, cores", f"{bench.options.workers}, {os.cpu_count()}")
    yield Row("steps", ", ".join(f"{name} {count}" for name, count in steps.items()))
    yield Row("tile reads", f"{reads:,}")
    yield Row("loading the decks", f"{found.loading:.1f} s")
    yield Row("the sentence", f"{found.seconds:.1f} s")
    yield Row("a tile read: seconds of the sentence over reads", f"{1000 * found.seconds / reads:.2f} ms")
    yield Row("loading and sentence", f"{total:.1f} s", f"{SPICE_SECONDS} s", total <= SPICE_SECONDS)
    yield Row("peak memory", gigabytes(found.peak), gigabytes(SPICE_BYTES), found.peak <= SPICE_BYTES)
    yield Row("of it in the processes of the decks", gigabytes(found.in_decks))


def count_reads(build: Build, steps: Mapping[str, int]) -> int:
    """Return the tile reads of so many steps of each layer."""
    return sum(steps[layer.name] * len(layer.tiles) for layer in build.manifest.layers)


def speak(build: Build, text: str, workers: int) -> Spoken:
    """Run a sentence through ngspice; the decoder says one word more than it has."""
    words = read_sentence(build, text)
    ids, unknown = words.ids, words.unknown
    if unknown:
        print(f"not in the vocabulary: {', '.join(unknown)}", file=sys.stderr)
    build = replace(build, checkpoint=talkative(build.checkpoint, len(ids) + 1))
    with MemoryPeak() as memory:
        began = time.perf_counter()
        with SpiceEngine(build, workers, resident=False) as engine:
            loading = time.perf_counter() - began
            memory.sample()
            simulation = Simulation(build, engine)
            began = time.perf_counter()
            simulation.run([ids], [draw_noise(build, ids, seed=0)])
            seconds = time.perf_counter() - began
            memory.sample()
            in_decks = sum_pss(engine.deck_pids().values())
    return Spoken(build, simulation, loading, seconds, memory.peak, in_decks)


def talkative(checkpoint: Checkpoint, words: int) -> Checkpoint:
    """Return a model that says so many words whatever the sentence: `<eos>` is barred."""
    bias = checkpoint.weights["output.bias"].copy()
    bias[EOS] = LOGIT_BARRED
    config = replace(checkpoint.config, max_length=words)
    return replace(checkpoint, config=config, weights={**checkpoint.weights, "output.bias": bias})


class MemoryPeak:
    """The most memory that this process and its descendants held, sampled while a block runs.

    Attributes:
        peak: Bytes; pages that processes share are counted once.
    """

    def __init__(self) -> None:
        self.peak = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def sample(self) -> None:
        """Look once."""
        this = psutil.Process()
        self.peak = max(self.peak, sum_pss(process.pid for process in (this, *this.children(recursive=True))))

    def _run(self) -> None:
        pause = 0.5
        while not self._ended.wait(pause):
            began = time.perf_counter()
            self.sample()
            pause = max(0.5, 19 * (time.perf_counter() - began))


def sum_pss(pids: Iterable[int]) -> int:
    """Return the proportional set size of processes, bytes; one that has ended counts nothing."""
    total = 0
    for pid in pids:
        try:
            total += psutil.Process(pid).memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
    return total


def run_plain(bench: Bench) -> Iterator[Row]:
    found, tiles = bench.spoken, bench.options.plain_tiles
    plain = time_plain_way(found.build, found.simulation, full=False, tiles=tiles)
    spice = found.loading + found.seconds
    yield Row("spice engine, loading included", f"{spice:.1f} s")
    yield Row(f"plain way, {tiles} tiles of each layer run", f"{plain:.0f} s")
    yield Row("plain way over spice engine", f"{plain / spice:.0f}", f"{PLAIN_RATIO}", plain >= PLAIN_RATIO * spice)


def run_reduced(bench: Bench) -> Iterator[Row]:
    names, workers = ("default", "wires, reduced"), bench.options.workers
    seconds = time_steps({name: (bench.build(name), workers) for name in names}, bench.options.steps)
    ratio = seconds["wires, reduced"] / seconds["default"]
    yield from (Row(f"a step, {name}", f"{seconds[name]:.3f} s") for name in names)
    yield Row("reduced over default", f"{ratio:.2f}", f"{REDUCED_RATIO}", ratio <= REDUCED_RATIO)


def run_workers(bench: Bench) -> Iterator[Row]:
    build = bench.build("default")
    seconds = time_steps({"1 worker": (build, 1), "2 workers": (build, 2)}, bench.options.steps)
    ratio = seconds["1 worker"] / seconds["2 workers"]
    yield Row("cores", f"{os.cpu_count()}")
    yield from (Row(f"a step, {name}", f"{value:.3f} s") for name, value in seconds.items())
    yield Row("1 worker over 2", f"{ratio:.2f}", f"{WORKERS_RATIO}", ratio >= WORKERS_RATIO)


def time_steps(variants: Mapping[str, tuple[Build, int]], steps: int) -> dict[str, float]:
    """Return the median seconds of a step of each variant, a Build and its workers; one is loaded at a time."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(TURNS):
        for name, (build, workers) in variants.items():
            with SpiceEngine(build, workers) as engine:
                each = [time_step(build, engine, number) for number in range(steps + 1)]
            times[name] += each[1:]  # the first is not counted: ngspice orders its matrices
    return {name: float(np.median(each)) for name, each in times.items()}


def run_pulse_width(bench: Bench) -> Iterator[Row]:
    whole, workers = bench.build("pulse-width"), bench.options.workers
    sample = draw_tiles(whole, bench.options.pulse_tiles)
    words = len(read_sentence(whole, bench.options.sentence).ids)
    reads = count_reads(whole, {"encoder1": words + 2, "encoder2": words + 2, "decoder": words + 1})
    with SpiceEngine(sample, workers) as engine:
        step = float(np.median([time_step(sample, engine, number) for number in range(3)]))
    sentence = step * reads / len(sample.tiles)
    yield Row("tiles run, of", f"{len(sample.tiles)}, {len(whole.tiles)}")
    yield Row("a tile read: seconds of a step over tiles", f"{1000 * step / len(sample.tiles):.1f} ms")
    yield Row(
        f"the sentence, {reads:,} reads, multiplied out, without loading", f"{sentence:.0f} s", f"aim {PULSE_SECONDS} s"
    )


def draw_tiles(build: Build, wanted: int) -> Build:
    """Return a Build of so many tiles of each layer, all on disk; its gate sums are incomplete."""
    layers = []
    for layer in build.manifest.layers:
        tiles = tuple(layer.tiles[place] for place in draw_places(len(layer.tiles), wanted))
        layers.append(layer.model_copy(update={"tiles": tiles}))
    kept = {tile.name: build.tiles[tile.name] for layer in layers for tile in layer.tiles}
    return replace(build, manifest=build.manifest.model_copy(update={"layers": tuple(layers)}), tiles=kept)


def run_nodal(bench: Bench) -> Iterator[Row]:
    options, checkpoint = bench.options, open_model(bench.options.model)
    sentences = draw_sentences(checkpoint, options.corpus, BATCH) if options.corpus else random_sentences(checkpoint)
    builds = {name: bench.build(name) for name in ("default", "ideal")}
    torch.set_num_threads(options.threads)
    with threadpool_limits(options.threads):
        seconds, said = time_batches(checkpoint, builds, sentences)
    equal = sum(a == b for a, b in zip(said["ideal"], said["float64"], strict=True))
    steps = ", ".join(str(max(len(ids) for ids in said[name]) + 1) for name in ("ideal", "float64"))
    yield Row("sentences in one batch", f"{len(sentences)}")
    yield Row("threads, cores", f"{options.threads}, {os.cpu_count()}")
    yield Row("steps of the decoder, ideal and float64", steps)
    yield Row("same words, ideal and float64", f"{equal} of {len(sentences)}")
    yield from nodal_rows(seconds, len(sentences))


def nodal_rows(seconds: Mapping[str, float], count: int) -> Iterator[Row]:
    yield from (Row(f"PyTorch, {name}", f"{count / seconds[name]:.0f} sentences/s") for name in ("float32", "float64"))
    for name in ("default", "ideal"):
        rate = count / seconds[name]
        yield Row(f"nodal, {name}", f"{rate:.1f} sentences/s", f"{NODAL_RATE}", rate >= NODAL_RATE)
    for name in ("default", "ideal"):
        for precision in ("float32", "float64"):
            ratio, counts = seconds[name] / seconds[precision], (name, precision) == ("ideal", "float32")
            goal, met = (f"{NODAL_RATIO}", ratio <= NODAL_RATIO) if counts else ("", None)
            yield Row(f"seconds of nodal, {name}, over PyTorch, {precision}", f"{ratio:.2f}", goal, met)


def time_batches(
    checkpoint: Checkpoint, builds: Mapping[str, Build], sentences: list[Ids]
) -> tuple[dict[str, float], dict[str, list[Ids]]]:
    """Let the nodal engine and PyTorch read and say a batch in turns; return the median seconds, and what they said."""
    noises = draw_noises(checkpoint, sentences)
    models = {"float32": checkpoint.build_model(), "float64": checkpoint.build_model().double()}
    engines = {name: NodalEngine(build) for name, build in builds.items()}
    times: dict[str, list[float]] = {name: [] for name in (*engines, *models)}
    said: dict[str, list[Ids]] = {}
    for _ in range(ROUNDS):
        for name, engine in engines.items():
            simulation = Simulation(builds[name], engine)  # a new one: it keeps what it read
            began = time.perf_counter()
            said[name] = [outcome.tokens for outcome in simulation.run(sentences, noises)]
            times[name].append(time.perf_counter() - began)
        for name, model in models.items():
            began = time.perf_counter()
            said[name] = decode_freely(model, sentences)
            times[name].append(time.perf_counter() - began)
    return {name: float(np.median(each)) for name, each in times.items()}, said


def random_sentences(checkpoint: Checkpoint) -> list[Ids]:
    """Draw sentences of random words, of lengths with the Penn Treebank's mean and spread."""
    rng, most = np.random.default_rng(0), checkpoint.config.max_length
    lengths = np.rint(rng.normal(21, 10, BATCH)).clip(1, most).astype(int)
    return [tuple(rng.integers(4, checkpoint.config.vocabulary_size, length).tolist()) for length in lengths]


def draw_noises(checkpoint: Checkpoint, sentences: Sequence[Ids]) -> list[Array]:
    """Return the noise that `decode_freely` draws for a model in float64 and a batch, sentence by sentence."""
    shape = (*pad_batch(sentences).shape, checkpoint.config.latent)
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).numpy()
    last = checkpoint.config.latent_mode == "last"
    return [each[len(ids) + 1] if last else each[: len(ids) + 2] for each, ids in zip(drawn, sentences, strict=True)]


PARTS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "compile": run_compile,
    "spice": run_spice,
    "plain": run_plain,
    "reduced": run_reduced,
    "workers": run_workers,
    "pulse-width": run_pulse_width,
    "nodal": run_nodal,
}


if __name__ == "__main__":
    main()
