"""A resident ngspice does not grow: the operating system's own count of its memory over many cycles."""

import numpy as np
import psutil
import pytest
from making import make_build

from hvae_mnn.engines.spice.engine import SpiceEngine

pytestmark = pytest.mark.ngspice

TINY = {"cells": ("rnn", "rnn"), "decoder": "rnn", "embedding": 3, "hidden": 2, "latent": 1}


def test_a_worker_stays_the_same_size_over_a_thousand_cycles(tmp_path):
    build = make_build(tmp_path / "build", "default", **TINY)
    rng = np.random.default_rng(0)
    sizes = {}
    with SpiceEngine(build, workers=1) as engine:
        pid = engine.deck_pids()["encoder1.h.r0c0"]
        readings = []
        for cycle in range(1, 1001):
            codes = rng.integers(-127, 128, (1, 5)).astype(float)
            readings.append(engine.step({"encoder1": codes})["encoder1"].codes[0])
            if cycle % 100 == 0:
                sizes[cycle] = psutil.Process(pid).memory_info().rss
    assert len(np.unique(readings, axis=0)) > 100  # the cycles were different reads
    check_flat(sizes)


def test_reading_in_time_keeps_no_plots(tmp_path):
    """A cycle's waveforms are some 50 kB; 300 of them would be a third of the worker; the engine has them on disk."""
    build = make_build(tmp_path / "build", "default", **TINY)
    rng = np.random.default_rng(1)
    sizes, own = {}, {}
    with SpiceEngine(build, workers=1, transient=["encoder1.h.r0c0"]) as engine:
        pid = engine.deck_pids()["encoder1.h.r0c0"]
        for cycle in range(1, 401):
            engine.step({"encoder1": rng.integers(-127, 128, (1, 5)).astype(float)})
            if cycle % 100 == 0:
                sizes[cycle] = psutil.Process(pid).memory_info().rss
                own[cycle] = psutil.Process().memory_info().rss
        (waveform,) = engine.waveforms().values()
    assert waveform.time[-1] == pytest.approx(400 * build.manifest.hardware.timing.cycle, rel=1e-6)
    check_flat(sizes)
    written = sum(signal.nbytes for signal in waveform.signals.values())
    assert written > 10e6
    assert max(own.values()) - own[100] < 0.2 * written, own


def check_flat(sizes):
    assert sizes[100] > 10e6
    for size in sizes.values():
        assert size == pytest.approx(sizes[100], rel=0.05), sizes
