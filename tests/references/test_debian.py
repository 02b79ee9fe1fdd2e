"""Everything that needs ngspice, under Debian 13's ngspice 44 with KLU."""

import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "in-debian.sh"
COMMAND = "bash scripts/setup.sh --tests 2>/setup.log && exec .venv/bin/pytest -m ngspice --ngspice=required -q"


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_suite_passes_with_ngspice_44() -> None:
    done = subprocess.run(["bash", SCRIPT, "trixie", "bash", "-c", COMMAND], capture_output=True, text=True)
    said = (done.stdout + done.stderr).splitlines()
    if done.returncode == 77:
        pytest.skip(said[-1])
    assert done.returncode == 0, "\n".join(said[-30:])
    assert " passed" in said[-1]
