"""Program a Build: write-verify of its cells, all of them in numpy and a sample in SPICE."""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.circuit.plan import Tile
from hvae_mnn.circuit.programming import CellBank, Draws, TwinCells, Written, fit_error_model, write_verify
from hvae_mnn.circuit.streams import Purpose, keyed_stream
from hvae_mnn.compiler.build import Build
from hvae_mnn.engines.spice.cells import SpiceCells
from hvae_mnn.errors import ArtifactError, HardwareError
from hvae_mnn.experiments.programmed import Programmed, Sample, may_replace_programmed, save_programmed
from hvae_mnn.hardware.cells import ErrorModel
from hvae_mnn.hardware.config import HardwareConfig
from hvae_mnn.hardware.files import override_hardware
from hvae_mnn.runtime.folders import written_whole
from hvae_mnn.runtime.progress import Progress

Array = NDArray[np.float64]

_SECTIONS = ("programming", "stuck")
_FITTED = 20_000


def program_build(
    build: Build,
    folder: str | Path,
    *,
    cells_per_tile: int | None = 8,
    tiles: Collection[str] = (),
    overrides: Iterable[str] = (),
    seed: int | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Programmed:
    """Write every cell's target by write-verify, and leave the result in a folder.

    Args:
        build: A compiled model; its conductance targets are what is written.
        folder: Where the result shall be; an older one is replaced.
        cells_per_tile: Cells of each tile that are programmed in SPICE too, drawn by `seed`;
            None for all, 0 for none.
        tiles: Names of the tiles to program; all if empty.
        overrides: `section.key=value` of the sections programming and stuck.
        seed: Seed of the devices, of every pulse and read, and of the sample; the Build's
            `device.seed` if None.
        workers: ngspice processes; one a core if None.
        progress: Called with a stage, the cells that are done and all cells.

    Raises:
        HardwareError: The memristor has no dynamics, or `programming` is missing or wrong.
        ArtifactError: A tile is not in the Build, or the folder cannot be written.
        EngineError: ngspice failed.
    """
    folder = Path(folder)
    config = _configure(build, overrides, seed)
    chosen = _choose_tiles(build, tiles)
    report = progress or (lambda stage, done, total: None)
    with written_whole(folder, may_replace_programmed) as draft:
        picked = {name: _pick(tile, name, cells_per_tile, config.device.seed) for name, tile in chosen.items()}
        cells = _program_in_numpy(chosen, config, report)
        sample = None
        if cells_per_tile != 0:
            sample = _program_in_spice(chosen, picked, config, draft, workers, report)
        programmed = Programmed(
            hardware_name=build.manifest.hardware_name,
            model_hash=build.manifest.model_hash,
            seed=config.device.seed,
            span=config.array.g_max - config.array.g_min,
            tolerance=config.write_pulses().tolerance,
            shapes={name: (tile.plan.memristor_rows, tile.plan.columns) for name, tile in chosen.items()},
            cells=cells,
            sample=sample,
            error_model=_fit_error(config, build.manifest.hardware_name),
        )
        save_programmed(programmed, draft)
    return programmed


def _configure(build: Build, overrides: Iterable[str], seed: int | None) -> HardwareConfig:
    given = [*overrides]
    for override in given:
        if override.partition(".")[0].strip() not in _SECTIONS:
            raise HardwareError(
                f"--set {override}: the build was compiled with its hardware; expected programming.KEY or stuck.KEY"
            )
    if seed is not None:
        given.append(f"device.seed={seed}")
    config = override_hardware(build.manifest.hardware, given)
    config.dynamic_memristor("write-verify")
    config.write_pulses()
    return config


def _choose_tiles(build: Build, names: Collection[str]) -> dict[str, Tile]:
    for name in names:
        if name not in build.tiles:
            raise ArtifactError(
                f"--tile {name}: no such tile in the build; expected one such as {next(iter(build.tiles))}"
            )
    return {name: tile for name, tile in build.tiles.items() if not names or name in names}


def _pick(tile: Tile, name: str, count: int | None, seed: int) -> NDArray[np.int64]:
    """Return the numbers of the cells of a tile that are programmed in SPICE."""
    size = tile.g.size
    if count is None or count >= size:
        return np.arange(size)
    return np.sort(keyed_stream(seed, name, Purpose.PROGRAMMED_SAMPLE).choice(size, count, replace=False))


def _program_in_numpy(tiles: Mapping[str, Tile], config: HardwareConfig, report: Progress) -> Written:
    draws = Draws([(name, tile.g.size, None) for name, tile in tiles.items()], config)
    targets = np.concatenate([tile.g_target.ravel() for tile in tiles.values()])
    bank = TwinCells(draws.start_states(config), config.dynamic_memristor("write-verify"))
    return write_verify(_Counted(bank, "numpy", report), targets, draws, config)


def _program_in_spice(
    tiles: Mapping[str, Tile],
    picked: Mapping[str, NDArray[np.int64]],
    config: HardwareConfig,
    folder: Path,
    workers: int | None,
    report: Progress,
) -> Sample:
    """Program the picked cells in SPICE and, with the same random numbers, in numpy."""
    draws = Draws([(name, tile.g.size, picked[name]) for name, tile in tiles.items()], config)
    targets = np.concatenate([tile.g_target.ravel()[picked[name]] for name, tile in tiles.items()])
    states = draws.start_states(config)
    with SpiceCells(folder, states, config, workers) as bank:
        spice = write_verify(_Counted(bank, "SPICE", report), targets, draws, config, keep_history=True)
    twin = write_verify(
        TwinCells(states, config.dynamic_memristor("write-verify")), targets, draws, config, keep_history=True
    )
    names = tuple(name for name in tiles for _ in picked[name])
    rows = np.concatenate([picked[name] // tile.plan.columns for name, tile in tiles.items()])
    columns = np.concatenate([picked[name] % tile.plan.columns for name, tile in tiles.items()])
    return Sample(names, rows, columns, spice, twin)


def _fit_error(config: HardwareConfig, hardware_name: str) -> ErrorModel:
    """Fit the error to cells with targets spread evenly over the range, which a network's are not."""
    low, high = config.array.g_min, config.array.g_max
    draws = Draws([("error model", _FITTED, None)], config)
    bank = TwinCells(draws.start_states(config), config.dynamic_memristor("write-verify"))
    written = write_verify(bank, np.linspace(low, high, _FITTED), draws, config)
    free = draws.stuck == 0
    source = f"write-verify of {np.count_nonzero(free)} cells by numpy, hardware {hardware_name}"
    return fit_error_model(written.g_target[free], written.g[free], source, low, high)


class _Counted:
    """A CellBank that reports how many cells need no more pulses."""

    def __init__(self, bank: CellBank, stage: str, report: Progress) -> None:
        self._bank, self._stage, self._report = bank, stage, report

    def read(self) -> Array:
        return self._bank.read()

    def pulse(self, volts: Array, widths: Array, rates: Array) -> Array:
        energy = self._bank.pulse(volts, widths, rates)
        self._report(self._stage, int(np.count_nonzero(volts == 0)), len(volts))
        return energy
