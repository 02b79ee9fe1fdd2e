"""Do two checkouts of the project compute the same, bit for bit?

Runs a fixed list of commands by the interpreter of each checkout's environment: sentences in both engines on several
kinds of hardware, a small sweep, programming, a table of models. Of every result it compares what was computed:
converter codes and voltages before them, words, conductances, rows, figures of models. Names of files and keys, and
what depends on the clock, are no part of it. It prints a line a result and ends with an error if any differs.

    python benchmarks/same_results.py OTHER_CHECKOUT [--python INTERPRETER] [--quick]
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

HERE = Path(__file__).resolve().parents[1]
SENTENCE = "this child carries his clock near the old school"
HARDWARE: dict[str, tuple[str, ...]] = {
    "default": (),
    "ideal": (),
    "realistic": (),
    "pulse-width": (),
    "bit-serial": (),
    "aist": ("array.scheme=reference-column", "device.read_sigma=0.01", "adc.inl=0.5", "dac.inl=0.5"),
    "ta-hfo2": ("array.scheme=differential", "amplifier.offset_sigma=0.5 mV", "periphery.state_bits=10"),
}
SWEEP = "sweep-variation --axis device.sigma --values 0,0.05 --axis adc.bits --values 4,8 --trials 3 --sentences 10"
STUDY = "train --corpus grammar --study {here}/examples/tiny_study.toml --importance-sentences 5"


def main() -> None:
    options = parse_options()
    with tempfile.TemporaryDirectory() as folder:
        found = {}
        for name, checkout in (("ours", HERE), ("theirs", options.other.resolve())):
            (Path(folder) / name).mkdir()
            found[name] = results(checkout, options.python, Path(folder) / name, options.quick)
    report(found["ours"], found["theirs"])


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare what two checkouts compute, bit for bit.")
    parser.add_argument("other", type=Path, help="another checkout of the project")
    parser.add_argument("--python", default=sys.executable, help="interpreter with the dependencies of both")
    parser.add_argument("--quick", action="store_true", help="no ngspice and no training")
    return parser.parse_args()


def results(checkout: Path, python: str, folder: Path, quick: bool) -> dict[str, np.ndarray]:
    """Return what a checkout computes, by name."""

    def run(command: str, *more: str) -> None:
        environment = os.environ | {"PYTHONPATH": str(checkout), "XDG_CACHE_HOME": str(folder / "cache")}
        words = [python, "-m", "hvae_mnn.cli", *command.split(), *more]
        done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"same_results: {' '.join(words)}: {done.stderr}")

    found: dict[str, np.ndarray] = {}
    for preset, overrides in HARDWARE.items():
        changes = [word for override in overrides for word in ("--set", override)]
        run(f"compile grammar --hardware {preset} --out build-{preset}", *changes)
        found |= arrays(folder / f"build-{preset}" / "conductance.npz", f"{preset}: conductances")
        for backend in ("nodal", "software") if quick else ("nodal", "software", "spice"):
            out = f"run-{preset}-{backend}"
            command = f"simulate --build build-{preset} --backend {backend} --seed 3 --out {out}"
            run(command, "--sentence", SENTENCE)
            found |= arrays(folder / out / "trace.npz", f"{preset}, {backend}")
            run_file = pd.read_json(folder / out / "run.json", typ="series")
            said = {side: run_file[side] for side in ("hardware", "software")}
            found[f"{preset}, {backend}: words"] = np.array([said[side]["text"] for side in sorted(said)])
            latents = [said[side][part] for side in sorted(said) for part in ("mu", "logvar", "z")]
            found[f"{preset}, {backend}: latents"] = np.array(latents)
    run(f"{SWEEP} --seed 2 --out sweep")
    found |= columns(pd.read_parquet(folder / "sweep" / "rows.parquet"), "sweep")
    run("program build-aist --cells-per-tile 0 --out programming")
    for path in sorted((folder / "programming").glob("*.npz")):
        found |= arrays(path, "programming")
    if not quick:
        run(STUDY.format(here=checkout), "--out", "study")
        found |= columns(pd.read_csv(folder / "study" / "results.csv"), "study")
    return found


def arrays(path: Path, what: str) -> dict[str, np.ndarray]:
    with np.load(path) as content:
        return {f"{what}: {name}": content[name] for name in content.files}


def columns(table: pd.DataFrame, what: str) -> dict[str, np.ndarray]:
    kept = [name for name in table if "seconds" not in str(name) and "duration" not in str(name)]
    return {f"{what}: column {i}": table[name].to_numpy() for i, name in enumerate(kept)}


def report(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> None:
    odd = sorted(set(ours) ^ set(theirs))
    differ = [name for name in ours if name in theirs and not equal(ours[name], theirs[name])]
    values = sum(ours[name].size for name in ours)
    print(f"{len(ours)} results, {values} values: {len(differ)} results differ, {len(odd)} are on one side only")
    for name in differ:
        print(f"  {name}: {difference(ours[name], theirs[name])}")
    for name in odd:
        print(f"  {name}: only on one side")
    if differ or odd:
        sys.exit(1)


def equal(ours: np.ndarray, theirs: np.ndarray) -> bool:
    numbers = ours.dtype.kind == "f" and theirs.dtype.kind == "f"
    return bool(np.array_equal(ours, theirs, equal_nan=numbers))


def difference(ours: np.ndarray, theirs: np.ndarray) -> str:
    if ours.shape != theirs.shape:
        return f"shapes {ours.shape} and {theirs.shape}"
    if ours.dtype.kind not in "iuf":
        return f"{ours.tolist()} and {theirs.tolist()}"
    return f"at most {np.nanmax(np.abs(ours.astype(float) - theirs.astype(float))):.3g} apart"


if __name__ == "__main__":
    main()
