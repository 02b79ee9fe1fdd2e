"""Which units of a model carry nothing, and the model without them.

A unit of z is inactive where its posterior mean hardly varies over sentences (Burda, Grosse & Salakhutdinov 2016);
a hidden unit where its output hardly varies over time steps. Shapes: `H` hidden, `L` latent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hvae_mnn.errors import CheckpointError
from hvae_mnn.model.checkpoint import Checkpoint
from hvae_mnn.model.evaluation.posteriors import encode_sentences
from hvae_mnn.model.layers import LAYERS
from hvae_mnn.model.network.vae import TextVae, pad_batch
from hvae_mnn.model.text.corpus import EOS, PAD, Sentence
from hvae_mnn.runtime.progress import Progress

Array = NDArray[np.float64]
Units = NDArray[np.intp]
Weights = dict[str, Array]

_BATCH = 64
_READERS = {"encoder1": ("encoder2",), "encoder2": ("mu", "logvar"), "decoder": ("output",)}
_PARTS = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0", "peephole")
_KNOWN = {f"{layer}.{part}" for layer in LAYERS for part in _PARTS}
_KNOWN |= {f"{name}.{part}" for name in ("mu", "logvar", "output") for part in ("weight", "bias")}
_KNOWN |= {"initial.weight", "encoder_embedding.weight", "decoder_embedding.weight"}
_NEEDED = {name for name in _KNOWN if not name.endswith(".peephole")}


@dataclass(frozen=True, slots=True)
class Activity:
    """How much a hidden layer's units vary.

    Attributes:
        mean: Mean of the outputs that what follows reads, (H,): of encoder 2 in mode `last` those at `<eos>`, else
            those of all steps.
        variance: Their variance, (H,).
        own_mean: Mean of what the layer itself reads, (H,): the state before each step, the first one among them,
            which is 0 in the encoders and W z in the decoder.
        own_variance: Its variance, (H,).
    """

    mean: Array
    variance: Array
    own_mean: Array
    own_variance: Array


@dataclass(frozen=True, slots=True)
class Kept:
    """Which units stay, by number.

    Attributes:
        latent: Of z.
        hidden: Of each layer.
    """

    latent: Units
    hidden: Mapping[str, Units]


def check_prunable(checkpoint: Checkpoint) -> None:
    """Refuse a model that is not made of two encoder layers, a decoder, and a posterior and a prior that are Gaussian.

    Raises:
        CheckpointError: As said.
    """
    checkpoint.config.check_has_latent()
    names = set(checkpoint.weights)
    odd, missing = sorted(names - _KNOWN), sorted(_NEEDED - names)
    if odd or missing:
        found = f"has weights that pruning does not know ({', '.join(odd[:3])})" if odd else f"lacks {missing[0]}"
        raise CheckpointError(
            f"the model {found}; expected two encoder layers, a decoder, and a posterior and a prior that are diagonal "
            "Gaussians. Prune another model."
        )


def latent_moments(model: TextVae, sentences: Sequence[Sentence]) -> tuple[Array, Array]:
    """Return mean and variance over sentences of each latent unit's posterior mean, (L,); over all driving steps."""
    means = torch.cat([posterior.driving()[0] for posterior in encode_sentences(model, sentences)]).double()
    return means.mean(0).numpy(), means.var(0).numpy()


@torch.no_grad()
def hidden_activity(
    model: TextVae, sentences: Sequence[Sentence], *, seed: int, progress: Progress | None = None
) -> dict[str, Activity]:
    """Return how much the units of each layer vary over all steps of sentences.

    Without dropout; the decoder is teacher-forced at a z sampled with `seed`.
    """
    generator = torch.Generator().manual_seed(seed)
    was_training = model.training
    model.eval()
    sums: dict[str, list[Tensor]] = {}
    ordered = sorted(sentences, key=len)
    for start in range(0, len(ordered), _BATCH):
        batch = ordered[start : start + _BATCH]
        for layer, found in _moments(model, pad_batch(batch), generator).items():
            sums[layer] = [a + b for a, b in zip(sums[layer], found, strict=True)] if layer in sums else found
        if progress is not None:
            progress("activity of hidden units", start + len(batch), len(ordered))
    model.train(was_training)
    return {layer: _activity(*(value.numpy() for value in found)) for layer, found in sums.items()}


def choose_units(
    checkpoint: Checkpoint,
    variance: Array,
    activity: Mapping[str, Activity],
    threshold: float,
    hidden_threshold: float,
) -> Kept:
    """Return the units that are active, of each kind at least the one that varies most.

    A hidden unit is inactive where what follows and, if another unit of its layer reads it, the layer itself see it
    vary by at most `hidden_threshold`.

    Args:
        checkpoint: The model.
        variance: As `latent_moments` returns it.
        activity: As `hidden_activity` returns it.
        threshold: Variance of the posterior mean from which a unit of z is active.
        hidden_threshold: Largest variance of an inactive hidden unit.
    """
    hidden = {}
    for layer, found in activity.items():
        own = checkpoint.weights[f"{layer}.weight_hh_l0"]
        varies = (found.variance > hidden_threshold) | (_is_read(own) & (found.own_variance > hidden_threshold))
        hidden[layer] = _at_least_one(varies, found.variance)
    return Kept(_at_least_one(variance > threshold, variance), hidden)


def prune_units(checkpoint: Checkpoint, kept: Kept, activity: Mapping[str, Activity], latent_mean: Array) -> Checkpoint:
    """Return a model of the units that stay, without calibration and metrics.

    A unit that goes is replaced by its means, folded into the biases of what reads it: exact for a constant unit.
    The decoder's first state, W z, has no bias: there a unit of z that goes is replaced by 0. Everything else computes
    as before.

    Args:
        checkpoint: The model.
        kept: The units that stay.
        activity: Means of the hidden units.
        latent_mean: Mean of the posterior mean of each unit of z, (L,), as `latent_moments` returns it.

    Raises:
        CheckpointError: As `check_prunable`.
    """
    check_prunable(checkpoint)
    weights = {name: value.astype(np.float64) for name, value in checkpoint.weights.items()}
    _fold_latent(weights, kept.latent, latent_mean, checkpoint.config.embedding)
    for layer in LAYERS:
        _fold_means(weights, layer, kept.hidden[layer], activity[layer])
    for layer in LAYERS:
        _cut_layer(weights, layer, kept.hidden[layer])
    _cut_latent(weights, kept.latent, checkpoint.config.embedding)
    first, second, third = (len(kept.hidden[layer]) for layer in LAYERS)
    config = replace(checkpoint.config, hidden=(first, second, third), latent=len(kept.latent))
    narrow = {name: np.ascontiguousarray(value, dtype=np.float32) for name, value in weights.items()}
    return replace(checkpoint, config=config, weights=narrow, calibration={}, ranges={}, metrics={})


def _moments(model: TextVae, tokens: Tensor, generator: torch.Generator) -> dict[str, list[Tensor]]:
    """Return of each layer how many outputs are read, their sum and sum of squares, and the same of states before."""
    lower = model.encoder1(model.encoder_embedding(tokens))[0]
    upper = model.encoder2(lower)[0]
    z, _, _ = model.driving_latents(tokens, generator)
    hidden = model.decode(tokens[:, :-1], z)
    outputs = dict(zip(LAYERS, (lower, upper, hidden), strict=True))
    firsts = dict(zip(LAYERS, (0 * lower[:, 0], 0 * upper[:, 0], model.initial(z[:, 0])), strict=True))
    true, predicted = tokens != PAD, tokens[:, 1:] != PAD
    ends = tokens == EOS if model.config.latent_mode == "last" else true
    found = {}
    for layer, values in outputs.items():
        own = predicted if layer == "decoder" else true
        before = torch.cat([firsts[layer][:, None], values[:, :-1]], dim=1)
        parts = values[ends if layer == "encoder2" else own].double(), before[own].double()
        found[layer] = [each for part in parts for each in (torch.tensor(len(part)), part.sum(0), part.square().sum(0))]
    return found


def _activity(*sums: Array) -> Activity:
    found = []
    for count, total, squares in (sums[:3], sums[3:]):
        mean = total / count
        found += [mean, np.maximum(squares / count - mean**2, 0)]
    return Activity(*found)


def _is_read(own: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Say which units another unit of the layer reads, (H,), from torch's weight_hh, (gates H, H)."""
    by_gate = own.reshape(-1, own.shape[1], own.shape[1]) != 0
    by_gate[:, np.arange(own.shape[1]), np.arange(own.shape[1])] = False
    return np.asarray(by_gate.any((0, 1)))


def _at_least_one(active: NDArray[np.bool_], variance: Array) -> Units:
    return np.flatnonzero(active) if active.any() else np.array([int(variance.argmax())])


def _fold_means(weights: Weights, layer: str, units: Units, activity: Activity) -> None:
    """Add what the units that go contribute on average to the biases of what reads them."""
    gone = np.setdiff1d(np.arange(len(activity.mean)), units)
    folds = [(f"{layer}.weight_hh_l0", f"{layer}.bias_hh_l0", activity.own_mean)]
    for reader in _READERS[layer]:
        names = ("weight_ih_l0", "bias_ih_l0") if reader in LAYERS else ("weight", "bias")
        folds.append((f"{reader}.{names[0]}", f"{reader}.{names[1]}", activity.mean))
    for weight, bias, mean in folds:
        weights[bias] = weights[bias] + weights[weight][:, gone] @ mean[gone]


def _fold_latent(weights: Weights, units: Units, mean: Array, embedding: int) -> None:
    """Add what the units of z that go contribute on average to the biases of the decoder's gates."""
    gone = np.setdiff1d(np.arange(len(mean)), units)
    columns = weights["decoder.weight_ih_l0"][:, embedding + gone]
    weights["decoder.bias_ih_l0"] = weights["decoder.bias_ih_l0"] + columns @ mean[gone]


def _cut_layer(weights: Weights, layer: str, units: Units) -> None:
    """Leave the rows of a layer's gates, and the columns of what reads it, to the units that stay."""
    own = weights[f"{layer}.weight_hh_l0"]
    gates = len(own) // own.shape[1]
    rows = np.concatenate([units + gate * own.shape[1] for gate in range(gates)])
    weights[f"{layer}.weight_hh_l0"] = own[np.ix_(rows, units)]
    for part in ("weight_ih_l0", "bias_ih_l0", "bias_hh_l0"):
        weights[f"{layer}.{part}"] = weights[f"{layer}.{part}"][rows]
    if f"{layer}.peephole" in weights:
        weights[f"{layer}.peephole"] = weights[f"{layer}.peephole"][:, units]
    for reader in _READERS[layer]:
        name = f"{reader}.weight_ih_l0" if reader in LAYERS else f"{reader}.weight"
        weights[name] = weights[name][:, units]
    if layer == "decoder":
        weights["initial.weight"] = weights["initial.weight"][units]


def _cut_latent(weights: Weights, units: Units, embedding: int) -> None:
    """Leave the heads' rows and the decoder's columns to the units of z that stay."""
    for name in ("mu.weight", "mu.bias", "logvar.weight", "logvar.bias"):
        weights[name] = weights[name][units]
    weights["initial.weight"] = weights["initial.weight"][:, units]
    columns = np.concatenate([np.arange(embedding), embedding + units])
    weights["decoder.weight_ih_l0"] = weights["decoder.weight_ih_l0"][:, columns]
