"""Names and shapes of a model's weights, from its config alone: those of `TextVae`'s state dict.

`V` words, `E` embedding, `H` hidden (of the layer at hand), `L` latent. Tests hold them against torch's own.
"""

from collections.abc import Iterator

from hvae_mnn.model.config import ModelConfig
from hvae_mnn.model.layers import TORCH_GATES

Named = Iterator[tuple[str, tuple[int, ...]]]


def weight_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of every weight by its name."""
    return dict(_weights(config))


def _weights(config: ModelConfig) -> Named:
    words, width, latent = config.vocabulary_size, config.embedding, config.latent
    *widths, hidden = config.hidden_sizes
    if config.has_encoder:
        yield "encoder_embedding.weight", (words, width)
        for place, (cell, given, own) in enumerate(zip(config.encoder, [width, *widths], widths, strict=False), 1):
            yield from _recurrent(f"encoder{place}", cell, given, own, config.peepholes)
        yield from _linear("mu", widths[-1], latent)
        yield from _linear("logvar", widths[-1], latent)
    if config.has_latent:
        yield "initial.weight", (hidden, latent)
    yield "decoder_embedding.weight", (words, width)
    given = width + latent if config.has_latent else width
    yield from _recurrent("decoder", config.decoder, given, hidden, config.peepholes)
    yield from _linear("output", hidden, words)
    if config.posterior == "flow":
        yield from _linear("flow", widths[-1], config.posterior_steps * (2 * latent + 1))
        yield "skip.weight", (hidden, latent)
    if config.prior == "learned":
        yield from _linear("prior.inner", width + hidden, hidden)
        yield from _linear("prior.mu", hidden, latent)
        yield from _linear("prior.logvar", hidden, latent)


def _linear(name: str, inputs: int, outputs: int) -> Named:
    yield f"{name}.weight", (outputs, inputs)
    yield f"{name}.bias", (outputs,)


def _recurrent(name: str, cell: str, inputs: int, hidden: int, peepholes: bool) -> Named:
    rows = len(TORCH_GATES[cell]) * hidden
    yield f"{name}.weight_ih_l0", (rows, inputs)
    yield f"{name}.weight_hh_l0", (rows, hidden)
    yield f"{name}.bias_ih_l0", (rows,)
    yield f"{name}.bias_hh_l0", (rows,)
    if peepholes and cell == "lstm":
        yield f"{name}.peephole", (3, hidden)
