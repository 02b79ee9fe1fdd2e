"""One sentence through the circuit: encoder, reparameterisation, decoder until `<eos>`.

The orchestrator owns everything digital: embeddings, codes, gate arithmetic, the latent and
the vocabulary. The engine is asked for column readings only, so every backend runs this
same code.
"""

import hashlib
import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.build import Build
from hvae_mnn.engines.base import Engine
from hvae_mnn.engines.nodal import NodalEngine
from hvae_mnn.engines.software import SoftwareEngine
from hvae_mnn.engines.spice import SpiceEngine
from hvae_mnn.errors import EngineError, SentenceError
from hvae_mnn.model.cells import CellState, first_state, next_state, zero_state
from hvae_mnn.model.corpus import EOS, SOS
from hvae_mnn.model.projection import Projection
from hvae_mnn.model.vae import check_sentence
from hvae_mnn.recording import Recording
from hvae_mnn.run import LayerTrace, Run, Side

Array = NDArray[np.float64]
Ids = tuple[int, ...]
Progress = Callable[[str, int, int | None], None]

BACKENDS = ("spice", "nodal", "software")


def open_engine(
    build: Build,
    backend: str,
    workers: int | None = None,
    transient: Collection[str] = (),
    recording: Recording = Recording(),  # noqa: B008 (immutable)
) -> Engine:
    """Load a Build into an engine.

    Raises:
        EngineError: The engine cannot start, or waveforms are asked of one that has none.
    """
    if transient and backend != "spice":
        raise EngineError(f"--waveforms with --backend {backend}: only spice has waveforms; use --backend spice")
    if backend == "spice":
        return SpiceEngine(build, workers, transient, recording)
    return NodalEngine(build) if backend == "nodal" else SoftwareEngine(build)


def read_sentence(build: Build, text: str) -> tuple[Ids, tuple[str, ...]]:
    """Turn text into word numbers.

    Returns:
        Word numbers, and the words that are not in the vocabulary.

    Raises:
        SentenceError: No words, too many, or only unknown ones.
    """
    ids, unknown = build.checkpoint.vocabulary.encode(text)
    check_sentence(ids, build.checkpoint.config)
    if len(unknown) == len(ids):
        raise SentenceError(
            f"none of the sentence's words is in the model's vocabulary of {len(build.checkpoint.vocabulary)} "
            f"words ({', '.join(unknown[:5])}); use words of the text the model was trained on"
        )
    return ids, unknown


def simulate_sentence(
    build: Build,
    text: str,
    *,
    backend: str = "spice",
    seed: int = 0,
    workers: int | None = None,
    transient: Collection[str] = (),
    recording: Recording = Recording(),  # noqa: B008 (immutable)
    progress: Progress | None = None,
) -> Run:
    """Run one sentence on an engine and on the software model, with the same noise.

    Args:
        build: A compiled model.
        text: Words separated by spaces.
        backend: `spice`, `nodal` or `software`.
        seed: Seed of the reparameterisation noise.
        workers: Processes of the spice backend; as many as cores if not given.
        transient: Tiles read in time, whose waveforms are kept, by name or pattern; `all` for every tile.
        recording: What is kept of their waveforms, and where.
        progress: Called with stage, steps done and steps in all (None if unknown).

    Raises:
        SentenceError: The sentence cannot be read by the model.
        EngineError: The engine is missing, failed or died.
        ArtifactError: A pattern fits nothing, or waveforms cannot be written.
    """
    ids, unknown = read_sentence(build, text)
    noise = draw_noise(build, ids, seed)
    with open_engine(build, backend, workers, transient, recording) as engine:
        began = time.perf_counter()
        simulation = Simulation(build, engine, progress)
        outcome = simulation.run([ids], [noise])[0]
        seconds = time.perf_counter() - began
        waveforms = engine.waveforms() if isinstance(engine, SpiceEngine) else {}
    vocabulary = build.checkpoint.vocabulary
    return Run(
        sentence=text,
        tokens=vocabulary.tokens(ids),
        unknown=unknown,
        hardware=Side.from_tokens(vocabulary, outcome.tokens, outcome.mu, outcome.logvar, outcome.z),
        software=reference_side(build, ids, noise),
        layers=tuple(simulation.traces.values()),
        engine=engine.info,
        hardware_preset=build.manifest.hardware_name,
        model_hash=build.manifest.model_hash,
        seed=seed,
        seconds=seconds,
        waveforms=waveforms,
        build=None if build.folder is None else str(build.folder.resolve()),
        build_hash=hash_build(build),
    )


def hash_build(build: Build) -> str:
    """Return a SHA-256 of the model, the hardware and the calibration: what decides how a Build reads.

    Calibration counts as files hold it, in 16 bits. Left out are tiles, which differ in their last digits from
    machine to machine, and values of the hardware that are not set.
    """
    checkpoint = build.checkpoint
    digest = hashlib.sha256(build.manifest.model_hash.encode())
    digest.update(build.manifest.hardware.model_dump_json(exclude_defaults=True).encode())
    digest.update(json.dumps(checkpoint.ranges, sort_keys=True).encode())
    for layer in sorted(checkpoint.calibration):
        digest.update(checkpoint.calibration[layer].astype(np.float16).tobytes())
    return digest.hexdigest()


def draw_noise(build: Build, ids: Ids, seed: int) -> Array:
    """Return the standard normal numbers of the reparameterisation, (L,) or (T, L)."""
    config = build.checkpoint.config
    shape = (config.latent,) if config.latent_mode == "last" else (len(ids) + 2, config.latent)
    return np.random.default_rng(seed).standard_normal(shape)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came out for one sentence.

    Attributes:
        tokens: Words said, `<eos>` not among them.
        mu: Posterior mean, (L,) or (T, L).
        logvar: Posterior log variance, of the same shape.
        z: Latent sample, of the same shape.
    """

    tokens: Ids
    mu: Array
    logvar: Array
    z: Array


@dataclass(slots=True)
class _Request:
    """One layer's work in one cycle: group values, state before, and the step's number."""

    values: Mapping[str, Array]
    state: CellState
    step: int


class Simulation:
    """Sentences on an engine, step by step.

    Attributes:
        traces: What each layer read, step by step (all sentences of a batch together).
    """

    def __init__(self, build: Build, engine: Engine, progress: Progress | None = None) -> None:
        self.build, self.engine, self.progress = build, engine, progress
        self.traces = {layer.name: LayerTrace(layer.name) for layer in build.manifest.layers}
        self._reference = SoftwareEngine(build)
        self._parts = build.checkpoint.software_parts()
        self._projection = Projection(self._parts.output_weight, self._parts.output_bias)
        self._periphery = build.manifest.hardware.periphery

    def run(self, sentences: Sequence[Ids], noises: Sequence[Array]) -> list[Outcome]:
        """Encode and decode sentences, all at once."""
        hidden = self._encode([(SOS, *ids, EOS) for ids in sentences])
        latents = [self._sample(h, noise) for h, noise in zip(hidden, noises, strict=True)]
        said = self._decode([z for _, _, z in latents])
        return [Outcome(tokens, *latent) for tokens, latent in zip(said, latents, strict=True)]

    def _encode(self, sentences: list[Ids]) -> list[Array]:
        """Return encoder 2's h at every step of each sentence, (T, H); it runs one step behind encoder 1."""
        first, second = self.build.layer("encoder1"), self.build.layer("encoder2")
        batch, lengths = len(sentences), np.array([len(ids) for ids in sentences])
        lower, upper = zero_state(batch, first.hidden), zero_state(batch, second.hidden)
        outputs = np.zeros((batch, lengths.max(), second.hidden))
        for tick in range(int(lengths.max()) + 1):
            requests: dict[str, _Request] = {}
            reading, following = np.flatnonzero(lengths > tick), np.flatnonzero(lengths > tick - 1)
            if len(reading):
                words = [sentences[i][tick] for i in reading]
                state = lower.select(reading)
                x = self._parts.encoder_embedding[words]
                requests[first.name] = _Request({"x": x, "h": state.h}, state, tick)
            if tick > 0:
                state = upper.select(following)
                requests[second.name] = _Request({"x": lower.h[following], "h": state.h}, state, tick - 1)
            after = self._advance(requests)
            if len(reading):
                lower = lower.replaced(reading, after[first.name])
            if tick > 0:
                upper = upper.replaced(following, after[second.name])
                outputs[following, tick - 1] = after[second.name].h
            self._report("encoder", tick + 1, int(lengths.max()) + 1)
        return [outputs[i, :length] for i, length in enumerate(lengths)]

    def _sample(self, hidden: Array, noise: Array) -> tuple[Array, Array, Array]:
        """Return mu, logvar and z of one sentence from encoder 2's h, (T, H)."""
        parts = self._parts
        source = hidden[-1] if self.build.checkpoint.config.latent_mode == "last" else hidden
        mu = source @ parts.mu_weight.T + parts.mu_bias
        logvar = source @ parts.logvar_weight.T + parts.logvar_bias
        return mu, logvar, mu + np.exp(logvar / 2) * noise

    def _decode(self, latents: list[Array]) -> list[Ids]:
        """Say words greedily from each latent until `<eos>` or the model's limit."""
        layer, limit = self.build.layer("decoder"), self.build.checkpoint.config.max_length
        drives = [np.atleast_2d(z) for z in latents]
        first = np.array([z[0] for z in drives]) @ self._parts.initial_weight.T
        (x_max,) = (group.x_max for group in layer.groups if group.name == "h")
        state = first_state(first, x_max, self._periphery)
        words = np.full(len(latents), SOS)
        said: list[list[int]] = [[] for _ in latents]
        speaking = np.arange(len(latents))
        for step in range(limit):
            z = np.array([drives[i][min(step, len(drives[i]) - 1)] for i in speaking])
            before = state.select(speaking)
            x = self._parts.decoder_embedding[words[speaking]]
            request = _Request({"x": x, "h": before.h, "z": z}, before, step)
            after = self._advance({layer.name: request})[layer.name]
            state = state.replaced(speaking, after)
            words[speaking] = self._projection.choose(after.h)
            for i in speaking:
                if words[i] != EOS:
                    said[i].append(int(words[i]))
            speaking = speaking[words[speaking] != EOS]
            self._report("decoder", step + 1, None)
            if not len(speaking):
                break
        return [tuple(words_of) for words_of in said]

    def _advance(self, requests: Mapping[str, _Request]) -> dict[str, CellState]:
        """Let the engine read the requested layers in one cycle; return their next states."""
        layers = {name: self.build.layer(name) for name in requests}
        fractions = {name: layers[name].fractions(request.values) for name, request in requests.items()}
        try:
            readings = self.engine.step({name: self.engine.dac.encode(value) for name, value in fractions.items()})
        except EngineError as error:
            steps = ", ".join(f"{name} step {request.step}" for name, request in requests.items())
            raise EngineError(f"at {steps}: {error}") from error
        exact = self._reference.step(fractions)
        states = {}
        for name, request in requests.items():
            reading = readings[name]
            self.traces[name].record(self.engine, fractions[name], reading, exact[name].analog)
            sums = layers[name].gate_sums(self.engine.adc.decode(reading.codes))
            peephole = self._parts.peepholes.get(name)
            states[name] = next_state(layers[name].cell, sums, request.state, self._periphery, peephole)
        return states

    def _report(self, stage: str, done: int, total: int | None) -> None:
        if self.progress is not None:
            self.progress(stage, done, total)


def reference_side(build: Build, ids: Ids, noise: Array) -> Side:
    """Return what the PyTorch model itself says, in float64, with the same noise."""
    found = build.checkpoint.build_model().double().reconstruct(ids, noise)
    return Side.from_tokens(build.checkpoint.vocabulary, found.tokens, found.mu, found.logvar, found.z)
