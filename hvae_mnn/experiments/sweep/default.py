"""The default study: what is swept where neither axes nor a plan are given, on how many dies, and how long it takes."""

import time
from collections.abc import Sequence
from itertools import groupby

from hvae_mnn.compiler.estimate import estimate_build
from hvae_mnn.experiments.sweep.cluster import Bench
from hvae_mnn.experiments.sweep.plan import Point, Study, read_studies, text_of
from hvae_mnn.hardware.config import HardwareConfig
from hvae_mnn.hardware.files import override_hardware
from hvae_mnn.model.checkpoint import Checkpoint
from hvae_mnn.model.network.threads import one_thread
from hvae_mnn.runtime.resources import plans_folder

DEFAULT_PLAN = plans_folder() / "default.toml"

_START = 7.0
"""Seconds for starting processes, intervals and figures. Measured."""
_FEW_DIES, _LARGE = 10, 500_000
"""Dies where one costs ten times as much: of circuits with wires, or with more memristors than this."""


def default_studies(checkpoint: Checkpoint, hardware: HardwareConfig, trials: int | None = None) -> tuple[Study, ...]:
    """Return the studies that say something of a hardware, on one die each where nothing is random.

    Args:
        checkpoint: The model.
        hardware: The base hardware; with ideal amplifiers, nothing of amplifiers is swept.
        trials: Dies at each point of the others; if not given those of the plan, or few where they cost much.

    Raises:
        CheckpointError: The model cannot be compiled.
    """
    large = hardware.array.wires != "none" or estimate_build(checkpoint, hardware).memristors > _LARGE
    studies = read_studies(DEFAULT_PLAN, trials or (_FEW_DIES if large else None))
    ideal = hardware.amplifier.gain is None
    kept = [study for study in studies if not (ideal and study.keys[0].startswith("amplifier."))]
    return tuple(study if _varies(study, hardware) else study.model_copy(update={"trials": 1}) for study in kept)


def is_random(hardware: HardwareConfig) -> bool:
    """Say whether two dies of a hardware may differ."""
    device, stuck, amplifier = hardware.device, hardware.stuck, hardware.amplifier
    cells = device.sigma or device.read_sigma or device.error_model or stuck.p_hrs or stuck.p_lrs
    columns = amplifier.gain is not None and (amplifier.offset_sigma or amplifier.noise)
    return bool(cells or columns or hardware.dac.inl or hardware.adc.inl)


def estimate_seconds(points: Sequence[Point], bench: Bench, seed: int, workers: int) -> float:
    """Return about how long points take in the nodal engine, for which dies of some of them are timed."""
    with one_thread():
        return _START + sum(_weigh(list(group), bench, seed, workers) for _, group in groupby(points, _name))


def _weigh(points: list[Point], bench: Bench, seed: int, workers: int) -> float:
    """Return the seconds of a study: dies take longest where words are lost, and each worker compiles by itself."""
    dies = points[0].trials
    chosen = {0, len(points) // 2, len(points) - 1} if dies > 1 else {len(points) // 2}
    whole = [_time(points[i], bench, seed) for i in sorted(chosen)]
    again = _time(points[max(chosen)], bench, seed)  # is compiled already
    compiling = max(whole[-1] - again, 0.0)
    die = sum(whole) / len(whole) - compiling
    busy = min(workers, len(points) * dies)
    return len(points) * (compiling * min(workers, dies) + die * dies) / busy


def _time(point: Point, bench: Bench, seed: int) -> float:
    """Return the seconds that a die of a point takes, compiling too if the last one was another point's."""
    began = time.perf_counter()
    bench.measure(point.hardware, [seed])
    return time.perf_counter() - began


def _name(point: Point) -> str:
    return point.study


def _varies(study: Study, hardware: HardwareConfig) -> bool:
    changes = ([*study.overrides, *(f"{key}={text_of(value)}" for key, value in at.items())] for at in study.grid())
    return any(is_random(override_hardware(hardware, each)) for each in changes)
