"""Read one crossbar tile in time and look at its waveforms.

    python examples/01_read_one_tile.py [FOLDER]

The tile is compiled out of the shipped grammar model and given one input vector. What the
circuit reads is printed beside the sum that the trained weights themselves give.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

from hvae_mnn.build import save_build
from hvae_mnn.compiler.pipeline import compile_model
from hvae_mnn.engines.software import SoftwareEngine
from hvae_mnn.engines.spice import SpiceEngine
from hvae_mnn.hardware import load_hardware
from hvae_mnn.shipped import open_model

TILE = "encoder1.f.r0c0"


def main(folder: Path | None = None) -> Path:
    """Read the tile, print the first columns, draw a waveform; return the figure's path."""
    from matplotlib.figure import Figure

    folder = folder or Path(tempfile.mkdtemp(prefix="hvae-mnn-"))
    checkpoint = open_model("grammar")
    build = save_build(compile_model(checkpoint, load_hardware("default"), "default"), folder / "build", force=True)

    # One input vector of encoder 1: the word `this`, and the state before any word, h = 0.
    layer = build.layer("encoder1")
    ids, _ = checkpoint.vocabulary.encode("this")
    x = checkpoint.software_parts().encoder_embedding[list(ids)]
    inputs = layer.fractions({"x": x, "h": np.zeros((1, layer.hidden))})

    with SpiceEngine(build, workers=1, transient=[TILE]) as engine:
        reading = engine.step({"encoder1": engine.dac.encode(inputs)})["encoder1"]
        read = engine.adc.decode(reading.codes)
        waveform = engine.waveforms()[TILE]
    exact = SoftwareEngine(build).step({"encoder1": inputs})["encoder1"].analog

    tile, columns = next((tile, place) for tile, place in layer.tile_outputs() if tile.name == TILE)
    print(f"{TILE}: {tile.rows} rows, {tile.columns} columns; gate sums of the first columns")
    print("column  ADC code   circuit  software")
    for k in range(5):
        code, sums = reading.codes[0, columns][k], (read[0, columns][k], exact[0, columns][k])
        print(f"{k:6d}  {code:8.0f}  " + "  ".join(f"{tile.scale * value:8.4f}" for value in sums))

    figure = Figure(figsize=(5, 3), layout="constrained")
    axis = figure.subplots()
    for k in range(5):
        axis.plot(waveform.time * 1e6, waveform.signals[f"out{k}"] * 1e3, label=f"out{k}")
    axis.set(xlabel="time, µs", ylabel="amplifier output, mV", title=f"{TILE}, one cycle")
    figure.legend(loc="outside right upper")
    figure.savefig(folder / "tile.png", dpi=150)
    return folder / "tile.png"


if __name__ == "__main__":
    print(f"wrote {main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)}")
