"""The spice engine: every tile read by a resident ngspice of its own, spread over worker processes."""

from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.circuit.converters import Converter
from hvae_mnn.circuit.die import layer_adc_errors
from hvae_mnn.circuit.encoding import add_cycles, driver, join_cycles, split_cycles
from hvae_mnn.circuit.plan import BIAS, LayerPlan, TilePlan, row_inputs
from hvae_mnn.circuit.spice import names
from hvae_mnn.circuit.spice.tile_deck import format_cycle
from hvae_mnn.compiler.build import Build
from hvae_mnn.engines.base import ClosingEngine, DeckSource, EngineInfo, ReadCycle, Reading, Waveform
from hvae_mnn.engines.spice.noise import DeckNoise
from hvae_mnn.engines.spice.recording import Recording, choose_tiles
from hvae_mnn.engines.spice.waveforms import WaveformFiles
from hvae_mnn.errors import ArtifactError, EngineError
from hvae_mnn.hardware.timing import cycles_per_read
from hvae_mnn.runtime.progress import Progress
from hvae_mnn.runtime.workers import WorkerPool, core_count

Array = NDArray[np.float64]

_Job = tuple[int, Array, Array | None]  # deck number, codes (cycles, rows), volts of noise sources (cycles, sources)
_LOADED_AT_ONCE = 8  # decks of a worker between two reports of progress
_FACTORY = "hvae_mnn.engines.spice.host:SpiceHost"


def describe_ngspice() -> dict[str, str | bool]:
    """Start an ngspice and return its version, extensions and library.

    Raises:
        EngineError: There is none, it is too old or it does not run.
    """
    pool = WorkerPool(_FACTORY, 1)
    try:
        answer: dict[str, str | bool] = pool.call("describe", [()])[0]
    finally:
        pool.close()
    return answer


class SpiceEngine(ClosingEngine):
    """ngspice in worker processes, one deck a tile.

    Tiles are read settled (a DC solution), or by one cycle of `tran` where rows are pulsed. Those that fit a
    pattern of `transient`, and all tiles of dynamic memristors, are read in time; `recording` says
    what of it is kept.

    A deck takes some 2 kB a crosspoint, so where `resident` is off, layers are loaded as they are first read, and
    those that are not read in the same step give way: decoder and encoders are never in memory together.

    Attributes:
        files: Where waveforms go as cycles end; None where no tile is recorded.
    """

    def __init__(
        self,
        build: Build,
        workers: int | None = None,
        transient: Collection[str] = (),
        recording: Recording = Recording(),  # noqa: B008 (immutable)
        progress: Progress | None = None,
        resident: bool = True,
    ) -> None:
        """Start the workers and load every deck, or none yet where `resident` is off.

        Raises:
            ArtifactError: The Build is not on disk, or a pattern fits no tile or no node.
            EngineError: ngspice is missing, too old, or refuses a deck.
        """
        if build.folder is None:
            raise ArtifactError("the spice engine reads decks from disk: save the build first")
        hardware = build.manifest.hardware
        self._folder, self._hardware = build.folder.resolve(), hardware
        self.dac, self.adc = Converter(hardware.dac.bits), Converter(hardware.adc.bits)
        self._driver = driver(hardware)
        self._noise = {name: DeckNoise.of_tile(tile, hardware) for name, tile in build.tiles.items()}
        self._adc_errors = {layer.name: layer_adc_errors(layer, hardware) for layer in build.manifest.layers}
        self._full_wires = hardware.array.wires == "full"
        self._layers = {layer.name: layer for layer in build.manifest.layers}
        self._transient, kept = choose_tiles(build.manifest.layers, hardware, transient, recording.signals)
        self._kept = frozenset(kept)
        self.files = WaveformFiles(recording.folder, hardware.timing.cycle, recording.limit) if kept else None
        count = max(1, min(workers or core_count(), len(build.tiles)))
        self._pool = WorkerPool(_FACTORY, count)
        self._place: dict[str, tuple[int, int]] = {}  # worker and deck number by tile
        self._recording, self._progress = recording, progress
        try:
            if resident or hardware.array.memristor == "dynamic":  # whose states would be lost
                self._load(self._layers)
            facts = self._pool.call("describe", [()] + [None] * (count - 1))[0]
        except BaseException:
            self.close()
            raise
        self.info = EngineInfo("spice", str(facts["version"]), bool(facts["klu"]) and self._full_wires)

    def step(self, codes: Mapping[str, Array]) -> dict[str, Reading]:
        """Read some layers once, all their tiles side by side."""
        self._make_room_for(codes)
        jobs: list[list[_Job]] = [[] for _ in range(self._pool.size)]
        order: list[list[str]] = [[] for _ in range(self._pool.size)]
        timed: list[tuple[TilePlan, _Job]] = []
        for name, values in codes.items():
            cycles = split_cycles(values, self._hardware)
            for tile in self._layers[name].tiles:
                worker, number = self._place[tile.name]
                rows = row_inputs(tile.inputs, cycles, bias=self._driver.code_max)
                job = (number, rows, self._noise[tile.name].draw(rows))
                if tile.name in self._transient:
                    if len(values) != 1:
                        raise EngineError(f"{tile.name}: transient reads take one sentence at a time")
                    timed.append((tile, job))
                    continue
                jobs[worker].append(job)
                order[worker].append(tile.name)
        answers = self._pool.call("read", [(job,) if job else None for job in jobs])
        read = {
            tile: columns
            for tiles, columns_of in zip(order, answers, strict=True)
            for tile, columns in zip(tiles, columns_of or [], strict=True)
        }
        read |= self._run_cycles(timed)
        return {name: self._assemble(self._layers[name], read) for name in codes}

    def begin(self, number: int) -> None:
        """Start the noise of a batch of sentences."""
        for noise in self._noise.values():
            noise.begin(number)

    def skip(self, codes: Mapping[str, Array]) -> None:
        """Draw the noise of a step that was read before."""
        for name, values in codes.items():
            for tile in self._layers[name].tiles:
                self._noise[tile.name].skip(len(values) * cycles_per_read(self._hardware))

    def keep_cycles(self, reads: Mapping[str, int]) -> None:
        """Keep the waveforms of each layer's first reads, and drop what an interrupted simulation wrote after them."""
        if self.files is not None:
            cycles = {name: count * cycles_per_read(self._hardware) for name, count in reads.items()}
            tiles = [(tile.name, n) for name, n in cycles.items() for tile in self._layers[name].tiles]
            self.files.truncate({name: n for name, n in tiles if name in self._kept})

    def states(self) -> Mapping[str, Mapping[str, float]]:
        """Return the states of dynamic memristors that moved, by tile and cell."""
        if self._hardware.array.memristor == "static":
            return {}
        found = self._pool.call("states", [()] * self._pool.size)
        states = {name: found[worker][number] for name, (worker, number) in self._place.items()}
        return {name: cells for name, cells in states.items() if cells}

    def restore(self, states: Mapping[str, Mapping[str, float]]) -> None:
        """Let dynamic memristors go on from states."""
        for name, cells in states.items():
            worker, number = self._place[name]
            self._pool.call("restore", [(number, dict(cells)) if i == worker else None for i in range(self._pool.size)])

    def waveforms(self) -> Mapping[str, Waveform]:
        """Return the waveforms of the recorded tiles, cycles joined end to end; each is read when asked for."""
        return self.files.waveforms() if self.files is not None else {}

    def worker_pids(self) -> list[int]:
        """Return the process numbers of the workers."""
        return self._pool.pids()

    def deck_pids(self) -> dict[str, int]:
        """Return the process that holds each tile's deck, of those that are loaded."""
        pids = self._pool.call("pids", [()] * self._pool.size)
        return {name: pids[worker][number] for name, (worker, number) in self._place.items()}

    def close(self) -> None:
        """End the workers."""
        self._pool.close()

    def _make_room_for(self, layers: Collection[str]) -> None:
        """Load the layers that are not; if there are such, end the decks of all others."""
        missing = [name for name in layers if self._layers[name].tiles[0].name not in self._place]
        if not missing:
            return
        kept = {tile.name for name in layers for tile in self._layers[name].tiles}
        numbers: list[list[int]] = [[] for _ in range(self._pool.size)]
        for name, (worker, number) in self._place.items():
            if name not in kept:
                numbers[worker].append(number)
        self._pool.call("release", [(each,) for each in numbers])
        self._place = {name: place for name, place in self._place.items() if name in kept}
        self._load(missing)

    def _load(self, layers: Collection[str]) -> None:
        """Deal the tiles of layers out over the workers and load their decks."""
        tiles = [tile for name in layers for tile in self._layers[name].tiles]
        pulses, amplifier = self._hardware.drive.pulsed, self._hardware.amplifier
        limit = amplifier.v_saturation if pulses and amplifier.gain else None
        read = format_cycle(self._hardware, hold=False) if pulses else None
        signals, every = self._recording.signals, self._recording.every
        how = ReadCycle(format_cycle(self._hardware), read, limit, signals, every)
        size = self._pool.size
        for start in range(0, len(tiles), _LOADED_AT_ONCE * size):
            some = tiles[start : start + _LOADED_AT_ONCE * size]
            dealt = [[self._deck_source(tile) for tile in some[worker::size]] for worker in range(size)]
            numbers = self._pool.call("load", [(str(self._folder), decks, self._full_wires, how) for decks in dealt])
            for worker in range(size):
                places = [(worker, number) for number in numbers[worker]]
                self._place |= zip((tile.name for tile in some[worker::size]), places, strict=True)
            if self._progress is not None:
                self._progress("loading decks", start + len(some), len(tiles))

    def _deck_source(self, tile: TilePlan) -> DeckSource:
        bias = tuple(row == BIAS for row in tile.inputs)
        return DeckSource(tile.deck, bias, tile.columns, self._state_source(), self._noise[tile.name].sources)

    def _state_source(self) -> str:
        if self._hardware.array.memristor == "static":
            return ""
        return names.state_source(names.memristor("{row}", "{column}"))

    def _run_cycles(self, timed: list[tuple[TilePlan, "_Job"]]) -> dict[str, tuple[Array, Array]]:
        """Run each tile's cycles in time, one after another; one tile a worker at a time."""
        found: dict[str, list[tuple[Array, Array]]] = {tile.name: [] for tile, _ in timed}
        waiting = [
            (tile, number, rows[i], None if noise is None else noise[i])
            for tile, (number, rows, noise) in timed
            for i in range(len(rows))
        ]
        while waiting:
            calls: list[tuple[int, Array, Array | None, bool] | None] = [None] * self._pool.size
            running: list[str | None] = [None] * self._pool.size
            later = []
            for tile, number, rows, noise in waiting:
                worker, _ = self._place[tile.name]
                if running[worker] is None:
                    running[worker], calls[worker] = tile.name, (number, rows, noise, self._keeps(tile.name))
                else:
                    later.append((tile, number, rows, noise))
            for name, answer in zip(running, self._pool.call("cycle", calls), strict=True):
                if name is not None:
                    codes, held, signals = answer
                    found[name].append((codes, held))
                    if self.files is not None and name in self._kept:
                        self.files.append(name, signals)
            waiting = later
        return {name: (np.array([c for c, _ in all_]), np.array([v for _, v in all_])) for name, all_ in found.items()}

    def _keeps(self, tile: str) -> bool:
        return tile in self._kept and self.files is not None and not self.files.full

    def _assemble(self, layer: LayerPlan, read: Mapping[str, tuple[Array, Array]]) -> Reading:
        codes = np.concatenate([read[tile.name][0] for tile in layer.tiles], axis=1)
        if self.adc.bits is not None:
            codes = np.rint(codes)  # ngspice computes a clipped code one unit in the last place away
        analog = np.concatenate([read[tile.name][1] for tile in layer.tiles], axis=1) / self._hardware.adc.v_full_scale
        clipped = add_cycles(self.adc.count_clipped(analog, self._adc_errors[layer.name]), self._hardware)
        return Reading(join_cycles(codes, self._hardware), join_cycles(analog, self._hardware), clipped)
