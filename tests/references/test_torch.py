"""The orchestrator's digital half and the software engine against torch's own cells, in float64."""

import numpy as np
import pytest
import torch
from making import make_build, make_checkpoint, random_sentences

from hvae_mnn.compiler.build import Build
from hvae_mnn.compiler.pipeline import compile_model
from hvae_mnn.compiler.shipped import open_model
from hvae_mnn.digital.gates import CellState, next_state
from hvae_mnn.engines.nodal import NodalEngine
from hvae_mnn.engines.software import SoftwareEngine
from hvae_mnn.hardware.files import load_hardware
from hvae_mnn.model.text.corpus import EOS, SOS, load_corpus
from hvae_mnn.simulation.orchestrator import Simulation
from hvae_mnn.simulation.sentence import draw_noise

TORCH_CELLS = {"lstm": torch.nn.LSTMCell, "gru": torch.nn.GRUCell, "rnn": torch.nn.RNNCell}
NINE = [(first, second) for first in TORCH_CELLS for second in TORCH_CELLS]
SMALL_TILES = ("array.tile_rows=8", "array.tile_columns=4")
PLAIN_SENTENCES = (
    "the company said it will sell its shares next year",
    "prices rose",
    "he did n't know what the bank would do",
    "many people in new york think that interest rates are too high",
    "a spokesman declined to comment",
    "sales of cars fell sharply in the third quarter",
)


@pytest.mark.parametrize("cell", TORCH_CELLS)
@pytest.mark.parametrize("name", ["encoder1", "encoder2", "decoder"])
@torch.no_grad()
def test_a_step_is_torch_s_cell(cell, name):
    build = make_build(None, "ideal", SMALL_TILES, cells=(cell, cell), decoder=cell)
    torch_cell = _torch_cell(build, name, cell)
    layer, engine, rng = build.layer(name), SoftwareEngine(build), np.random.default_rng(1)
    values = {group.name: rng.uniform(-1.5, 1.5, (5, group.size)) for group in layer.groups}
    c = rng.uniform(-1, 1, (5, layer.hidden))
    state = CellState(values["h"], c if cell == "lstm" else values["h"])
    sums = layer.gate_sums(engine.step({name: layer.fractions(values)})[name].codes)

    found = next_state(cell, sums, state)

    given = np.concatenate([values["x"], values["z"]], axis=1) if name == "decoder" else values["x"]
    old = tuple(map(torch.from_numpy, (state.h, state.c)))
    expected = torch_cell(torch.from_numpy(given), old if cell == "lstm" else old[0])
    expected = expected if cell == "lstm" else (expected,)
    np.testing.assert_allclose(found.h, expected[0].numpy(), rtol=0, atol=1e-12)
    if cell == "lstm":
        np.testing.assert_allclose(found.c, expected[1].numpy(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("latent_mode", ["last", "per-step"])
@pytest.mark.parametrize("cells", NINE, ids="-".join)
@torch.no_grad()
def test_the_posterior_is_that_of_torch_s_cells(cells, latent_mode):
    build = make_build(None, "ideal", cells=cells, decoder="gru", latent_mode=latent_mode)
    sentence = (4, 8, 8, 6, 5)
    noise = draw_noise(build, sentence, seed=2)

    found = Simulation(build, SoftwareEngine(build)).run([sentence], [noise])[0]

    weights = {name: torch.from_numpy(value).double() for name, value in build.checkpoint.weights.items()}
    hidden = [weights["encoder_embedding.weight"][place][None] for place in (SOS, *sentence, EOS)]
    for name, cell in zip(("encoder1", "encoder2"), cells, strict=True):
        hidden = _run_cell(_torch_cell(build, name, cell), cell, hidden)
    source = torch.cat(hidden) if latent_mode == "per-step" else hidden[-1][0]
    mu = source @ weights["mu.weight"].T + weights["mu.bias"]
    logvar = source @ weights["logvar.weight"].T + weights["logvar.bias"]
    np.testing.assert_allclose(found.mu, mu.numpy(), rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.logvar, logvar.numpy(), rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.z, mu.numpy() + np.exp(logvar.numpy() / 2) * noise, rtol=0, atol=1e-9)


@pytest.mark.parametrize("latent_mode", ["last", "per-step"])
@pytest.mark.parametrize("hidden", [6, (12, 9, 7)], ids=["even", "uneven"])
@pytest.mark.parametrize("decoder", TORCH_CELLS)
@pytest.mark.parametrize(
    "cells", [("lstm", "gru"), ("gru", "rnn"), ("rnn", "lstm"), ("gru", "gru"), ("rnn", "rnn")], ids="-".join
)
def test_a_batch_of_sentences_says_what_the_model_says(cells, decoder, hidden, latent_mode):
    """Software and `ideal` nodal, sentences of all lengths at once, against the model one by one."""
    wiring = {"cells": cells, "decoder": decoder, "hidden": hidden, "latent_mode": latent_mode}
    build = make_build(None, "ideal", SMALL_TILES, **wiring)
    sentences = random_sentences(7, seed=1, vocabulary_size=len(build.checkpoint.vocabulary))
    for engine in (SoftwareEngine(build), NodalEngine(build)):
        _check_sentences(build, engine, sentences)


@pytest.mark.parametrize("latent_mode", ["last", "per-step"])
@pytest.mark.parametrize("hidden", [6, (12, 9, 7)], ids=["even", "uneven"])
@pytest.mark.parametrize(("cells", "decoder"), [(("lstm", "lstm"), "lstm"), (("lstm", "gru"), "rnn")])
def test_peepholes_say_what_the_model_says(cells, decoder, hidden, latent_mode):
    wiring = {"cells": cells, "decoder": decoder, "hidden": hidden, "latent_mode": latent_mode}
    outcomes = []
    for peepholes in (True, False):
        build = make_build(None, "ideal", SMALL_TILES, **wiring, peepholes=peepholes)
        sentences = random_sentences(7, seed=1, vocabulary_size=len(build.checkpoint.vocabulary))
        for engine in (SoftwareEngine(build), NodalEngine(build)):
            _check_sentences(build, engine, sentences)
        outcomes.append(Simulation(build, engine).run(sentences[:1], [draw_noise(build, sentences[0], 0)])[0])
    assert np.abs(outcomes[0].mu - outcomes[1].mu).max() > 1e-2  # peepholes show


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_several_random_models_say_the_same_on_ideal_crossbars(seed):
    build = make_build(None, "ideal", SMALL_TILES, seed=seed, embedding=7, hidden=9, latent=3)
    said = _check_sentences(build, NodalEngine(build), random_sentences(6, seed, len(build.checkpoint.vocabulary)))
    assert any(said)


def test_random_models_say_different_things():
    """The comparisons above would be empty if every sentence came out the same."""
    said = set()
    for seed in (1, 2, 3, 4):
        model = make_checkpoint(seed=seed, embedding=7, hidden=9, latent=3).build_model().double()
        said |= {model.reconstruct(ids, np.zeros(3)).tokens for ids in random_sentences(6, seed, 9)}
    assert len(said) > 3


def test_the_shipped_grammar_model_says_the_same_on_ideal_crossbars():
    checkpoint = open_model("grammar")
    build = compile_model(checkpoint, load_hardware("ideal"), "ideal")
    sentences = load_corpus("grammar", vocabulary=checkpoint.vocabulary).test[:12]
    said = _check_sentences(build, NodalEngine(build), list(sentences))
    assert len(set(said)) > 6


def test_the_shipped_ptb_model_says_the_same_on_ideal_crossbars():
    """Sentences written for this test: the Penn Treebank's own are read by test_ptb.py, where it is at hand."""
    checkpoint = open_model("ptb")
    build = compile_model(checkpoint, load_hardware("ideal"), "ideal")
    encoded = [checkpoint.vocabulary.encode(text) for text in PLAIN_SENTENCES]
    assert [unknown for _, unknown in encoded] == [()] * len(PLAIN_SENTENCES)
    said = _check_sentences(build, NodalEngine(build), [ids for ids, _ in encoded])
    assert len(set(said)) > 3


def _check_sentences(build: Build, engine, sentences) -> list[tuple[int, ...]]:
    noises = [draw_noise(build, ids, seed) for seed, ids in enumerate(sentences)]
    found = Simulation(build, engine).run(sentences, noises)
    model = build.checkpoint.build_model().double()
    for ids, noise, outcome in zip(sentences, noises, found, strict=True):
        expected = model.reconstruct(ids, noise)
        assert outcome.tokens == expected.tokens
        np.testing.assert_allclose(outcome.mu, expected.mu, rtol=0, atol=1e-9)
        np.testing.assert_allclose(outcome.logvar, expected.logvar, rtol=0, atol=1e-9)
        np.testing.assert_allclose(outcome.z, expected.z, rtol=0, atol=1e-9)
    return [outcome.tokens for outcome in found]


def _torch_cell(build: Build, name: str, cell: str) -> torch.nn.Module:
    """Return torch's cell with a layer's weights, float64."""
    parts = {key: build.checkpoint.weights[f"{name}.{key}_l0"] for key in _STATE}
    hidden, given = parts["weight_hh"].shape[1], parts["weight_ih"].shape[1]
    module = TORCH_CELLS[cell](given, hidden).double()
    module.load_state_dict({key: torch.from_numpy(value).double() for key, value in parts.items()})
    return module


_STATE = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def _run_cell(module: torch.nn.Module, cell: str, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
    """Return a cell's h at every step, from rest."""
    state, outputs = None, []
    for x in inputs:
        state = module(x, state)
        outputs.append(state[0] if cell == "lstm" else state)
    return outputs
