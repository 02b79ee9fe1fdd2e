"""Settled reads (`op`) against one cycle in time (`tran`): 1e-4 of full scale at every step."""

import numpy as np
import pytest
from making import make_build

from hvae_mnn.engines.nodal import NodalEngine
from hvae_mnn.engines.spice.engine import SpiceEngine
from hvae_mnn.simulation.orchestrator import Simulation
from hvae_mnn.simulation.sentence import draw_noise

pytestmark = pytest.mark.ngspice

SENTENCE = (4, 8, 5, 5, 6)
CASES = {
    "paired": ((), {"cells": ("lstm", "gru"), "decoder": "rnn"}),
    "reference column": (("array.scheme=reference-column",), {"cells": ("rnn", "lstm"), "decoder": "gru"}),
    "read noise": (("device.read_sigma=0.02",), {"cells": ("rnn", "rnn"), "decoder": "gru"}),
    "slow, offset amplifiers": (
        ("amplifier.gain=2000", "amplifier.gain_bandwidth=300 MHz", "amplifier.offset=1 mV"),
        {"cells": ("rnn", "gru"), "decoder": "rnn"},
    ),
}


@pytest.mark.parametrize(("overrides", "checkpoint"), CASES.values(), ids=CASES.keys())
def test_every_step_of_a_sentence_is_equal(tmp_path, overrides, checkpoint):
    build = make_build(tmp_path / "build", "default", overrides, **checkpoint)
    simulation = Simulation(build, NodalEngine(build))
    simulation.run([SENTENCE], [draw_noise(build, SENTENCE, seed=3)])
    steps = 0
    with SpiceEngine(build, workers=1) as settled, SpiceEngine(build, workers=1, transient=["all"]) as transient:
        for name, trace in simulation.traces.items():
            for inputs in trace.inputs:
                codes = {name: settled.dac.encode(inputs)}
                still, moving = settled.step(codes)[name], transient.step(codes)[name]
                np.testing.assert_allclose(moving.analog, still.analog, rtol=0, atol=1e-4)
                assert np.abs(moving.codes - still.codes).max() <= 1
                steps += 1
        waveforms = transient.waveforms()
        assert settled.waveforms() == {}
    assert steps > 2 * len(SENTENCE)
    _check_waveforms(build, waveforms)


def _check_waveforms(build, waveforms):
    """Cycles stand end to end: time rises, and rows rest at the end of each cycle."""
    assert set(waveforms) == set(build.tiles)
    for waveform in waveforms.values():
        assert (np.diff(waveform.time) >= 0).all()
        cycles = waveform.time[-1] / waveform.cycle
        assert cycles == pytest.approx(round(cycles), abs=1e-6)
        ends = np.searchsorted(waveform.time, waveform.cycle * (1 + np.arange(round(cycles))) - 1e-9)
        assert np.abs(waveform.signals["rp0"][ends - 1]).max() < 1e-9
        assert np.abs(waveform.signals["rp0"]).max() > 1e-4
