"""Static against dynamic memristors over reads: 1e-6 of full scale, states exactly unmoved."""

import numpy as np
import pytest
from making import layer_inputs, make_build

from hvae_mnn.engines.nodal import NodalEngine
from hvae_mnn.engines.spice.engine import SpiceEngine
from hvae_mnn.simulation.orchestrator import Simulation
from hvae_mnn.simulation.sentence import draw_noise

pytestmark = pytest.mark.ngspice

TINY = {"cells": ("rnn", "rnn"), "decoder": "rnn", "embedding": 3, "hidden": 2, "latent": 1}
SENTENCE = (4, 7, 6)


@pytest.mark.parametrize("read_sigma", [0.0, 0.02])
@pytest.mark.parametrize("scheme", ["paired", "reference-column"])
def test_reads_are_equal_and_leave_the_states(tmp_path, scheme, read_sigma):
    static, dynamic = _builds(tmp_path, scheme, f"device.read_sigma={read_sigma}")
    inputs = layer_inputs(static, "encoder1")[[1, 3, 9]]  # all full scale, alternating, random
    _compare(static, dynamic, [("encoder1", row[None]) for row in inputs])


@pytest.mark.parametrize("scheme", ["paired", "reference-column"])
def test_a_whole_sentence_of_reads_is_equal_and_leaves_the_states(tmp_path, scheme):
    static, dynamic = _builds(tmp_path, scheme)
    simulation = Simulation(static, NodalEngine(static))
    simulation.run([SENTENCE], [draw_noise(static, SENTENCE, seed=5)])
    _compare(static, dynamic, [(name, row) for name, trace in simulation.traces.items() for row in trace.inputs])


def _builds(folder, scheme, *more):
    overrides = (f"array.scheme={scheme}", *more)
    static = make_build(folder / "static", "ideal", overrides, **TINY)
    return static, make_build(folder / "dynamic", "ideal", (*overrides, "array.memristor=dynamic"), **TINY)


def _compare(static, dynamic, reads):
    with SpiceEngine(static, workers=1) as still, SpiceEngine(dynamic, workers=1) as moving:
        for name, inputs in reads:
            expected, found = still.step({name: inputs})[name], moving.step({name: inputs})[name]
            assert np.abs(expected.analog).max() > 0.01
            np.testing.assert_allclose(found.analog, expected.analog, rtol=0, atol=1e-6)
        waveforms = moving.waveforms()
    assert waveforms
    device = dynamic.manifest.hardware.memristor
    for name, waveform in waveforms.items():
        g = dynamic.tiles[name].g
        for j, k in np.ndindex(g.shape):
            state = (device.r_off - 1 / g[j, k]) / (device.r_off - device.r_on)  # eq. 8: R = r_on x + r_off (1 - x)
            np.testing.assert_allclose(waveform.signals[f"x{j}_{k}"], state, rtol=0, atol=1e-12)
            assert np.ptp(waveform.signals[f"x{j}_{k}"]) == 0
