"""A trained network as plain numpy arrays: what the compiler and the orchestrator read.

Every recurrent layer is a table of gates. A gate's weight is stored (rows, columns) as a crossbar
holds it: one row an input, in the order of its groups, one column a hidden unit; a gate computes
`inputs @ weight + bias`. Groups stand in the order x (input), h (own output of the step before),
z (latent, decoder only).

    lstm  i, f, g, o        c' = f c + i g,  h' = o tanh(c')             (peepholes: in software)
    gru   r, z, n_x, n_h    n = tanh(n_x + r n_h),  h' = (1 - z) n + z h     (z: the gate)
    rnn   h                 h' = tanh(h)
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.model.config import ModelConfig

Array = NDArray[np.float64]
Weights = Mapping[str, NDArray[np.float32]]

LAYERS = ("encoder1", "encoder2", "decoder")
TORCH_GATES = {"lstm": ("i", "f", "g", "o"), "gru": ("r", "z", "n"), "rnn": ("h",)}


@dataclass(frozen=True, slots=True)
class Group:
    """A run of neighbouring rows that share a full scale.

    Attributes:
        name: `x`, `h` or `z`.
        size: Number of rows.
    """

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class GateWeights:
    """One gate of a layer.

    Attributes:
        gate: Name of the gate.
        groups: The groups it reads, in the order of its rows.
        weight: (rows, columns), columns = hidden.
        bias: (columns,).
    """

    gate: str
    groups: tuple[str, ...]
    weight: Array
    bias: Array


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """One recurrent layer.

    Attributes:
        name: `encoder1`, `encoder2` or `decoder`.
        cell: `lstm`, `gru` or `rnn`.
        hidden: Number of columns.
        groups: All inputs of the layer: x, h and, in the decoder, z.
        gates: Its gates, in the order of the table above.
    """

    name: str
    cell: str
    hidden: int
    groups: tuple[Group, ...]
    gates: tuple[GateWeights, ...]


@dataclass(frozen=True, slots=True)
class SoftwareParts:
    """What stays in software: embeddings, latent, first state, vocabulary projection.

    Attributes:
        encoder_embedding: (V, E).
        mu_weight: (L, H), H that of encoder 2; mu = mu_weight @ h + mu_bias.
        mu_bias: (L,).
        logvar_weight: (L, H).
        logvar_bias: (L,).
        initial_weight: (H, L), H that of the decoder; its first h (lstm: and c) = initial_weight @ z.
        decoder_embedding: (V, E).
        output_weight: (V, H); logits = output_weight @ h + output_bias.
        output_bias: (V,).
        peepholes: Of each layer that has them, the weights by which i, f and o see c, (3, H).
    """

    encoder_embedding: Array
    mu_weight: Array
    mu_bias: Array
    logvar_weight: Array
    logvar_bias: Array
    initial_weight: Array
    decoder_embedding: Array
    output_weight: Array
    output_bias: Array
    peepholes: Mapping[str, Array]


def layer_weights(config: ModelConfig, weights: Weights) -> tuple[LayerWeights, ...]:
    """Return encoder 1, encoder 2 and decoder as gate tables, float64.

    Raises:
        CheckpointError: Crossbars are not compiled for such a model; see `ModelConfig.check_circuit`.
    """
    config.check_circuit()
    cells = (*config.encoder, config.decoder)
    layers = []
    for name, cell, groups in zip(LAYERS, cells, layer_groups(config).values(), strict=True):
        gates = _gates(name, cell, groups, weights)
        layers.append(LayerWeights(name, cell, groups[1].size, groups, gates))
    return tuple(layers)


def layer_groups(config: ModelConfig) -> dict[str, tuple[Group, ...]]:
    """Return what each layer reads, in order: x, h (as wide as the layer) and, in the decoder, z."""
    first, second, decoder = config.hidden_sizes
    return {
        "encoder1": (Group("x", config.embedding), Group("h", first)),
        "encoder2": (Group("x", first), Group("h", second)),
        "decoder": (Group("x", config.embedding), Group("h", decoder), Group("z", config.latent)),
    }


def software_parts(config: ModelConfig, weights: Weights) -> SoftwareParts:
    """Return the parts that are not crossbars, float64.

    Raises:
        CheckpointError: Crossbars are not compiled for such a model; see `ModelConfig.check_circuit`.
    """
    config.check_circuit()
    names = {
        "encoder_embedding": "encoder_embedding.weight",
        "mu_weight": "mu.weight",
        "mu_bias": "mu.bias",
        "logvar_weight": "logvar.weight",
        "logvar_bias": "logvar.bias",
        "initial_weight": "initial.weight",
        "decoder_embedding": "decoder_embedding.weight",
        "output_weight": "output.weight",
        "output_bias": "output.bias",
    }
    parts = {field: weights[name].astype(np.float64) for field, name in names.items()}
    keys = {layer: f"{layer}.peephole" for layer in LAYERS}
    peepholes = {layer: weights[key].astype(np.float64) for layer, key in keys.items() if key in weights}
    return SoftwareParts(**parts, peepholes=peepholes)


def _gates(name: str, cell: str, groups: tuple[Group, ...], weights: Weights) -> tuple[GateWeights, ...]:
    gates: list[GateWeights] = []
    for place, gate in enumerate(TORCH_GATES[cell]):
        input_part, own_part, input_bias, own_bias = _torch_gate(name, place, groups[1].size, weights)
        parts = dict(zip("xzh", (*_split_input(input_part, groups[0].size), own_part), strict=True))
        names = tuple(group.name for group in groups)
        if cell == "gru" and gate == "n":
            with_input = tuple(group for group in names if group != "h")
            gates.append(GateWeights("n_x", with_input, _stack(parts, with_input), input_bias))
            gates.append(GateWeights("n_h", ("h",), _stack(parts, ("h",)), own_bias))
        else:
            gates.append(GateWeights(gate, names, _stack(parts, names), input_bias + own_bias))
    return tuple(gates)


def _torch_gate(name: str, place: int, hidden: int, weights: Weights) -> tuple[Array, Array, Array, Array]:
    """Return one gate's rows of torch's four stacked arrays: weight_ih, weight_hh, bias_ih, bias_hh."""
    rows = slice(place * hidden, (place + 1) * hidden)
    keys = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    first, second, third, fourth = (weights[f"{name}.{key}"][rows].astype(np.float64) for key in keys)
    return first, second, third, fourth


def _split_input(weight: Array, x_size: int) -> tuple[Array, Array]:
    """Split torch's input columns [embedding, z] into x and z."""
    return weight[:, :x_size], weight[:, x_size:]


def _stack(parts: Mapping[str, Array], names: tuple[str, ...]) -> Array:
    return np.ascontiguousarray(np.concatenate([parts[name] for name in names], axis=1).T)
