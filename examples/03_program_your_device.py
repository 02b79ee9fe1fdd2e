"""A device of your own: how well can it be written, and what does the remaining error do to sentences?

    python examples/03_program_your_device.py [FOLDER]

The device is the AIST memristor with write pulses that are hard to repeat, in two qualities of the pulse
source. Write-verify says what error each leaves; the compiler takes that as an error model, and the nodal
engine reads sentences of the grammar with it.
"""

import sys
import tempfile
from pathlib import Path

import hvae_mnn as hm

DEVICE = """
extends = "default"

[programming]
rate_c2c = 0.4                    # pulses differ from one to the next by half
tolerance = {tolerance}
width_min = "{width_min}"
"""
SOURCES = {"fine": ("100 ns", 0.005), "coarse": ("20 us", 0.05)}
SENTENCES = ("this child carries his clock", "yesterday some brave lawyers work near the school")


def main(folder: Path | None = None) -> Path:
    """Program with both pulse sources, print error and agreement; return the coarse one's figure."""
    folder = folder or Path(tempfile.mkdtemp(prefix="hvae-mnn-"))
    checkpoint = hm.open_model("grammar")
    print("pulses   mean pulses  error left (rms of range)  words that stay the same")
    for name, (width_min, tolerance) in SOURCES.items():
        device = folder / f"{name}.toml"
        device.write_text(DEVICE.format(width_min=width_min, tolerance=tolerance))
        build = hm.compile(checkpoint, device, folder / f"build_{name}")
        programmed = hm.program(build, folder / f"programming_{name}", cells_per_tile=0)
        found = programmed.to_json()["numpy"]
        agreement = read_with_error(checkpoint, device, folder / f"programming_{name}" / "error_model.toml")
        print(f"{name:<8} {found['mean_pulses']:>11.2f}  {found['rms_error']:>25.2%}  {agreement:>24.0%}")
    figure = folder / "programming_coarse.png"
    hm.plot(programmed).savefig(figure)
    print(figure)
    return figure


def read_with_error(checkpoint: hm.Checkpoint, device: Path, error_model: Path) -> float:
    """Return the mean agreement of hardware and software over the sentences."""
    build = hm.compile(checkpoint, device, overrides=[f"device.error_model={error_model}"])
    runs = [hm.simulate(build, sentence, backend="nodal", seed=0) for sentence in SENTENCES]
    return sum(run.agreement for run in runs) / len(runs)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
