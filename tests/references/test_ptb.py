"""The shipped PTB model on the test split: `ideal` crossbars say what the model says, word for word.

Set HVAE_MNN_PTB to a folder in PTB's layout (`ptb.train.txt`, `ptb.valid.txt`, `ptb.test.txt`).
"""

import os

import numpy as np
import pytest

from hvae_mnn.compiler.build import save_build
from hvae_mnn.compiler.pipeline import compile_model
from hvae_mnn.compiler.shipped import open_model
from hvae_mnn.engines.nodal import NodalEngine
from hvae_mnn.engines.spice.engine import SpiceEngine
from hvae_mnn.hardware.files import load_hardware
from hvae_mnn.model.text.corpus import load_corpus
from hvae_mnn.simulation.orchestrator import Simulation
from hvae_mnn.simulation.sentence import draw_noise

FOLDER = os.environ.get("HVAE_MNN_PTB")
pytestmark = pytest.mark.skipif(FOLDER is None, reason="set HVAE_MNN_PTB to a folder in PTB's layout")

SENTENCES, IN_SPICE = 50, 3


@pytest.fixture(scope="module")
def build():
    return compile_model(open_model("ptb"), load_hardware("ideal"), "ideal")


@pytest.fixture(scope="module")
def sentences(build):
    """Sentences drawn from the test split, a fixed choice."""
    config = build.checkpoint.config
    test = load_corpus(FOLDER, vocabulary=build.checkpoint.vocabulary).test
    fitting = [ids for ids in test if 0 < len(ids) <= config.max_length]
    places = np.random.default_rng(0).choice(len(fitting), SENTENCES, replace=False)
    return [fitting[place] for place in sorted(places)]


def test_nodal_tokens_are_the_model_s(build, sentences):
    said = _check(build, NodalEngine(build), sentences)
    assert len(set(said)) > SENTENCES / 5


@pytest.mark.ngspice
def test_spice_tokens_are_the_model_s(build, sentences, tmp_path):
    shortest = sorted(sentences, key=len)[:IN_SPICE]
    with SpiceEngine(save_build(build, tmp_path / "build")) as spice:
        _check(build, spice, shortest)


def _check(build, engine, sentences):
    noises = [draw_noise(build, ids, seed) for seed, ids in enumerate(sentences)]
    found = Simulation(build, engine).run(sentences, noises)
    model = build.checkpoint.build_model().double()
    for ids, noise, outcome in zip(sentences, noises, found, strict=True):
        assert outcome.tokens == model.reconstruct(ids, noise).tokens, build.checkpoint.vocabulary.decode(ids)
    return [outcome.tokens for outcome in found]
