"""The default study: what is swept where neither axes nor a plan are given, on how many dies, and how long it takes."""

import time
from collections.abc import Sequence
from itertools import groupby

from hvae_mnn.experiments.sweep.cluster import Bench
from hvae_mnn.experiments.sweep.plan import Point, Study, read_studies, text_of
from hvae_mnn.hardware.config import HardwareConfig
from hvae_mnn.hardware.files import override_hardware
from hvae_mnn.model.network.threads import one_thread
from hvae_mnn.runtime.resources import plans_folder

DEFAULT_PLAN = plans_folder() / "default.toml"

_START = 10.0
"""Seconds for starting processes, intervals and figures. Measured."""


def default_studies(hardware: HardwareConfig, trials: int | None = None) -> tuple[Study, ...]:
    """Return the studies that say something of a hardware, on one die each where nothing is random.

    Args:
        hardware: The base hardware; with ideal amplifiers, nothing of amplifiers is swept.
        trials: Dies at each point of the others; those of the plan if not given.
    """
    studies = read_studies(DEFAULT_PLAN, trials)
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
    """Return about how long points take in the nodal engine: a die of each study's last point is timed for it."""
    with one_thread():
        return _START + sum(_time(list(group), bench, seed, workers) for _, group in groupby(points, _name))


def _time(points: list[Point], bench: Bench, seed: int, workers: int) -> float:
    """Return the seconds of a study; each worker compiles a point by itself."""
    last, times = points[-1], []
    for _ in range(2):
        began = time.perf_counter()
        bench.measure(last.hardware, [seed])
        times.append(time.perf_counter() - began)
    compiling, die = max(times[0] - times[1], 0.0), times[1]
    busy = min(workers, len(points) * last.trials)
    return len(points) * (compiling * min(workers, last.trials) + die * last.trials) / busy


def _name(point: Point) -> str:
    return point.study


def _varies(study: Study, hardware: HardwareConfig) -> bool:
    changes = ([*study.overrides, *(f"{key}={text_of(value)}" for key, value in at.items())] for at in study.grid())
    return any(is_random(override_hardware(hardware, each)) for each in changes)
