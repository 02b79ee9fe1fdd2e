"""How often does the circuit say what the software model says, on sentences of PTB's test split?

For presets `ideal` and `default`: the same sentences with the same noise through the nodal engine and the PyTorch
model (float64), and the shortest few of them through the spice engine. With `--bits`: the same for a number of bits
of DAC and ADC and ways of input, and how many of spice's codes are nodal's. Agreement is that of `hvae-mnn simulate`:
equal words at equal places, over the longer of the two sentences.

    python benchmarks/ptb_agreement.py CORPUS_FOLDER [--model ptb] [--sentences 100] [--spice 3]
    python benchmarks/ptb_agreement.py CORPUS_FOLDER --bits 4,5,6,8,10 [--encodings amplitude,pulse-width,bit-serial]

CORPUS_FOLDER is in PTB's layout: files ending in train.txt, valid.txt and test.txt.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.compiler.build import Build, save_build
from hvae_mnn.compiler.pipeline import compile_model
from hvae_mnn.compiler.shipped import open_model
from hvae_mnn.engines.base import Engine
from hvae_mnn.engines.nodal import NodalEngine
from hvae_mnn.engines.spice.engine import SpiceEngine
from hvae_mnn.hardware.files import load_hardware
from hvae_mnn.model.checkpoint import Checkpoint
from hvae_mnn.model.text.corpus import load_corpus
from hvae_mnn.simulation.orchestrator import Simulation
from hvae_mnn.simulation.run import LayerTrace, share_equal
from hvae_mnn.simulation.sentence import draw_noise

Ids = tuple[int, ...]
Words = tuple[str, ...]
Array = NDArray[np.float64]

PRESETS = {"amplitude": "default", "pulse-width": "pulse-width", "bit-serial": "bit-serial"}


def main() -> None:
    options = parse_options()
    checkpoint = open_model(options.model)
    sentences = draw_sentences(checkpoint, options.corpus, options.sentences)
    in_spice = sorted(sentences, key=len)[: options.spice]
    if options.bits:
        print_bits(checkpoint, options, sentences)
        if in_spice:
            print_codes(checkpoint, options, in_spice)
    else:
        print_presets(checkpoint, sentences, in_spice)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare circuit and software on PTB's test split.")
    parser.add_argument("corpus", metavar="CORPUS_FOLDER", type=Path)
    parser.add_argument("--model", default="ptb", help="a shipped model or a file")
    parser.add_argument("--sentences", type=int, default=100)
    parser.add_argument("--spice", type=int, default=3, help="how many of them, the shortest, go through spice too")
    parser.add_argument("--bits", type=numbers, default=[], help="tables over these bits of DAC and ADC: 4,5,6,8,10")
    parser.add_argument("--encodings", type=encodings, default=list(PRESETS), help=f"some of {','.join(PRESETS)}")
    parser.add_argument(
        "--pulse-width-bits", type=numbers, default=[8], help="those at which pulse-width, slow, goes through spice"
    )
    return parser.parse_args()


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part]


def encodings(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - set(PRESETS):
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: expected some of {', '.join(PRESETS)}")
    return names


def draw_sentences(checkpoint: Checkpoint, corpus: Path, count: int) -> list[Ids]:
    """Draw sentences of the test split that the model can read, a fixed choice."""
    test = load_corpus(corpus, vocabulary=checkpoint.vocabulary).test
    fitting = [ids for ids in test if 0 < len(ids) <= checkpoint.config.max_length]
    places = np.random.default_rng(0).choice(len(fitting), min(count, len(fitting)), replace=False)
    return [fitting[place] for place in sorted(places)]


def print_presets(checkpoint: Checkpoint, sentences: list[Ids], in_spice: list[Ids]) -> None:
    print("| preset | engine | sentences | all words equal | mean agreement | seconds |\n|---|---|---|---|---|---|")
    for preset in ("ideal", "default"):
        build = compile_model(checkpoint, load_hardware(preset), preset)
        print_preset(build, NodalEngine(build), sentences)
        if in_spice:
            with tempfile.TemporaryDirectory() as folder:
                saved = save_build(build, Path(folder, "build"))
                with SpiceEngine(saved) as spice:
                    print_preset(saved, spice, in_spice)


def print_preset(build: Build, engine: Engine, sentences: list[Ids]) -> None:
    began = time.perf_counter()
    _, hardware = simulate(build, engine, sentences)
    seconds = time.perf_counter() - began
    software = reconstruct(build, sentences)
    equal = sum(said == meant for said, meant in zip(hardware, software, strict=True))
    agreement = np.mean(agreements(hardware, software))
    name, preset = engine.info.name, build.manifest.hardware_name
    print(f"| {preset} | {name} | {len(sentences)} | {equal} | {agreement:.1%} | {seconds:.1f} |", flush=True)


def print_bits(checkpoint: Checkpoint, options: argparse.Namespace, sentences: list[Ids]) -> None:
    """Print the mean agreement of the nodal engine and its standard error, a row a number of bits."""
    print(f"Mean agreement, nodal, {len(sentences)} sentences, with its standard error:\n")
    print(f"| bits | {' | '.join(options.encodings)} |\n|---|{'---|' * len(options.encodings)}")
    software: list[Words] = []
    for bits in options.bits:
        cells = []
        for encoding in options.encodings:
            build = compile_bits(checkpoint, encoding, bits)
            software = software or reconstruct(build, sentences)
            found = agreements(simulate(build, NodalEngine(build), sentences)[1], software)
            error = found.std(ddof=1) / np.sqrt(len(found))
            cells.append(f"{found.mean():.1%} ± {100 * error:.1f}")
        print(f"| {bits} | {' | '.join(cells)} |", flush=True)


def print_codes(checkpoint: Checkpoint, options: argparse.Namespace, sentences: list[Ids]) -> None:
    """Print how spice's codes and tokens differ from nodal's, both engines driven with spice's inputs."""
    print(f"\nSpice against nodal with the same inputs, the {len(sentences)} shortest sentences:\n")
    print("| encoding | bits | codes | equal | largest difference, LSB | same words | seconds |")
    print("|---|---|---|---|---|---|---|")
    for encoding in options.encodings:
        for bits in options.bits:
            if encoding == "pulse-width" and bits not in options.pulse_width_bits:
                continue
            build = compile_bits(checkpoint, encoding, bits)
            nodal = NodalEngine(build)
            with tempfile.TemporaryDirectory() as folder:
                saved = save_build(build, Path(folder, "build"))
                began = time.perf_counter()
                with SpiceEngine(saved) as spice:
                    traces, said = simulate(saved, spice, sentences)
                seconds = time.perf_counter() - began
            differences = np.abs(np.concatenate([code_differences(nodal, trace) for trace in traces]))
            equal = np.mean(differences < 1e-6)  # bit-serial codes are sums of shifted ones, in floating point
            same = sum(a == b for a, b in zip(said, simulate(build, nodal, sentences)[1], strict=True))
            row = f"| {encoding} | {bits} | {len(differences)} | {equal:.3%} | {differences.max():.2g} "
            print(f"{row}| {same} of {len(sentences)} | {seconds:.0f} |", flush=True)


def code_differences(nodal: NodalEngine, trace: LayerTrace) -> Array:
    """Return spice's codes less nodal's for the inputs of each step, LSB, so that no difference spreads."""
    found = [nodal.step({trace.name: nodal.dac.encode(inputs)})[trace.name].codes for inputs in trace.inputs]
    return (np.concatenate(trace.codes) - np.concatenate(found)).ravel()


def compile_bits(checkpoint: Checkpoint, encoding: str, bits: int) -> Build:
    preset = PRESETS[encoding]
    hardware = load_hardware(preset, [f"dac.bits={bits}", f"adc.bits={bits}"])
    return compile_model(checkpoint, hardware, preset)


def simulate(build: Build, engine: Engine, sentences: list[Ids]) -> tuple[list[LayerTrace], list[Words]]:
    """Return what an engine read and said; the noise of each sentence is of its place's seed."""
    simulation = Simulation(build, engine)
    outcomes = simulation.run(sentences, [draw_noise(build, ids, seed) for seed, ids in enumerate(sentences)])
    said = [build.checkpoint.vocabulary.tokens(outcome.tokens) for outcome in outcomes]
    return list(simulation.traces.values()), said


def reconstruct(build: Build, sentences: list[Ids]) -> list[Words]:
    """Return what the PyTorch model says with the same noise."""
    model = build.checkpoint.build_model().double()
    found = [model.reconstruct(ids, draw_noise(build, ids, seed)) for seed, ids in enumerate(sentences)]
    return [build.checkpoint.vocabulary.tokens(outcome.tokens) for outcome in found]


def agreements(hardware: list[Words], software: list[Words]) -> Array:
    return np.array([share_equal(said, meant) for said, meant in zip(hardware, software, strict=True)])


if __name__ == "__main__":
    main()
