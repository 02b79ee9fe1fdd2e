"""Pruning: units made constant or inactive by hand are taken out again, and nothing else changes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from making import make_checkpoint, random_sentences
from numpy.typing import NDArray

from hvae_mnn.compiler.estimate import estimate_build
from hvae_mnn.compiler.pipeline import compile_model
from hvae_mnn.errors import CheckpointError
from hvae_mnn.hardware.files import load_hardware
from hvae_mnn.model.checkpoint import Checkpoint
from hvae_mnn.model.evaluation.pruned_units import (
    Activity,
    Kept,
    check_prunable,
    choose_units,
    hidden_activity,
    latent_moments,
    prune_units,
)
from hvae_mnn.model.network.vae import TextVae, pad_batch

pytestmark = pytest.mark.usefixtures("one_thread")

SENTENCES = random_sentences(30, seed=2, vocabulary_size=9)
EVERY = ("encoder1", "encoder2", "decoder")
GATES = {"lstm": 4, "gru": 3, "rnn": 1}
Weights = dict[str, NDArray[np.float32]]


def prune(checkpoint: Checkpoint, threshold: float = 0.01, hidden: float = 1e-9) -> Checkpoint:
    model = checkpoint.build_model()
    activity = hidden_activity(model, SENTENCES, seed=0)
    mean, variance = latent_moments(model, SENTENCES)
    return prune_units(checkpoint, choose_units(checkpoint, variance, activity, threshold, hidden), activity, mean)


def widened(checkpoint: Checkpoint, layer: str, constant: float, read: float) -> Checkpoint:
    """Put a unit of constant output behind a layer's own, which what follows reads with weights of `read`.

    An encoder's unit of lstm, gru or rnn is held at `constant` from the first step on by gates that are wide open or
    shut; no unit of its layer reads it, and it reads nothing.
    """
    weights, config = dict(checkpoint.weights), checkpoint.config
    cell = dict(zip(EVERY, (*config.encoder, config.decoder), strict=True))[layer]
    hidden, gates = config.hidden_sizes[EVERY.index(layer)], GATES[cell]
    target = np.arctanh(constant)
    bias = {"lstm": (30, -30, np.arctanh(target), 30), "gru": (0, -30, target), "rnn": (target,)}[cell]

    def add_rows(value: NDArray[np.float32], rows: NDArray[np.float32]) -> NDArray[np.float32]:
        parts = value.reshape(gates, hidden, *value.shape[1:])
        return np.concatenate([parts, rows[:, None]], axis=1).reshape(gates * (hidden + 1), *value.shape[1:])

    for part in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
        value = weights[f"{layer}.{part}"]
        new = np.zeros((gates, *value.shape[1:]), np.float32)
        if part == "bias_ih_l0":
            new = np.array(bias, np.float32)
        weights[f"{layer}.{part}"] = add_rows(value, new)
    own = weights[f"{layer}.weight_hh_l0"]
    weights[f"{layer}.weight_hh_l0"] = np.concatenate([own, np.zeros((len(own), 1), np.float32)], axis=1)
    readers = {"encoder1": ("encoder2.weight_ih_l0",), "encoder2": ("mu.weight", "logvar.weight")}
    for name in readers.get(layer, ("output.weight",)):
        column = np.full((len(weights[name]), 1), read, np.float32) * np.linspace(-1, 1, len(weights[name]))[:, None]
        weights[name] = np.concatenate([weights[name], column.astype(np.float32)], axis=1)
    if layer == "decoder":
        weights["initial.weight"] = np.concatenate([weights["initial.weight"], np.zeros((1, config.latent))]).astype(
            np.float32
        )
    sizes = [size + (name == layer) for name, size in zip(EVERY, config.hidden_sizes, strict=True)]
    return replace(checkpoint, config=replace(config, hidden=tuple(sizes)), weights=weights)


@torch.no_grad()
def outputs(model: TextVae) -> list[torch.Tensor]:
    """Posteriors and word scores at the posteriors' means."""
    tokens = pad_batch(SENTENCES)
    model = model.double()
    mu, logvar = model.encode(tokens)
    z = mu[:, -1:].expand(-1, tokens.shape[1] - 1, -1)
    return [mu, logvar, model.output(model.decode(tokens[:, :-1], z))]


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("layer", EVERY)
def test_a_constant_unit_leaves_and_every_output_stays(cell: str, layer: str) -> None:
    checkpoint = make_checkpoint(cells=(cell, cell), decoder=cell)
    wide = widened(checkpoint, layer, constant=0.4, read=0.8)

    found = prune(wide, threshold=0)

    assert found.config == checkpoint.config
    for name, value in found.weights.items():
        if "bias" not in name:
            np.testing.assert_array_equal(value, checkpoint.weights[name])
    got, wanted, narrow = (outputs(each.build_model()) for each in (found, wide, checkpoint))
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-6)
    assert max(float((one - other).abs().max()) for one, other in zip(narrow, wanted, strict=True)) > 0.01  # folded


def test_a_unit_of_zero_that_its_own_layer_reads_leaves() -> None:
    wide = widened(make_checkpoint(), "encoder2", constant=0.0, read=1.0)
    weights = dict(wide.weights)
    weights["encoder2.weight_hh_l0"] = weights["encoder2.weight_hh_l0"].copy()
    weights["encoder2.weight_hh_l0"][:, -1] = 2.0
    found = prune(replace(wide, weights=weights), threshold=0)

    assert found.config == make_checkpoint().config
    for name, value in found.weights.items():
        np.testing.assert_allclose(value, make_checkpoint().weights[name], atol=1e-12)


def test_a_constant_unit_that_its_own_layer_reads_stays_as_the_first_state_is_another() -> None:
    wide = widened(make_checkpoint(), "encoder2", constant=0.4, read=1.0)
    weights = dict(wide.weights)
    weights["encoder2.weight_hh_l0"] = weights["encoder2.weight_hh_l0"].copy()
    weights["encoder2.weight_hh_l0"][0, -1] = 2.0

    assert prune(replace(wide, weights=weights), threshold=0).config == wide.config


def test_peepholes_are_cut_with_their_units() -> None:
    checkpoint = make_checkpoint(peepholes=True)
    activity = hidden_activity(checkpoint.build_model(), SENTENCES, seed=0)
    every = np.arange(6)
    kept = Kept(np.arange(4), {"encoder1": every, "encoder2": every[1:], "decoder": every})
    found = prune_units(checkpoint, kept, activity, np.zeros(4))

    np.testing.assert_array_equal(found.weights["encoder2.peephole"], checkpoint.weights["encoder2.peephole"][:, 1:])
    assert found.config.hidden_sizes == (6, 5, 6)


def test_latent_units_that_hold_their_mean_leave_and_every_output_stays() -> None:
    """Units 1 and 3 of four are the prior's mean in every sentence."""
    checkpoint, dead = make_checkpoint(), [1, 3]
    weights = {name: value.copy() for name, value in checkpoint.weights.items()}
    for name in ("mu.weight", "mu.bias", "logvar.weight"):
        weights[name][dead] = 0
    weights["logvar.bias"][dead] = -80
    wide = replace(checkpoint, weights=weights)

    found = prune(wide)

    assert found.config.latent == 2
    np.testing.assert_array_equal(found.weights["initial.weight"], weights["initial.weight"][:, [0, 2]])
    mu, logvar, scores = outputs(found.build_model())
    wide_mu, wide_logvar, wide_scores = outputs(wide.build_model())
    torch.testing.assert_close(mu, wide_mu[:, :, [0, 2]])
    torch.testing.assert_close(logvar, wide_logvar[:, :, [0, 2]])
    torch.testing.assert_close(scores, wide_scores, atol=1e-6, rtol=1e-6)


def holding(checkpoint: Checkpoint, units: list[int], value: float) -> dict[str, NDArray[np.float32]]:
    """Return the weights with some units of z the same number in every sentence."""
    weights = {name: array.copy() for name, array in checkpoint.weights.items()}
    weights["mu.weight"][units] = weights["logvar.weight"][units] = 0
    weights["mu.bias"][units], weights["logvar.bias"][units] = value, -80
    return weights


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("latent_mode", ["last", "per-step"])
def test_latent_units_that_hold_another_mean_are_folded_into_the_decoder_s_gates(cell: str, latent_mode: str) -> None:
    """Every output stays, where the first state does not read them; where it does, what it read is all that changes."""
    checkpoint = make_checkpoint(decoder=cell, latent_mode=latent_mode)
    weights = holding(checkpoint, [1, 3], 0.9)
    deaf = dict(weights) | {"initial.weight": weights["initial.weight"] * np.float32([1, 0, 1, 0])}

    for heard in (weights, deaf):
        found = prune(replace(checkpoint, weights=heard))
        assert found.config.latent == 2
        scores = outputs(found.build_model())[2]
        wanted = outputs(replace(checkpoint, weights=deaf).build_model())[2]
        torch.testing.assert_close(scores, wanted, atol=1e-6, rtol=1e-6)
    whole = outputs(replace(checkpoint, weights=weights).build_model())[2]
    nothing = {"decoder.weight_ih_l0": weights["decoder.weight_ih_l0"].copy()}
    nothing["decoder.weight_ih_l0"][:, [11, 13]] = 0  # as if the units were 0
    zeroed = outputs(replace(checkpoint, weights=deaf | nothing).build_model())[2]
    assert float((scores - whole).abs().mean()) < float((zeroed - whole).abs().mean())  # and nearer than with 0


def test_a_unit_that_goes_is_one_mean_to_what_follows_and_another_to_its_own_layer() -> None:
    checkpoint = make_checkpoint()
    rng = np.random.default_rng(0)
    activity = {layer: Activity(*rng.normal(size=(4, 6))) for layer in EVERY}
    every, rest = np.arange(6), np.array([0, 1, 3, 4, 5])
    readers = {"encoder1": ("encoder2.weight_ih_l0", "encoder2.bias_ih_l0"), "encoder2": ("mu.weight", "mu.bias")}
    readers["decoder"] = ("output.weight", "output.bias")
    for layer in EVERY:
        kept = Kept(np.arange(4), {name: rest if name == layer else every for name in EVERY})
        weights = prune_units(checkpoint, kept, activity, np.zeros(4)).weights
        own, rows = checkpoint.weights[f"{layer}.weight_hh_l0"][:, 2], np.concatenate([rest + 6 * g for g in range(4)])
        bias = checkpoint.weights[f"{layer}.bias_hh_l0"] + own * activity[layer].own_mean[2]
        np.testing.assert_allclose(weights[f"{layer}.bias_hh_l0"], bias[rows], rtol=1e-5, atol=1e-6)
        weight, name = readers[layer]
        bias = checkpoint.weights[name] + checkpoint.weights[weight][:, 2] * activity[layer].mean[2]
        np.testing.assert_allclose(weights[name], bias, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("latent_mode", ["last", "per-step"])
def test_variances_are_numpys_over_the_states_that_are_read(latent_mode: str) -> None:
    checkpoint = make_checkpoint(latent_mode=latent_mode)
    model = checkpoint.build_model()
    ends: list[NDArray[np.float64]] = []
    befores: list[NDArray[np.float64]] = []
    means: list[NDArray[np.float64]] = []
    with torch.no_grad():
        for ids in SENTENCES:
            tokens = pad_batch([ids])
            upper = model.encoder2(model.encoder1(model.encoder_embedding(tokens))[0])[0][0]
            ends += [upper[-1:].numpy()] if latent_mode == "last" else [upper.numpy()]
            befores += [np.concatenate([np.zeros((1, 6)), upper[:-1].numpy()])]
            mu = model.mu(upper).numpy()
            means += [mu[-1:]] if latent_mode == "last" else [mu[:-1]]

    found = hidden_activity(model, SENTENCES, seed=0)["encoder2"]

    np.testing.assert_allclose(found.mean, np.concatenate(ends).mean(0), rtol=1e-5)
    np.testing.assert_allclose(found.variance, np.concatenate(ends).var(0), rtol=1e-4)
    np.testing.assert_allclose(found.own_mean, np.concatenate(befores).mean(0), rtol=1e-5)
    np.testing.assert_allclose(found.own_variance, np.concatenate(befores).var(0), rtol=1e-4)
    mean, variance = latent_moments(model, SENTENCES)
    np.testing.assert_allclose(mean, np.concatenate(means).mean(0), rtol=1e-4)
    np.testing.assert_allclose(variance, np.concatenate(means).var(0, ddof=1), rtol=1e-5)


def test_at_least_one_unit_of_each_kind_stays() -> None:
    found = prune(make_checkpoint(), threshold=1e9, hidden=1e9)

    assert (found.config.latent, found.config.hidden_sizes) == (1, (1, 1, 1))
    found.build_model()


def test_weights_that_pruning_does_not_know_are_refused() -> None:
    checkpoint = make_checkpoint()
    odd = object.__new__(Checkpoint)
    for name in Checkpoint.__dataclass_fields__:
        object.__setattr__(odd, name, getattr(checkpoint, name))
    object.__setattr__(odd, "weights", {**checkpoint.weights, "flow.weight": np.zeros(3, np.float32)})

    with pytest.raises(CheckpointError, match=r"does not know \(flow.weight\)"):
        prune_units(odd, Kept(np.arange(4), {}), {}, np.zeros(4))
    fewer = {name: value for name, value in checkpoint.weights.items() if not name.startswith("encoder2")}
    object.__setattr__(odd, "weights", fewer)
    with pytest.raises(CheckpointError, match=r"lacks encoder2.bias_hh_l0; expected two encoder layers"):
        check_prunable(odd)


@pytest.mark.parametrize(
    "overrides", [(), ("array.scheme=differential",), ("array.tile_rows=7", "array.tile_columns=5")]
)
def test_the_counts_are_those_of_the_build(overrides: tuple[str, ...]) -> None:
    hardware = load_hardware("default", overrides)
    build = compile_model(make_checkpoint(cells=("gru", "lstm")), hardware, "default")
    found = estimate_build(build.checkpoint, hardware)

    assert found.adcs == sum(tile.plan.columns for tile in build.tiles.values())
    assert found.columns == sum(len(layer.gates) * layer.hidden for layer in build.manifest.layers)
