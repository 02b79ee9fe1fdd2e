"""Compile the shipped grammar model and run a sentence through the circuit.

python examples/02_compile_and_simulate.py [--backend spice|nodal|software] [FOLDER]
"""

import argparse
import tempfile
from pathlib import Path

import hvae_mnn as hm

SENTENCE = "this child carries his clock"


def main(folder: Path | None = None, backend: str = "spice") -> Path:
    """Simulate the sentence, print both transcripts, draw the errors; return the figure's path."""
    folder = folder or Path(tempfile.mkdtemp(prefix="hvae-mnn-"))
    build = hm.compile("grammar", "default", folder / "build", force=True)
    print(f"{len(build.tiles)} tiles, {build.memristors()} memristors")

    # Waveforms come from spice alone; the tiles named here are read in time, the others settled.
    tiles = ["encoder1.f.r0c0"] if backend == "spice" else []
    run = hm.simulate(build, SENTENCE, backend=backend, seed=0, transient=tiles)
    print(f"sentence  {' '.join(run.tokens)}")
    print(f"software  {run.software.text}")
    print(f"hardware  {run.hardware.text}   ({run.agreement:.0%} of words agree)")
    for layer in run.layers:
        print(f"{layer.name}: rms error {100 * layer.rms_error:.3f} % of full scale over {len(layer.error)} steps")

    hm.save_run(run, folder / "run")
    hm.plot(run).savefig(folder / "run.png")
    return folder / "run.png"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", choices=["spice", "nodal", "software"], default="spice")
    parser.add_argument("folder", nargs="?", type=Path, help="where to write; a temporary folder if not given")
    arguments = parser.parse_args()
    print(f"wrote {main(arguments.folder, arguments.backend)}")
