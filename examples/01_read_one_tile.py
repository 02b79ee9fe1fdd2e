"""Read one crossbar tile by the nodal engine and by ngspice, and print both beside the software's sums.

    python examples/01_read_one_tile.py [FOLDER]

The tile is compiled out of the shipped grammar model. It is read once, with the inputs that
encoder 1 gets for the word `this`; ngspice reads it in time, so its waveforms can be drawn.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from hvae_mnn.compiler.build import save_build
from hvae_mnn.compiler.pipeline import compile_model
from hvae_mnn.compiler.shipped import open_model
from hvae_mnn.engines.base import Waveform
from hvae_mnn.engines.nodal import NodalEngine
from hvae_mnn.engines.software import SoftwareEngine
from hvae_mnn.engines.spice.engine import SpiceEngine
from hvae_mnn.hardware.files import load_hardware
from hvae_mnn.reports.figures.style import COLOURS

TILE = "encoder1.f.r0c0"


def main(folder: Path | None = None) -> Path:
    """Read the tile, print its first columns, draw a waveform; return the figure's path."""
    folder = folder or Path(tempfile.mkdtemp(prefix="hvae-mnn-"))
    checkpoint = open_model("grammar")
    build = save_build(compile_model(checkpoint, load_hardware("default"), "default"), folder / "build", force=True)

    # One input vector of encoder 1: the word `this`, and h = 0 as before the first word.
    layer = build.layer("encoder1")
    ids, _ = checkpoint.vocabulary.encode("this")
    x = checkpoint.software_parts().encoder_embedding[list(ids)]
    inputs = layer.fractions({"x": x, "h": np.zeros((1, layer.hidden))})

    with NodalEngine(build) as engine:
        codes = engine.dac.encode(inputs)
        nodal = engine.step({"encoder1": codes})["encoder1"]
    with SpiceEngine(build, workers=1, transient=[TILE]) as engine:
        spice = engine.step({"encoder1": codes})["encoder1"]
        waveform = engine.waveforms()[TILE]
    software = SoftwareEngine(build).step({"encoder1": inputs})["encoder1"]

    tile, columns = next((tile, place) for tile, place in layer.tile_outputs() if tile.name == TILE)
    print(f"{TILE}: {tile.rows} rows, {tile.columns} columns; partial sums of gate {tile.gate} before the ADC")
    print("column  code: nodal  ngspice  sum: nodal   ngspice  software")
    for k in range(columns.start, columns.start + 5):
        sums = "  ".join(f"{tile.scale * r.analog[0, k]:8.4f}" for r in (nodal, spice, software))
        print(f"{k - columns.start:6d}  {nodal.codes[0, k]:11.0f}  {spice.codes[0, k]:7.0f}    {sums}")
    return draw(waveform, folder / "tile.png")


def draw(waveform: Waveform, path: Path) -> Path:
    """Draw the first amplifiers over one cycle."""
    figure = Figure(figsize=(5, 3), layout="constrained")
    axis = figure.subplots()
    for k in range(5):
        axis.plot(waveform.time * 1e6, waveform.signals[f"out{k}"] * 1e3, color=COLOURS[k], label=f"out{k}")
    axis.set(xlabel="time, µs", ylabel="amplifier output, mV", title=f"{TILE}, one cycle")
    figure.legend(loc="outside right upper")
    figure.savefig(path, dpi=150)
    return path


if __name__ == "__main__":
    print(f"wrote {main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)}")
