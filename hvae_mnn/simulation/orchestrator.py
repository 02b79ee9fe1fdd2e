"""Sentences on an engine, step by step: encoder, reparameterisation, decoder.

The orchestrator owns everything digital: embeddings, codes, gate arithmetic, the latent and
the vocabulary. The engine is asked for column readings only, so every backend runs this
same code.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.compiler.build import Build
from hvae_mnn.digital.cell_unit import CellUnit, DigitalCellUnit, make_cell_unit
from hvae_mnn.digital.gates import CellState, zero_state
from hvae_mnn.digital.projection import Projection
from hvae_mnn.engines.base import Engine, Reading
from hvae_mnn.engines.software import SoftwareEngine
from hvae_mnn.errors import EngineError
from hvae_mnn.hardware.config import Periphery
from hvae_mnn.model.layers import SoftwareParts
from hvae_mnn.model.text.corpus import EOS, SOS
from hvae_mnn.runtime.progress import Progress
from hvae_mnn.simulation.journal import Journal
from hvae_mnn.simulation.run import BatchErrors, LayerTrace

Array = NDArray[np.float64]
Places = NDArray[np.intp]
Ids = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Latent:
    """What the encoder made of one sentence.

    Attributes:
        mu: Posterior mean, (L,) or (T, L).
        logvar: Posterior log variance, of the same shape.
        z: Latent sample, of the same shape.
    """

    mu: Array
    logvar: Array
    z: Array

    def driving(self, step: int) -> Array:
        """Return the z that the decoder is given at a step, (L,)."""
        return self.z if self.z.ndim == 1 else self.z[min(step, len(self.z) - 1)]


@dataclass(frozen=True, slots=True)
class Outcome(Latent):
    """What came out for one sentence.

    Attributes:
        tokens: Words said, `<eos>` not among them.
    """

    tokens: Ids


@dataclass(frozen=True, slots=True)
class DigitalHalf:
    """What of a model is arithmetic whatever reads its layers.

    Attributes:
        parts: Embeddings, latent and first state.
        projection: The vocabulary.
        exact: Sums of the trained weights, which readings are compared with.
    """

    parts: SoftwareParts
    projection: Projection
    exact: SoftwareEngine

    @classmethod
    def of_build(cls, build: Build) -> "DigitalHalf":
        """Work a Build's digital half out."""
        parts = build.checkpoint.software_parts()
        return cls(parts, Projection(parts.output_weight, parts.output_bias), SoftwareEngine(build))

    def software(self, build: Build) -> "Simulation":
        """Return the trained model itself, in float64: what a Build's hardware is compared with."""
        units = {
            layer.name: DigitalCellUnit(layer.cell, Periphery(), self.parts.peepholes.get(layer.name))
            for layer in build.manifest.layers
        }
        return Simulation(build, self.exact, whole=False, digital=self, compared=False, units=units)


@dataclass(slots=True)
class _Request:
    """One layer's work in one cycle: group values, state before, the step's number and which sentences."""

    values: Mapping[str, Array]
    state: CellState
    step: int
    sentences: Places


class Simulation:
    """Sentences on an engine, step by step.

    Attributes:
        traces: What each layer read, step by step (all sentences of a batch together); nothing where `whole` is off.
        errors: The errors of each layer, a sentence of the batch at a time.
    """

    def __init__(
        self,
        build: Build,
        engine: Engine,
        progress: Progress | None = None,
        journal: Journal | None = None,
        whole: bool = True,
        digital: DigitalHalf | None = None,
        compared: bool = True,
        units: Mapping[str, CellUnit] | None = None,
    ) -> None:
        """Take an engine that holds a Build.

        Args:
            build: A compiled model.
            engine: Reads its layers.
            progress: Called with stage, steps done and steps in all.
            journal: Steps that were read before an interruption, which are not read again; new ones are added.
            whole: Whether to keep every reading, some megabytes a step and sentence at the size of real networks.
            digital: The model's digital half where it is there already.
            compared: Whether reads are held against exact sums; without, `errors` and `traces` stay empty.
            units: What makes each layer's next state; what the Build's hardware has if not given.
        """
        self.build, self.engine, self.progress = build, engine, progress
        self.traces = {layer.name: LayerTrace(layer.name) for layer in build.manifest.layers}
        self.errors: dict[str, BatchErrors] = {}
        self._journal, self._whole, self._compared = journal, whole, compared
        self._digital = digital or DigitalHalf.of_build(build)
        peepholes = self._digital.parts.peepholes
        self._units = units or {
            layer.name: make_cell_unit(layer.cell, build.manifest.hardware, peepholes.get(layer.name))
            for layer in build.manifest.layers
        }

    def run(self, sentences: Sequence[Ids], noises: Sequence[Array]) -> list[Outcome]:
        """Encode and decode sentences, all at once."""
        latents = self.encode(sentences, noises)
        said = self.speak(latents, 1 + max(len(ids) for ids in sentences))
        return [
            Outcome(latent.mu, latent.logvar, latent.z, tokens) for tokens, latent in zip(said, latents, strict=True)
        ]

    def encode(self, sentences: Sequence[Ids], noises: Sequence[Array]) -> list[Latent]:
        """Read sentences and move off their posterior means by standard normal noises; a new batch begins."""
        per_step = self.build.checkpoint.config.latent_mode == "per-step"
        found = []
        for (mu, logvar), noise in zip(self.encode_steps(sentences), noises, strict=True):
            mu, logvar = (mu, logvar) if per_step else (mu[-1], logvar[-1])
            found.append(Latent(mu, logvar, mu + np.exp(logvar / 2) * noise))
        return found

    def encode_steps(self, sentences: Sequence[Ids]) -> list[tuple[Array, Array]]:
        """Return the posterior's mean and log variance after every token of each sentence, (T, L) each.

        T counts `<sos>` and `<eos>`, in either latent mode. A new batch begins.
        """
        self.errors = {layer.name: BatchErrors(layer.name, len(sentences)) for layer in self.build.manifest.layers}
        parts = self._digital.parts
        hidden = self._encode([(SOS, *ids, EOS) for ids in sentences])
        means = [h @ parts.mu_weight.T + parts.mu_bias for h in hidden]
        return [(mu, h @ parts.logvar_weight.T + parts.logvar_bias) for mu, h in zip(means, hidden, strict=True)]

    def speak(self, latents: Sequence[Latent], expected: int, compared: bool = True) -> list[Ids]:
        """Say words greedily from each latent until `<eos>` or the model's limit.

        Args:
            latents: One a sentence of the batch.
            expected: How many steps are likely, for the progress.
            compared: Whether these reads count in `traces` and `errors`.
        """
        limit, state = self.build.checkpoint.config.max_length, self._first_state(latents)
        words = np.full(len(latents), SOS)
        said: list[list[int]] = [[] for _ in latents]
        speaking = np.arange(len(latents))
        for step in range(limit):
            state = self._decode(latents, words, speaking, state, step, compared)
            words[speaking] = self._digital.projection.choose(state.h[speaking])
            for i in speaking:
                if words[i] != EOS:
                    said[i].append(int(words[i]))
            speaking = speaking[words[speaking] != EOS]
            likely = min(limit, max(expected, step + 2)) if len(speaking) else step + 1
            self._report("decoder", step + 1, likely)
            if not len(speaking):
                break
        return [tuple(words_of) for words_of in said]

    def read_along(self, sentences: Sequence[Ids], latents: Sequence[Latent]) -> list[Array]:
        """Decode teacher-forced: each step reads the sentence's own word before it.

        Returns:
            For each sentence the decoder's h that predicts each of its words and `<eos>`, (words + 1, H).
        """
        lengths, state = np.array([len(ids) + 1 for ids in sentences]), self._first_state(latents)
        given = np.full((len(sentences), lengths.max()), SOS)
        for row, ids in enumerate(sentences):
            given[row, 1 : len(ids) + 1] = ids
        outputs = np.zeros((len(sentences), lengths.max(), self.build.layer("decoder").hidden))
        for step in range(lengths.max()):
            reading = np.flatnonzero(lengths > step)
            state = self._decode(latents, given[:, step], reading, state, step, compared=True)
            outputs[reading, step] = state.h[reading]
            self._report("teacher-forced", step + 1, int(lengths.max()))
        return [outputs[i, :length] for i, length in enumerate(lengths)]

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
                x = self._digital.parts.encoder_embedding[words]
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

    def _first_state(self, latents: Sequence[Latent]) -> CellState:
        """Return the decoder's state before its first step; bitwise independent of the rest of the batch."""
        z = np.array([latent.driving(0) for latent in latents])
        first = np.einsum("bl,hl->bh", z, self._digital.parts.initial_weight)
        (x_max,) = (group.x_max for group in self.build.layer("decoder").groups if group.name == "h")
        return self._units["decoder"].start(first, x_max)

    def _decode(
        self, latents: Sequence[Latent], words: Places, rows: Places, state: CellState, step: int, compared: bool
    ) -> CellState:
        """Let the decoder read one word of some sentences; return the state of all."""
        before = state.select(rows)
        z = np.array([latents[i].driving(step) for i in rows])
        x = self._digital.parts.decoder_embedding[words[rows]]
        request = _Request({"x": x, "h": before.h, "z": z}, before, step, rows)
        return state.replaced(rows, self._advance({"decoder": request}, compared)["decoder"])

    def _advance(self, requests: Mapping[str, _Request], compared: bool = True) -> dict[str, CellState]:
        """Let the engine read the requested layers in one cycle; return their next states."""
        compared = compared and self._compared
        layers = {name: self.build.layer(name) for name in requests}
        sentences = {name: request.sentences for name, request in requests.items()}
        fractions = {name: layers[name].fractions(request.values) for name, request in requests.items()}
        try:
            codes = {name: self.engine.dac.encode(value) for name, value in fractions.items()}
            readings = self._replay_or_read(codes, sentences)
        except EngineError as error:
            steps = ", ".join(f"{name} step {request.step}" for name, request in requests.items())
            raise EngineError(f"at {steps}: {error}") from error
        exact = self._exact(fractions, sentences) if compared else {}
        states = {}
        for name, request in requests.items():
            if compared:
                self._record(name, request.sentences, fractions[name], readings[name], exact[name].analog)
            sums = layers[name].gate_sums(self.engine.adc.decode(readings[name].codes))
            states[name] = self._units[name].advance(sums, request.state)
        return states

    def _replay_or_read(self, codes: Mapping[str, Array], sentences: Mapping[str, Places]) -> dict[str, Reading]:
        """Read layers, or take what was read before an interruption."""
        held = self._journal.replay() if self._journal is not None else None
        if held is not None:
            readings, states = held
            self.engine.skip(codes)
            self.engine.restore(states)
            return readings
        readings = self._read(codes, sentences)
        if self._journal is not None:
            self._journal.add(readings, self.engine.states())
        return readings

    def _read(self, codes: Mapping[str, Array], sentences: Mapping[str, Places]) -> dict[str, Reading]:
        """Read some layers once; `sentences` says for each row of the codes whose it is."""
        return self.engine.step(codes)

    def _exact(self, fractions: Mapping[str, Array], sentences: Mapping[str, Places]) -> dict[str, Reading]:
        """Return what some layers should read."""
        return self._digital.exact.step(fractions)

    def _record(self, name: str, sentences: Places, fractions: Array, reading: Reading, exact: Array) -> None:
        """Add a layer's step to the trace and to each sentence's errors."""
        if self._whole:
            self.traces[name].record(self.engine, fractions, reading, exact)
        clipped = self.engine.dac.count_clipped(fractions), reading.clipped
        error = self.engine.adc.decode(reading.codes) - exact
        self.errors[name].add(sentences, fractions.shape[1], clipped, error)

    def _report(self, stage: str, done: int, total: int | None) -> None:
        if self.progress is not None:
            self.progress(stage, done, total)
