"""A resident ngspice does not grow: the operating system's own count of its memory over 1,000 cycles."""

import numpy as np
import psutil
import pytest
from making import make_build

from hvae_mnn.engines.spice import SpiceEngine

pytestmark = pytest.mark.ngspice

TINY = {"cells": ("rnn", "rnn"), "decoder": "rnn", "embedding": 3, "hidden": 2, "latent": 1}


def test_a_worker_stays_the_same_size_over_a_thousand_cycles(tmp_path):
    build = make_build(tmp_path / "build", "default", **TINY)
    rng = np.random.default_rng(0)
    sizes = {}
    with SpiceEngine(build, workers=1) as engine:
        (pid,) = engine.worker_pids()
        readings = []
        for cycle in range(1, 1001):
            codes = rng.integers(-127, 128, (1, 5)).astype(float)
            readings.append(engine.step({"encoder1": codes})["encoder1"].codes[0])
            if cycle % 100 == 0:
                sizes[cycle] = psutil.Process(pid).memory_info().rss
    assert len(np.unique(readings, axis=0)) > 100  # the cycles were different reads
    assert sizes[100] > 10e6
    for size in sizes.values():
        assert size == pytest.approx(sizes[100], rel=0.05), sizes
