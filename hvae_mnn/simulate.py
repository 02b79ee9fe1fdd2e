"""One sentence through the circuit: encoder, reparameterisation, decoder until `<eos>`.

The orchestrator owns everything digital: embeddings, codes, gate arithmetic, the latent and
the vocabulary. The engine is asked for column readings only, so every backend runs this
same code.
"""

import hashlib
import json
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.build import Build
from hvae_mnn.engines.base import Engine, Reading
from hvae_mnn.engines.nodal import NodalEngine
from hvae_mnn.engines.software import SoftwareEngine
from hvae_mnn.engines.spice import SpiceEngine
from hvae_mnn.errors import EngineError, SentenceError
from hvae_mnn.journal import Journal
from hvae_mnn.model.cells import CellState, first_state, next_state, zero_state
from hvae_mnn.model.corpus import EOS, SOS
from hvae_mnn.model.projection import Projection
from hvae_mnn.model.vae import check_sentence
from hvae_mnn.progress import Progress
from hvae_mnn.recording import Recording
from hvae_mnn.run import LayerErrors, LayerTrace, Run, Side

Array = NDArray[np.float64]
Ids = tuple[int, ...]
BACKENDS = ("spice", "nodal", "software")


def open_engine(
    build: Build,
    backend: str,
    workers: int | None = None,
    transient: Collection[str] = (),
    recording: Recording = Recording(),  # noqa: B008 (immutable)
    progress: Progress | None = None,
    resident: bool = True,
) -> Engine:
    """Load a Build into an engine; `resident` as `SpiceEngine` takes it.

    Raises:
        EngineError: The engine cannot start, or waveforms are asked of one that has none.
    """
    if transient and backend != "spice":
        raise EngineError(f"--waveforms with --backend {backend}: only spice has waveforms; use --backend spice")
    if backend == "spice":
        return SpiceEngine(build, workers, transient, recording, progress, resident)
    return NodalEngine(build) if backend == "nodal" else SoftwareEngine(build)


@dataclass(frozen=True, slots=True)
class Words:
    """A sentence as the model reads it.

    Attributes:
        text: As it was given.
        ids: Word numbers.
        unknown: Words that are not in the vocabulary.
    """

    text: str
    ids: Ids
    unknown: tuple[str, ...]


def read_sentence(build: Build, text: str) -> Words:
    """Turn text into word numbers.

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
    return Words(text, ids, unknown)


def simulate_sentence(
    build: Build,
    text: str,
    *,
    backend: str = "spice",
    seed: int = 0,
    workers: int | None = None,
    transient: Collection[str] = (),
    recording: Recording = Recording(),  # noqa: B008 (immutable)
    journal: Journal | None = None,
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
        journal: What an interrupted spice simulation of the same has read already; what is read now is added.
        progress: Called with stage, steps done and steps in all.

    Raises:
        SentenceError: The sentence cannot be read by the model.
        EngineError: The engine is missing, failed or died.
        ArtifactError: A pattern fits nothing, or waveforms or the journal cannot be written.
    """
    words = read_sentence(build, text)
    noise = draw_noise(build, words.ids, seed)
    with open_engine(build, backend, workers, transient, recording, progress, resident=False) as engine:
        if journal is not None and isinstance(engine, SpiceEngine):
            engine.keep_cycles(journal.reads())
        began = time.perf_counter()
        simulation = Simulation(build, engine, progress, journal if backend == "spice" else None)
        (outcome,) = simulation.run([words.ids], [noise])
        seconds = time.perf_counter() - began
        waveforms = engine.waveforms() if isinstance(engine, SpiceEngine) else {}
    (software,) = reference_sides(build, [words.ids], [noise])
    run = make_run(build, words, outcome, software, engine, seed, seconds, hash_build(build))
    return replace(run, layers=tuple(simulation.traces.values()), waveforms=waveforms)


def make_run(
    build: Build,
    words: Words,
    outcome: "Outcome",
    software: Side,
    engine: Engine,
    seed: int,
    seconds: float,
    build_hash: str,
) -> Run:
    """Return a Run without readings and waveforms: what went in, what came out, and from what."""
    vocabulary = build.checkpoint.vocabulary
    return Run(
        sentence=words.text,
        tokens=vocabulary.tokens(words.ids),
        unknown=words.unknown,
        hardware=Side.from_tokens(vocabulary, outcome.tokens, outcome.mu, outcome.logvar, outcome.z),
        software=software,
        layers=(),
        engine=engine.info,
        hardware_preset=build.manifest.hardware_name,
        model_hash=build.manifest.model_hash,
        seed=seed,
        seconds=seconds,
        build=None if build.folder is None else str(build.folder.resolve()),
        build_hash=build_hash,
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
    """One layer's work in one cycle: group values, state before, the step's number and which sentences."""

    values: Mapping[str, Array]
    state: CellState
    step: int
    sentences: NDArray[np.intp]


class Simulation:
    """Sentences on an engine, step by step.

    Attributes:
        traces: What each layer read, step by step (all sentences of a batch together); nothing where `whole` is off.
        errors: For each sentence of the batch, the errors of each layer.
    """

    def __init__(
        self,
        build: Build,
        engine: Engine,
        progress: Progress | None = None,
        journal: Journal | None = None,
        whole: bool = True,
    ) -> None:
        """Take an engine that holds a Build.

        Args:
            build: A compiled model.
            engine: Reads its layers.
            progress: Called with stage, steps done and steps in all.
            journal: Steps that were read before an interruption, which are not read again; new ones are added.
            whole: Whether to keep every reading, some megabytes a step and sentence at the size of real networks.
        """
        self.build, self.engine, self.progress = build, engine, progress
        self.traces = {layer.name: LayerTrace(layer.name) for layer in build.manifest.layers}
        self.errors: list[dict[str, LayerErrors]] = []
        self._journal, self._whole = journal, whole
        self._reference = SoftwareEngine(build)
        self._parts = build.checkpoint.software_parts()
        self._projection = Projection(self._parts.output_weight, self._parts.output_bias)
        self._periphery = build.manifest.hardware.periphery

    def run(self, sentences: Sequence[Ids], noises: Sequence[Array]) -> list[Outcome]:
        """Encode and decode sentences, all at once."""
        self.errors = [{layer.name: LayerErrors(layer.name) for layer in self.build.manifest.layers} for _ in sentences]
        hidden = self._encode([(SOS, *ids, EOS) for ids in sentences])
        latents = [self._sample(h, noise) for h, noise in zip(hidden, noises, strict=True)]
        said = self._decode([z for _, _, z in latents], 1 + max(len(ids) for ids in sentences))
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
                requests[first.name] = _Request({"x": x, "h": state.h}, state, tick, reading)
            if tick > 0:
                state = upper.select(following)
                requests[second.name] = _Request({"x": lower.h[following], "h": state.h}, state, tick - 1, following)
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

    def _decode(self, latents: list[Array], expected: int) -> list[Ids]:
        """Say words greedily from each latent until `<eos>` or the model's limit; `expected` steps are likely."""
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
            request = _Request({"x": x, "h": before.h, "z": z}, before, step, speaking)
            after = self._advance({layer.name: request})[layer.name]
            state = state.replaced(speaking, after)
            words[speaking] = self._projection.choose(after.h)
            for i in speaking:
                if words[i] != EOS:
                    said[i].append(int(words[i]))
            speaking = speaking[words[speaking] != EOS]
            likely = min(limit, max(expected, step + 2)) if len(speaking) else step + 1
            self._report("decoder", step + 1, likely)
            if not len(speaking):
                break
        return [tuple(words_of) for words_of in said]

    def _advance(self, requests: Mapping[str, _Request]) -> dict[str, CellState]:
        """Let the engine read the requested layers in one cycle; return their next states."""
        layers = {name: self.build.layer(name) for name in requests}
        fractions = {name: layers[name].fractions(request.values) for name, request in requests.items()}
        try:
            readings = self._read({name: self.engine.dac.encode(value) for name, value in fractions.items()})
        except EngineError as error:
            steps = ", ".join(f"{name} step {request.step}" for name, request in requests.items())
            raise EngineError(f"at {steps}: {error}") from error
        exact = self._reference.step(fractions)
        states = {}
        for name, request in requests.items():
            reading = readings[name]
            self._record(name, request.sentences, fractions[name], reading, exact[name].analog)
            sums = layers[name].gate_sums(self.engine.adc.decode(reading.codes))
            peephole = self._parts.peepholes.get(name)
            states[name] = next_state(layers[name].cell, sums, request.state, self._periphery, peephole)
        return states

    def _read(self, codes: Mapping[str, Array]) -> dict[str, Reading]:
        """Read layers, or take what was read before an interruption."""
        held = self._journal.replay() if self._journal is not None else None
        if held is not None:
            readings, states = held
            self.engine.skip(codes)
            self.engine.restore(states)
            return readings
        readings = self.engine.step(codes)
        if self._journal is not None:
            self._journal.add(readings, self.engine.states())
        return readings

    def _record(self, name: str, sentences: NDArray[np.intp], fractions: Array, reading: Reading, exact: Array) -> None:
        """Add a layer's step to the trace and to each sentence's errors."""
        if self._whole:
            self.traces[name].record(self.engine, fractions, reading, exact)
        error = self.engine.adc.decode(reading.codes) - exact
        squares = np.einsum("bo,bo->b", error, error).tolist()
        largest = np.maximum(error.max(axis=1), -error.min(axis=1)).tolist()
        inputs, outputs = self.engine.dac.count_clipped(fractions).tolist(), reading.clipped.tolist()
        for place, i in enumerate(sentences):
            errors = self.errors[i][name]
            errors.steps, errors.values = errors.steps + 1, errors.values + error.shape[1]
            errors.squares, errors.max_error = errors.squares + squares[place], max(errors.max_error, largest[place])
            errors.clipped_inputs += inputs[place]
            errors.clipped_outputs += outputs[place]

    def _report(self, stage: str, done: int, total: int | None) -> None:
        if self.progress is not None:
            self.progress(stage, done, total)


def reference_sides(build: Build, sentences: Sequence[Ids], noises: Sequence[Array]) -> list[Side]:
    """Return what the PyTorch model itself says, in float64, with the same noise."""
    found = build.checkpoint.build_model().double().reconstruct_all(sentences, noises)
    return [Side.from_tokens(build.checkpoint.vocabulary, each.tokens, each.mu, each.logvar, each.z) for each in found]
