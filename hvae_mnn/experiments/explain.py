"""Where a Run's error comes from: its hardware taken apart, one imperfection at a time.

A factor is a part of the hardware that ideal hardware has not. Each is measured alone, in hardware
that is ideal otherwise, and on top of the factors before it; with the last one the hardware is whole. Every
measurement compiles the Build's model again, with the Build's full scales, and reads the Run's own inputs with
the nodal engine: errors are those of the reads, and nothing adds up from cycle to cycle. The sentence is then
said once more in free run, where it does.

Converters that round but do not clip take the hardware's steps beyond its full scale: the ADC has as many bits more as
the Run's column values need, what the DAC would cut off is added as the software computes it. Ones that clip
but do not round have 24 bits.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.circuit.converters import Converter
from hvae_mnn.compiler.build import Build, load_build
from hvae_mnn.engines.base import ClosingEngine, EngineInfo, Reading
from hvae_mnn.engines.open import open_engine
from hvae_mnn.engines.software import SoftwareEngine
from hvae_mnn.errors import ArtifactError
from hvae_mnn.experiments.factors import CLIPPING, FACTORS, INPUT, OUTPUT, compile_with, hardware_with, widen_range
from hvae_mnn.runtime.progress import Progress
from hvae_mnn.simulation.orchestrator import Simulation
from hvae_mnn.simulation.run import Run, share_equal
from hvae_mnn.simulation.sentence import draw_noise, hash_build, read_sentence

Array = NDArray[np.float64]

_FINE_BITS, _MOST_BITS_MORE = 24, 16
_SAME = 1e-9
"""Readings that differ by less, in parts of full scale, are the same but for rounding in float64."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """What some hardware does to the Run's reads and to its sentence.

    Attributes:
        errors: For each layer the rms error of column sums, in parts of the Build's ADC full scale.
        tokens: What it says in free run, with the Run's noise.
        agreement: Share of words equal to those of the software model.
    """

    errors: Mapping[str, float]
    tokens: tuple[str, ...]
    agreement: float


@dataclass(frozen=True, slots=True)
class Effect:
    """What one factor does.

    Attributes:
        factor: Its name, one of FACTORS.
        present: Whether the hardware has it.
        alone: In hardware that is ideal otherwise.
        cumulative: Together with all factors before it.
    """

    factor: str
    present: bool
    alone: Measurement
    cumulative: Measurement


@dataclass(frozen=True, slots=True)
class Check:
    """Whether the whole hardware, computed again, reads what the Run recorded.

    Attributes:
        engine: What the Run was read with.
        readings: Column sums of the Run.
        equal: Those that are the same again.
        largest: Largest difference, parts of ADC full scale.
        agrees: All are equal; with ngspice, all but for rare neighbouring codes.
    """

    engine: str
    readings: int
    equal: int
    largest: float
    agrees: bool


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where a Run's error comes from.

    Attributes:
        sentence: The Run's sentence.
        hardware_preset: Preset or file of its hardware.
        layers: Names of the layers.
        software: What the software model says.
        ideal: The same crossbars without any factor.
        effects: One a factor, in the order of FACTORS.
        check: Against what the Run recorded; None for a Run of the software engine.
    """

    sentence: str
    hardware_preset: str
    layers: tuple[str, ...]
    software: tuple[str, ...]
    ideal: Measurement
    effects: tuple[Effect, ...]
    check: Check | None

    def to_json(self) -> dict[str, Any]:
        """Return what `explain --json` prints, as plain values."""
        return asdict(self)


def find_build(run: Run, folder: Path | None = None) -> Build:
    """Open the Build that a Run was read from.

    Args:
        run: The Run.
        folder: Where the Build is; where the Run says if not given.

    Raises:
        ArtifactError: The Run does not say, nothing is there, or it reads differently from the Run's Build.
    """
    if folder is None:
        if run.build is None:
            raise ArtifactError("the run does not say which build it was read from; give it as --build FOLDER")
        folder = Path(run.build)
        if not folder.is_dir():
            raise ArtifactError(f"{folder}: the run's build is not there any more; give another copy as --build FOLDER")
    build = load_build(folder)
    manifest = build.manifest
    if manifest.model_hash != run.model_hash:
        found = f"model {manifest.model_hash[:12]} instead of {run.model_hash[:12]}"
    elif run.build_hash is None and manifest.hardware_name != run.hardware_preset:
        found = f"hardware {manifest.hardware_name} instead of {run.hardware_preset}"
    elif run.build_hash is not None and hash_build(build) != run.build_hash:
        found = f"hardware {manifest.hardware_name} with other values or another calibration"
    else:
        return build
    raise ArtifactError(f"{folder}: not the build of this run ({found}); give that one as --build, or simulate again")


def explain_run(run: Run, build: Build | None = None, progress: Progress | None = None) -> Explanation:
    """Measure every factor of a Run's hardware, alone and on top of those before it.

    Args:
        run: The Run.
        build: The Build it was read from; where the Run says if not given.
        progress: Called with a stage, the measurements done and all.

    Raises:
        ArtifactError: The Run's inputs do not fit the Build, or it is not found.
    """
    build = build or find_build(run)
    _check_shapes(run, build)
    bench = _Bench(run, build)
    ideal, effects = bench.measure(()), []
    for place, factor in enumerate(FACTORS):
        alone, cumulative = bench.measure((factor,)), bench.measure(FACTORS[: place + 1])
        effects.append(Effect(factor, factor in bench.present, alone, cumulative))
        if progress is not None:
            progress("factors", place + 1, len(FACTORS))
    names = tuple(layer.name for layer in run.layers)
    said = run.software.tokens
    return Explanation(run.sentence, run.hardware_preset, names, said, ideal, tuple(effects), bench.check())


def _check_shapes(run: Run, build: Build) -> None:
    for trace, layer in zip(run.layers, build.manifest.layers, strict=True):
        wanted = sum(group.size for group in layer.groups), sum(tile.columns for tile in layer.tiles)
        found = trace.inputs[0].shape[1], trace.error[0].shape[1]
        if (trace.name, *found) != (layer.name, *wanted):
            raise ArtifactError(
                f"the run has {found[0]} inputs and {found[1]} column sums of {trace.name}, the build {wanted[0]} and "
                f"{wanted[1]} of {layer.name}; give the run's own build as --build, or simulate again"
            )


class _Bench:
    """Measures hardware with some of the factors on a Run's inputs, each combination once.

    Attributes:
        present: The factors that the hardware has.
    """

    def __init__(self, run: Run, build: Build) -> None:
        self.run, self.build = run, build
        self.full = build.manifest.hardware
        bare = hardware_with(self.full, frozenset())
        self.present = frozenset(f for f in FACTORS if hardware_with(self.full, frozenset({f})) != bare)
        if self.full.dac.bits is not None or self.full.adc.bits is not None:
            self.present |= {CLIPPING}
        self._ids = read_sentence(build, run.sentence).ids
        with SoftwareEngine(build) as software:
            self._exact = {
                layer.name: [software.step({layer.name: x})[layer.name].analog for x in layer.inputs]
                for layer in run.layers
            }
        self._done: dict[frozenset[str], tuple[Measurement, dict[str, list[Array]]]] = {}

    def measure(self, factors: tuple[str, ...]) -> Measurement:
        """Return what hardware with these factors alone does."""
        return self._measure(self.present & frozenset(factors))[0]

    def check(self) -> Check | None:
        """Compare the whole hardware with what the Run recorded."""
        engine = self.run.engine.name
        if engine == "software":
            return None
        again = self._measure(self.present)[1]
        recorded = np.concatenate([np.concatenate(layer.error).ravel() for layer in self.run.layers])
        computed = np.concatenate([np.concatenate(again[layer.name]).ravel() for layer in self.run.layers])
        apart = np.abs(computed - recorded)
        equal, largest = int(np.count_nonzero(apart <= _SAME)), float(apart.max())
        close = bool(np.sqrt(np.mean(apart**2)) <= 0.1 * np.sqrt(np.mean(recorded**2)) + 1e-6)
        return Check(engine, apart.size, equal, largest, close if engine == "spice" else equal == apart.size)

    def _measure(self, active: frozenset[str]) -> tuple[Measurement, dict[str, list[Array]]]:
        if active not in self._done:
            for build in self._builds(active):
                errors, clipped = self._read(build, active)
                if not clipped:
                    break
            with self._open(build, active) as probe:
                noise = draw_noise(build, self._ids, self.run.seed)
                outcome = Simulation(build, probe).run([self._ids], [noise])[0]
            tokens = build.checkpoint.vocabulary.tokens(outcome.tokens)
            rms = {name: float(np.sqrt(np.mean(np.concatenate(steps) ** 2))) for name, steps in errors.items()}
            self._done[active] = Measurement(rms, tokens, share_equal(tokens, self.run.software.tokens)), errors
        return self._done[active]

    def _builds(self, active: frozenset[str]) -> Iterator[Build]:
        """Yield Builds to try until one clips nothing; the last one counts where all do."""
        build = compile_with(self.build, active)
        adc = self.full.adc
        if adc.bits is None or not active & {OUTPUT, CLIPPING} or active >= {OUTPUT, CLIPPING}:
            yield build
        elif OUTPUT in active:
            for more in range(_MOST_BITS_MORE + 1):
                yield widen_range(
                    build, adc.bits + more, Converter(adc.bits + more).code_max / Converter(adc.bits).code_max
                )
        else:
            fine = widen_range(build, _FINE_BITS, 1.0)
            yield build if not self._read(fine, active)[1] else fine

    def _open(self, build: Build, active: frozenset[str]) -> "_Probe":
        cuts = self.full.dac.bits is not None and bool(active & {INPUT, CLIPPING})
        return _Probe(build, cuts, restores=CLIPPING not in active)

    def _read(self, build: Build, active: frozenset[str]) -> tuple[dict[str, list[Array]], int]:
        """Return the errors of the Run's reads, for each layer and step (1, outputs), and how many sums clipped.

        Steps are read one by one, as the Run did: equal shapes leave equal last digits.
        """
        errors = {}
        with self._open(build, active) as probe:
            for layer in self.run.layers:
                ratio = np.ones(layer.error[0].shape[1])  # of full scales; 1 but where they were widened
                tiles = zip(self.build.layer(layer.name).tiles, build.layer(layer.name).tile_outputs(), strict=True)
                for wanted, (tile, outputs) in tiles:
                    ratio[outputs] = tile.scale / wanted.scale
                readings = [probe.step({layer.name: x})[layer.name].codes for x in layer.inputs]
                pairs = zip(readings, self._exact[layer.name], strict=True)
                errors[layer.name] = [ratio * codes - exact for codes, exact in pairs]
            return errors, probe.clipped


class _Probe(ClosingEngine):
    """The nodal engine with fractions of full scale for codes, on a DAC that cuts inputs off or does not.

    Attributes:
        clipped: Column values beyond the ADC's range so far.
    """

    info = EngineInfo("nodal")
    dac = adc = Converter(None)

    def __init__(self, build: Build, cuts: bool, restores: bool) -> None:
        self._engine, self._software = open_engine(build, "nodal"), SoftwareEngine(build)
        self._cuts, self._restores = cuts, restores
        self.clipped = 0

    def step(self, codes: Mapping[str, Array]) -> dict[str, Reading]:
        """Read some layers once; what the DAC cuts off is put back in software where asked for."""
        dac, adc = self._engine.dac, self._engine.adc
        carried = {name: np.clip(x, -1, 1) if self._cuts else x for name, x in codes.items()}
        readings = self._engine.step({name: dac.encode(x) for name, x in carried.items()})
        found = {}
        for name, reading in readings.items():
            fractions = adc.decode(reading.codes)
            self.clipped += int(reading.clipped.sum())
            if self._restores and (carried[name] != codes[name]).any():
                whole, cut = (self._software.step({name: x[name]})[name].analog for x in (codes, carried))
                fractions = fractions + (whole - cut)
            found[name] = Reading(fractions, reading.analog, reading.clipped)
        return found
