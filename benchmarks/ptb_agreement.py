"""How often does the circuit say what the software model says, on sentences of PTB's test split?

For presets `ideal` and `default`: the same sentences with the same noise through the nodal
engine and the PyTorch model (float64), and the shortest few of them through the spice engine.
Agreement is that of `hvae-mnn simulate`: equal words at equal places, over the longer of the
two sentences.

    python benchmarks/ptb_agreement.py CORPUS_FOLDER [--model ptb] [--sentences 50] [--spice 3]

CORPUS_FOLDER is in PTB's layout: files ending in train.txt, valid.txt and test.txt.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.build import Build, save_build
from hvae_mnn.compiler.pipeline import compile_model
from hvae_mnn.engines.base import Engine
from hvae_mnn.engines.nodal import NodalEngine
from hvae_mnn.engines.spice import SpiceEngine
from hvae_mnn.hardware_files import load_hardware
from hvae_mnn.model.checkpoint import Checkpoint
from hvae_mnn.model.corpus import load_corpus
from hvae_mnn.shipped import open_model
from hvae_mnn.simulate import Simulation, draw_noise

Ids = tuple[int, ...]
Noises = list[NDArray[np.float64]]


def main() -> None:
    options = parse_options()
    checkpoint = open_model(options.model)
    sentences = draw_sentences(checkpoint, options.corpus, options.sentences)
    in_spice = sorted(sentences, key=len)[: options.spice]
    print("| preset | engine | sentences | all words equal | mean agreement | seconds |\n|---|---|---|---|---|---|")
    for preset in ("ideal", "default"):
        build = compile_model(checkpoint, load_hardware(preset), preset)
        print_row(build, NodalEngine(build), sentences)
        if in_spice:
            with tempfile.TemporaryDirectory() as folder:
                saved = save_build(build, Path(folder, "build"))
                with SpiceEngine(saved) as spice:
                    print_row(saved, spice, in_spice)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare circuit and software on PTB's test split.")
    parser.add_argument("corpus", metavar="CORPUS_FOLDER", type=Path)
    parser.add_argument("--model", default="ptb", help="a shipped model or a file")
    parser.add_argument("--sentences", type=int, default=50)
    parser.add_argument("--spice", type=int, default=3, help="how many of them, the shortest, go through spice too")
    return parser.parse_args()


def draw_sentences(checkpoint: Checkpoint, corpus: Path, count: int) -> list[Ids]:
    """Draw sentences of the test split that the model can read, a fixed choice."""
    test = load_corpus(corpus, vocabulary=checkpoint.vocabulary).test
    fitting = [ids for ids in test if 0 < len(ids) <= checkpoint.config.max_length]
    places = np.random.default_rng(0).choice(len(fitting), min(count, len(fitting)), replace=False)
    return [fitting[place] for place in sorted(places)]


def print_row(build: Build, engine: Engine, sentences: list[Ids]) -> None:
    noises = [draw_noise(build, ids, seed) for seed, ids in enumerate(sentences)]
    began = time.perf_counter()
    hardware = [outcome.tokens for outcome in Simulation(build, engine).run(sentences, noises)]
    seconds = time.perf_counter() - began
    model = build.checkpoint.build_model().double()
    software = [model.reconstruct(ids, noise).tokens for ids, noise in zip(sentences, noises, strict=True)]
    pairs = list(zip(hardware, software, strict=True))
    equal = sum(a == b for a, b in pairs)
    agreement = np.mean([words_in_place(a, b) for a, b in pairs])
    name, preset = engine.info.name, build.manifest.hardware_name
    row = f"| {preset} | {name} | {len(pairs)} | {equal} | {agreement:.1%} | {seconds:.1f} |"
    print(row, flush=True)


def words_in_place(a: Sequence[int], b: Sequence[int]) -> float:
    """Return the share of equal words at equal places, over the longer sentence."""
    longer = max(len(a), len(b))
    return sum(one == other for one, other in zip(a, b, strict=False)) / longer if longer else 1.0


if __name__ == "__main__":
    main()
