"""What breaks the shipped grammar model on crossbars: some studies of `what_breaks_it.toml`, from Python.

python examples/04_what_breaks_it.py [--trials N] [--sentences N] [FOLDER]

`hvae-mnn sweep-variation --plan examples/what_breaks_it.toml` runs all of them, with a process a core.
"""

import argparse
import tempfile
from pathlib import Path

from hvae_mnn.compiler.shipped import open_model
from hvae_mnn.experiments.sweep.plan import read_studies
from hvae_mnn.experiments.sweep.run import SweepSettings, make_plan, run_sweep
from hvae_mnn.experiments.sweep.sentences import draw_sentences
from hvae_mnn.experiments.sweep.summary import summarise
from hvae_mnn.hardware.files import load_hardware
from hvae_mnn.reports.figures.sweeps import draw_studies

STUDIES = ("programming-error", "stuck-hrs", "adc-bits")
PLAN = Path(__file__).with_name("what_breaks_it.toml")


def main(folder: Path | None = None, trials: int = 10, sentences: int = 50) -> Path:
    """Measure, print where the first 10 % of words are lost, draw; return the folder of the sweep."""
    folder = folder or Path(tempfile.mkdtemp(prefix="hvae-mnn-"))
    model = open_model("grammar")
    studies = [study for study in read_studies(PLAN, trials) if study.name in STUDIES]
    drawn = draw_sentences(model, "grammar", sentences, seed=0)
    names = {"model_name": "grammar", "hardware_name": "default"}
    plan, points = make_plan(model, load_hardware("default"), studies, drawn, **names)

    # One worker is this process; with more, a script needs the `if __name__ == "__main__"` below.
    sweep = run_sweep(plan, points, model, drawn, folder / "sweep", SweepSettings(workers=1), draw=draw_studies)
    for study in summarise(sweep.rows, sweep.plan).studies:
        for loss in study.losses:
            place = f"not up to {loss.last:g}" if loss.at.value is None else f"at {loss.key} = {loss.at.value:.3g}"
            print(f"{study.name:<18} first 10 % lost {place}")
    return folder / "sweep"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--sentences", type=int, default=50)
    parser.add_argument("folder", nargs="?", type=Path, help="where to write; a temporary folder if not given")
    arguments = parser.parse_args()
    print(f"wrote {main(arguments.folder, arguments.trials, arguments.sentences)}")
