"""Makes small models and Builds for tests: random, asymmetric, with no two sizes equal."""

import functools
import io
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from hvae_mnn.compiler.build import Build, save_build
from hvae_mnn.compiler.pipeline import compile_model
from hvae_mnn.hardware.files import load_hardware
from hvae_mnn.model.calibration import calibrate
from hvae_mnn.model.checkpoint import Checkpoint
from hvae_mnn.model.network.vae import ModelConfig, TextVae
from hvae_mnn.model.text.corpus import Vocabulary

WORDS = ("a", "b", "c", "d", "e")
WEIGHT_SCALE = 3.0
"""Recurrent weights are this much larger than torch starts them, so that gates saturate as trained ones do."""


@functools.cache
def make_checkpoint(
    cells: tuple[str, str] = ("lstm", "lstm"),
    decoder: str = "lstm",
    embedding: int = 10,
    hidden: int | tuple[int, int, int] = 6,
    latent: int = 4,
    latent_mode: str = "last",
    seed: int = 0,
    peepholes: bool = False,
) -> Checkpoint:
    """Return a random model over the words a to e with its calibration; the same arguments give the same object."""
    vocabulary = Vocabulary.from_sentences([list(WORDS)])
    config = ModelConfig(
        vocabulary_size=len(vocabulary),
        embedding=embedding,
        hidden=hidden,
        latent=latent,
        encoder=cells,
        decoder=decoder,
        latent_mode=latent_mode,
        max_length=20,
        peepholes=peepholes,
    )
    model = _random_model(config, seed)
    calibration = calibrate(model, random_sentences(100, seed, len(vocabulary)), seed=seed)
    weights = {name: value.numpy().astype(np.float32) for name, value in model.state_dict().items()}
    return Checkpoint(config, vocabulary, weights, calibration.samples, calibration.ranges)


def make_build(
    folder: Path | None, preset: str = "default", overrides: Iterable[str] = (), **checkpoint: object
) -> Build:
    """Compile a random model; save it where a folder is given (the spice engine needs one)."""
    build = compile_model(make_checkpoint(**checkpoint), load_hardware(preset, overrides), preset)  # type: ignore[arg-type]
    return build if folder is None else save_build(build, folder)


def random_sentences(count: int, seed: int, vocabulary_size: int, longest: int = 8) -> list[tuple[int, ...]]:
    """Return sentences of 1 to `longest` random words, specials not among them."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, longest + 1, count)
    return [tuple(rng.integers(4, vocabulary_size, length).tolist()) for length in lengths]


def layer_inputs(build: Build, layer: str) -> NDArray[np.float64]:
    """Return inputs of a layer as fractions of full scale, (batch, inputs).

    The extremes come first (nothing, all full scale of either sign, alternating, one input
    alone), then random ones inside the full scale.
    """
    count = sum(group.size for group in build.layer(layer).groups)
    alternating = np.where(np.arange(count) % 2, 1.0, -1.0)
    alone = np.zeros((3, count))
    alone[0, 0], alone[1, -1], alone[2, count // 2] = 1.0, 1.0, -1.0
    extremes = np.stack([np.zeros(count), np.ones(count), -np.ones(count), alternating, -alternating])
    drawn = np.random.default_rng(count).uniform(-1, 1, (16, count))
    return np.concatenate([extremes, alone, drawn])


def inflate_array(path: Path, name: str) -> None:
    """Let an array of an .npz claim in its header to be 160 GB large, as a damaged file may."""
    with zipfile.ZipFile(path) as archive:
        members = {member: archive.read(member) for member in archive.namelist()}
    header = io.BytesIO()
    claim = {"descr": "<f8", "fortran_order": False, "shape": (10**10, 2)}
    np.lib.format.write_array_header_1_0(header, claim)  # type: ignore[arg-type]
    assert f"{name}.npy" in members
    members[f"{name}.npy"] = header.getvalue() + bytes(64)
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)


def _random_model(config: ModelConfig, seed: int) -> TextVae:
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = TextVae(config).eval()
        for name, parameter in model.named_parameters():
            if "peephole" in name:
                parameter.normal_()
            else:
                parameter.mul_(1 if "embedding" in name else WEIGHT_SCALE)
    return model


def make_text_vae(size: int = 12, hidden: int = 7, latent: int = 3, mode: str = "last", seed: int = 0) -> TextVae:
    """Return an untrained network of gru layers, with dropout, that no checkpoint stands behind."""
    torch.manual_seed(seed)
    config = ModelConfig(
        vocabulary_size=size,
        embedding=16,
        hidden=hidden,
        latent=latent,
        encoder=("gru", "gru"),
        decoder="gru",
        latent_mode=mode,
        embedding_dropout=0.3,
        word_dropout=0.3,
    )
    return TextVae(config)


def sharpen(model: TextVae, scale: float = 30.0) -> TextVae:
    """Make posteriors so narrow and far apart that each sentence has a latent of its own."""
    with torch.no_grad():
        model.mu.weight.mul_(scale)
        model.logvar.weight.zero_()
        model.logvar.bias.fill_(-25)
    return model
