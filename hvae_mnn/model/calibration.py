"""What the layers are fed on real sentences: full scales and calibration vectors.

Converters need to know how large each group of inputs gets. Both results are activations, never
text.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hvae_mnn.model.layers import LAYERS, layer_groups
from hvae_mnn.model.network.vae import TextVae, pad_batch
from hvae_mnn.model.text.corpus import PAD, Sentence
from hvae_mnn.runtime.progress import Progress

_BATCH = 64


@dataclass(frozen=True, slots=True)
class Calibration:
    """Inputs of each layer over training sentences.

    Attributes:
        samples: For each layer, vectors [x, h] or [x, h, z] at random steps, (samples, rows).
        ranges: For each layer and group, the largest magnitude.
    """

    samples: dict[str, NDArray[np.float32]]
    ranges: dict[str, dict[str, float]]


def calibrate(
    model: TextVae,
    sentences: Sequence[Sentence],
    *,
    seed: int,
    sentence_count: int = 2000,
    samples: int = 256,
    progress: Progress | None = None,
) -> Calibration:
    """Run sentences drawn at random through the model and look at every layer's inputs.

    Args:
        model: The trained network.
        sentences: Training sentences.
        seed: Seed of the draw of sentences and samples, and of the latents.
        sentence_count: Sentences to run, at most all.
        samples: Vectors to keep of each layer, at most all.
        progress: Called with a stage, the sentences done and all.

    Raises:
        CheckpointError: Crossbars are not compiled for such a model.
    """
    rng = np.random.default_rng(seed)
    count = min(sentence_count, len(sentences))
    chosen = sorted(rng.choice(len(sentences), count, replace=False), key=lambda i: len(sentences[i]))
    vectors = collect_inputs(model, [sentences[i] for i in chosen], seed=seed, progress=progress)
    return Calibration(
        samples={
            layer: v[np.sort(rng.choice(len(v), min(samples, len(v)), replace=False))] for layer, v in vectors.items()
        },
        ranges={layer: _ranges(model, layer, v) for layer, v in vectors.items()},
    )


@torch.no_grad()
def collect_inputs(
    model: TextVae, sentences: Sequence[Sentence], *, seed: int, progress: Progress | None = None
) -> dict[str, NDArray[np.float32]]:
    """Return what each layer reads at every step of sentences, (steps, rows) a layer, in the order of its groups.

    Dropout is off; the decoder is teacher-forced at a z sampled with `seed`, its first state included.

    Raises:
        CheckpointError: Crossbars are not compiled for such a model.
    """
    model.config.check_circuit()
    generator = torch.Generator().manual_seed(seed)
    was_training = model.training
    model.eval()
    collected: dict[str, list[NDArray[np.float32]]] = {layer: [] for layer in LAYERS}
    for start in range(0, len(sentences), _BATCH):
        batch = sentences[start : start + _BATCH]
        for layer, inputs in layer_inputs(model, pad_batch(batch), generator).items():
            collected[layer].append(inputs.numpy())
        if progress is not None:
            progress("calibration", start + len(batch), len(sentences))
    model.train(was_training)
    return {layer: np.concatenate(parts) for layer, parts in collected.items()}


def layer_inputs(model: TextVae, tokens: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    """Return what each layer reads at every true step of tokens (B, T), (steps, rows) a layer."""
    x = model.encoder_embedding(tokens)
    lower = model.encoder1(x)[0]
    upper = model.encoder2(lower)[0]
    z, _, _ = model.driving_latents(tokens, generator, refine=False)
    words = model.decoder_embedding(tokens[:, :-1])
    hidden = model.decode(tokens[:, :-1], z)
    steps = {
        "encoder1": torch.cat([x, _before(lower, torch.zeros_like(lower[:, 0]))], dim=2),
        "encoder2": torch.cat([lower, _before(upper, torch.zeros_like(upper[:, 0]))], dim=2),
        "decoder": torch.cat([words, _before(hidden, model.initial(z[:, 0])), z], dim=2),
    }
    read = tokens != PAD
    predicted = tokens[:, 1:] != PAD
    return {layer: value[predicted if layer == "decoder" else read] for layer, value in steps.items()}


def _before(outputs: Tensor, first: Tensor) -> Tensor:
    """Return the outputs one step earlier, the first state in front, (B, T, H)."""
    return torch.cat([first[:, None], outputs[:, :-1]], dim=1)


def _ranges(model: TextVae, layer: str, vectors: NDArray[np.float32]) -> dict[str, float]:
    groups = layer_groups(model.config)[layer]
    edges = np.cumsum([group.size for group in groups])[:-1]
    parts = np.split(vectors, edges, axis=1)
    return {group.name: float(np.abs(part).max()) for group, part in zip(groups, parts, strict=True)}
