"""Write-verify in ngspice and in numpy, with the same random numbers: the same pulses, cell by cell."""

from pathlib import Path

import numpy as np
import pytest

from hvae_mnn.circuit.programming import REACHED, STUCK, Draws, TwinCells, write_verify
from hvae_mnn.engines.spice.cells import SpiceCells
from hvae_mnn.hardware.files import load_hardware

pytestmark = [pytest.mark.ngspice, pytest.mark.timeout(120)]

CELLS = 32
FINE = "programming.width_min=5 ns"
"""With the default's 100 ns, widths that round to neighbouring ticks put 4e-4 of the range between two cells."""
CASES = {
    "paper": ((FINE,), 1e-4),
    "directional": ((FINE, "memristor.window=directional"), 1e-4),
    "spread": ((FINE, "programming.rate_d2d=0.3", "programming.rate_c2c=0.4"), 1e-4),
    "stuck": (("stuck.p_lrs=0.1", "stuck.p_hrs=0.1"), 5e-4),
}


@pytest.mark.parametrize("case", CASES)
def test_equal_pulses_conductances_and_energies(tmp_path: Path, case: str) -> None:
    overrides, limit = CASES[case]
    config = load_hardware("default", overrides)
    array, span = config.array, config.array.g_max - config.array.g_min
    targets = np.random.default_rng(11).permutation(np.linspace(array.g_min, array.g_max, CELLS))
    draws = Draws([("encoder1.i.r0c0", 3 * CELLS, np.arange(CELLS) * 3 + 1)], config)
    states = draws.start_states(config)

    with SpiceCells(tmp_path, states, config, workers=2) as cells:
        spice = write_verify(cells, targets, draws, config, keep_history=True)
    twin = write_verify(
        TwinCells(states, config.dynamic_memristor("a twin")), targets, draws, config, keep_history=True
    )

    np.testing.assert_array_equal(spice.pulses, twin.pulses)
    np.testing.assert_array_equal(spice.status, twin.status)
    np.testing.assert_allclose(spice.g, twin.g, rtol=0, atol=limit * span)
    np.testing.assert_allclose(np.array(spice.history), np.array(twin.history), rtol=0, atol=3 * limit * span)
    np.testing.assert_allclose(spice.energy, twin.energy, rtol=0.02)
    assert np.array_equal(spice.energy > 0, spice.pulses > 0)

    error, stuck = np.abs(spice.g - targets) / span, draws.stuck != 0
    assert (np.count_nonzero(stuck) >= 4) == (case == "stuck")
    assert np.all(spice.status[~stuck] == REACHED) and error[~stuck].max() < 0.01
    assert np.all(spice.status[stuck & (error > 0.01)] == STUCK)
    assert spice.pulses[~stuck].max() >= 3
