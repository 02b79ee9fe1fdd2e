"""Makes sweeps for tests, with a bench that costs nothing: its figures follow from hardware and seed alone."""

import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from making import make_checkpoint

from hvae_mnn.errors import EngineError
from hvae_mnn.experiments.sweep.metrics import METRICS
from hvae_mnn.experiments.sweep.plan import Axis, Point, Study, SweepPlan
from hvae_mnn.experiments.sweep.run import SweepSettings, make_plan, run_sweep
from hvae_mnn.experiments.sweep.sentences import SweepSentences
from hvae_mnn.experiments.sweep.store import Sweep
from hvae_mnn.hardware.config import HardwareConfig
from hvae_mnn.hardware.files import load_hardware

FAKE = "sweeping:FakeBench"
SLOW = "sweeping:SlowBench"
REFUSES = "sweeping:RefusingBench"
SENTENCES = SweepSentences("made", (0, 3), ((4, 5), (6,)), 1, 0.0)


class FakeBench:
    """Measures as `TrialBench` does, by no circuit."""

    seconds = 0.0

    def __init__(self, checkpoint: Any, sentences: Sequence[tuple[int, ...]], seed: int = 0) -> None:
        assert checkpoint.config.hidden and len(sentences) == 2

    def measure(self, hardware: HardwareConfig, seeds: Sequence[int]) -> list[dict[str, float]]:
        time.sleep(self.seconds * len(seeds))
        return [self._metrics(hardware, seed) for seed in seeds]

    def measure_spice(
        self, hardware: HardwareConfig, seed: int, workers: int | None = None, check: bool = False
    ) -> tuple[dict[str, float], dict[str, float]]:
        time.sleep(self.seconds)
        compared = {"values": 10.0, "equal_codes": 1.0, "largest_lsb": 0.0, "largest_analog": 1e-9}
        return self._metrics(hardware, seed), compared if check else {}

    def software(self) -> dict[str, float]:
        return {"reconstruction": 10.0, "kl": 2.0, "elbo": 12.0}

    def _metrics(self, hardware: HardwareConfig, seed: int) -> dict[str, float]:
        text = hardware.model_dump_json(exclude={"device": {"seed"}})
        rng = np.random.default_rng([seed, zlib.crc32(text.encode())])
        return {metric.name: float(rng.random()) for metric in METRICS}


class SlowBench(FakeBench):
    """Takes 20 ms a trial."""

    seconds = 0.02


class RefusingBench(FakeBench):
    """Fails on hardware of large sigma, as a missing engine would."""

    def measure(self, hardware: HardwareConfig, seeds: Sequence[int]) -> list[dict[str, float]]:
        if hardware.device.sigma > 0.1:
            raise EngineError("the bench is on strike")
        return super().measure(hardware, seeds)


def make_studies(trials: int = 10) -> tuple[Study, ...]:
    """Return a grid of numbers and choices, and an axis of linked keys with fewer trials."""
    grid = (
        Axis(key="device.sigma", values=(0, 0.05, 0.2)),
        Axis(key="array.scheme", values=("paired", "differential")),
    )
    square = Axis(key="array.tile_rows,array.tile_columns", values=(8, 16))
    small = Study(name="tiles", axes=(square,), trials=max(1, trials // 2), overrides=("adc.bits=6",))
    return Study(name="errors", axes=grid, trials=trials), small


def plan_of(studies: Sequence[Study] | None = None, **options: Any) -> tuple[SweepPlan, tuple[Point, ...]]:
    hardware = load_hardware("default")
    names = {"model_name": "tiny", "hardware_name": "default"}
    return make_plan(make_checkpoint(), hardware, studies or make_studies(), SENTENCES, **names, **options)


def sweep(out: Path, plan: SweepPlan, points: Sequence[Point], bench: str = FAKE, **settings: Any) -> Sweep:
    more = {name: settings.pop(name) for name in ("draw", "tell", "progress") if name in settings}
    chosen = SweepSettings(**{"workers": 1, "bench": bench, **settings})
    return run_sweep(plan, points, make_checkpoint(), SENTENCES, out, chosen, **more)


def assert_same(one: pd.DataFrame, other: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(one, other, check_exact=True)


def stored(folder: Path) -> int:
    """Return how many rows lie in an unfinished sweep."""
    return sum(len(pd.read_parquet(path)) for path in (folder / "rows").glob("*.parquet"))
