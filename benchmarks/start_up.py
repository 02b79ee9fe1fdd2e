"""How long do commands take from start to end, and how much longer would they if they loaded torch?

Each command runs as a process of its own on a Build of a shipped model, in turns with the same command in a process
that loads torch first, as commands did that needed it for a model's shapes and files. The script ends with an error
if a sentence in the nodal engine takes 2 s or more, or if a command loads torch by itself.

    python benchmarks/start_up.py [--model grammar] [--rounds 5]
"""

import argparse
import subprocess
import sys
import tempfile
import time

import numpy as np

SENTENCE = "this child carries his clock"
COMMANDS: dict[str, tuple[str, ...]] = {
    "--help": ("--help",),
    "compile": ("compile", "{model}", "--out", "again", "--force"),
    "simulate, nodal": ("simulate", "--build", "build", "--backend", "nodal", "--sentence", SENTENCE),
    "simulate, spice": ("simulate", "--build", "build", "--sentence", SENTENCE),
    "plot a build": ("plot", "build", "--out", "build.png"),
    "a wrong option value": ("simulate", "--build", "build", "--sentence", ""),
}
GOALS = {"simulate, nodal": 2.0}
"""Most seconds from start to end."""
_RUN = "from hvae_mnn.cli import main; main(prog_name='hvae-mnn', standalone_mode=False)"
_CHECKED = f"import sys\ntry:\n    {_RUN}\nfinally:\n    sys.stderr.write('torch' * ('torch' in sys.modules))"


def main() -> None:
    options = parse_options()
    with tempfile.TemporaryDirectory() as folder:
        run(_RUN, ("compile", options.model, "--out", "build"), folder)
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
        for _ in range(options.rounds):
            for name, template in COMMANDS.items():
                words = tuple(word.format(model=options.model) for word in template)
                times[name].append((run(_CHECKED, words, folder), run(f"import torch; {_RUN}", words, folder)))
    report(options.model, {name: np.median(np.array(pairs), axis=0) for name, pairs in times.items()})


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time commands from start to end, with and without loading torch.")
    parser.add_argument("--model", default="grammar", help="a shipped model or a file")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each command each way (5)")
    return parser.parse_args()


def run(code: str, words: tuple[str, ...], folder: str) -> float:
    """Run a command in a process of its own; return its seconds."""
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=folder, capture_output=True, text=True, check=False)
    if code == _CHECKED and done.stderr.endswith("torch"):
        sys.exit(f"start_up: {' '.join(words)} loaded torch")
    return time.perf_counter() - began


def report(model: str, medians: dict[str, np.ndarray]) -> None:
    print(f"model {model}, medians, seconds from start to end")
    print(f"{'command':24}{'as it is':>10}{'torch first':>13}{'ratio':>8}")
    for name, (ours, theirs) in medians.items():
        print(f"{name:24}{ours:10.2f}{theirs:13.2f}{ours / theirs:8.2f}")
    missed = [name for name, goal in GOALS.items() if medians[name][0] >= goal]
    if missed:
        sys.exit(f"start_up: {', '.join(missed)} took as long as its goal or longer")


if __name__ == "__main__":
    main()
