"""What a trial is measured by: the same sentences on each die, against the software model."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.compiler.build import Build, save_build
from hvae_mnn.compiler.pipeline import compile_model, draw_die
from hvae_mnn.digital.projection import Projection, weigh_sentences
from hvae_mnn.engines.base import Engine
from hvae_mnn.engines.nodal import NodalEngine, check_device
from hvae_mnn.engines.software import SoftwareEngine
from hvae_mnn.engines.spice.engine import SpiceEngine
from hvae_mnn.experiments.sweep.check import CheckedEngine
from hvae_mnn.experiments.sweep.dies import DiesSimulation
from hvae_mnn.experiments.sweep.metrics import METRICS
from hvae_mnn.hardware.config import HardwareConfig
from hvae_mnn.hardware.files import load_hardware
from hvae_mnn.hardware.timing import cycles_per_read
from hvae_mnn.model.checkpoint import Checkpoint
from hvae_mnn.model.text.corpus import EOS
from hvae_mnn.simulation.orchestrator import DigitalHalf, Ids, Latent
from hvae_mnn.simulation.run import BatchErrors, share_equal

Array = NDArray[np.float64]

_ROWS = 128  # sentences of all dies at once: fewer are slowed down by Python, more by the caches. Measured.


@dataclass(frozen=True, slots=True)
class Answers:
    """What one side makes of every sentence.

    Attributes:
        latents: Posterior and sample of each.
        said: Its words in free running.
        best: The most likely word at each of its own words and `<eos>`, teacher-forced.
        costs: -log p of each sentence, nats, (sentences,).
    """

    latents: Sequence[Latent]
    said: Sequence[Ids]
    best: Sequence[Ids]
    costs: Array


def dies_together(sentences: int) -> int:
    """Return how many dies are read at once where each reads so many sentences."""
    return max(1, _ROWS // sentences)


class TrialBench:
    """Sentences, and what the software model makes of them."""

    def __init__(
        self, checkpoint: Checkpoint, sentences: Sequence[Ids], seed: int = 0, device: str | None = None
    ) -> None:
        """Let the trained model answer, in float64.

        Args:
            checkpoint: The model.
            sentences: The words of each.
            seed: Seed of the first one's reparameterisation noise; the next have the next seeds, in every trial.
            device: Where torch multiplies tiles, such as `cuda`; numpy does if not given.

        Raises:
            EngineError: torch has no such device.
        """
        if device is not None:
            check_device(device)
        self._device = device
        self._checkpoint, self._sentences = checkpoint, tuple(sentences)
        self._noises = [checkpoint.config.draw_noise(len(ids), seed + i) for i, ids in enumerate(sentences)]
        self._targets = [(*ids, EOS) for ids in sentences]
        self._parts = checkpoint.software_parts()
        self._projection = Projection(self._parts.output_weight, self._parts.output_bias)
        self._software = self._ask_software()
        self._built: tuple[str, Build, SoftwareEngine] | None = None

    def measure(self, hardware: HardwareConfig, seeds: Sequence[int]) -> list[dict[str, float]]:
        """Measure dies by the nodal engine.

        Args:
            hardware: The hardware; its own `device.seed` does not count.
            seeds: Seed of each die.

        Returns:
            For each die its metrics by name. They do not depend on which dies are measured together.
        """
        build, exact = self._compile(hardware)
        together = dies_together(len(self._sentences))
        found = []
        for start in range(0, len(seeds), together):
            engines = [NodalEngine(draw_die(build, seed), self._device) for seed in seeds[start : start + together]]
            found += self._measure(build, exact, engines)
        return found

    def measure_spice(
        self, hardware: HardwareConfig, seed: int, workers: int | None = None, check: bool = False
    ) -> tuple[dict[str, float], dict[str, float]]:
        """Measure a die in ngspice.

        Args:
            hardware: The hardware; its own `device.seed` does not count.
            seed: Seed of the die.
            workers: Processes of ngspice; as many as cores if not given.
            check: Whether the nodal engine shall read the same codes, to be compared.

        Returns:
            The metrics by name, and of the comparison `values` read, the share of `equal_codes`, and the
            `largest_lsb` and `largest_analog` difference, LSB and parts of ADC full scale; empty without `check`.

        Raises:
            EngineError: ngspice is missing, failed or died.
        """
        build, exact = self._compile(hardware)
        with TemporaryDirectory(prefix="hvae-mnn-") as folder:
            die = save_build(draw_die(build, seed), Path(folder) / "build")
            with SpiceEngine(die, workers) as spice:
                engine = CheckedEngine(spice, NodalEngine(die)) if check else spice
                (metrics,) = self._measure(build, exact, [engine])
        return metrics, engine.summary() if isinstance(engine, CheckedEngine) else {}

    def software(self) -> dict[str, float]:
        """Return the software model's own reconstruction, KL and ELBO, nats a sentence."""
        return _likelihood(self._software, self._checkpoint.config.latent_mode)

    def _ask_software(self) -> Answers:
        build = compile_model(self._checkpoint, load_hardware("ideal"), "ideal")  # of which the weights alone count
        software = DigitalHalf(self._parts, self._projection, SoftwareEngine(build)).software(build)
        found = software.run(self._sentences, self._noises)
        hidden = software.read_along(self._sentences, found)
        return Answers(found, [each.tokens for each in found], *self._weigh(hidden))

    def _compile(self, hardware: HardwareConfig) -> tuple[Build, SoftwareEngine]:
        """Compile the model, or take what the last call compiled."""
        key = hardware.model_dump_json(exclude={"device": {"seed"}})
        if self._built is None or self._built[0] != key:
            build = compile_model(self._checkpoint, hardware, "sweep")
            self._built = key, build, SoftwareEngine(build)
        return self._built[1:]

    def _measure(self, build: Build, exact: SoftwareEngine, engines: Sequence[Engine]) -> list[dict[str, float]]:
        """Let dies encode, read along and speak; read errors are those of the first two, whose words are given."""
        dies, count = len(engines), len(self._sentences)
        digital = DigitalHalf(self._parts, self._projection, exact)
        simulation = DiesSimulation(build, engines, count, digital)
        latents = simulation.encode(self._sentences * dies, self._noises * dies)
        hidden = simulation.read_along(self._sentences * dies, latents)
        said = simulation.speak(latents, expected=0, compared=False)
        found = []
        for start in range(0, dies * count, count):
            own = slice(start, start + count)
            answers = Answers(latents[own], said[own], *self._weigh(hidden[own]))
            errors = {name: _layer_metrics(layer, own, build) for name, layer in simulation.errors.items()}
            found.append(
                self._compare(answers) | {key: value for each in errors.values() for key, value in each.items()}
            )
        return [{metric.name: each[metric.name] for metric in METRICS} for each in found]

    def _weigh(self, hidden: Sequence[Array]) -> tuple[list[Ids], Array]:
        """Return the best word at each place of each sentence and the cost of each sentence, nats."""
        return weigh_sentences(self._projection, hidden, self._targets)

    def _compare(self, hardware: Answers) -> dict[str, float]:
        """Return a die's metrics, except the per-layer ones."""
        software, mode = self._software, self._checkpoint.config.latent_mode
        said = list(zip(hardware.said, software.said, strict=True))
        forced = zip(hardware.best, software.best, strict=True)
        ours, theirs = driving(hardware.latents, mode), driving(software.latents, mode)
        return {
            "agreement_free": _mean(share_equal(a, b) for a, b in said),
            "agreement_forced": _mean(share_equal(a, b) for a, b in forced),
            "whole": _mean(a == b for a, b in said),
            "first_divergence": _mean(_equal_steps((*a, EOS), (*b, EOS)) for a, b in said),
            "mu_shift": math.sqrt(np.mean((ours.mu - theirs.mu) ** 2)),
            "z_shift": math.sqrt(np.mean((ours.z - theirs.z) ** 2)),
            "kl_shift": latents_kl(ours, theirs) / len(said),
            **_likelihood(hardware, mode),
        }


def driving(latents: Sequence[Latent], mode: str) -> Latent:
    """Return all latents that drive the decoder, (S, L): in mode `per-step` that of `<eos>` drives nothing."""
    part = slice(None, -1) if mode == "per-step" else slice(None)
    rows = ((np.atleast_2d(getattr(each, name))[part] for each in latents) for name in ("mu", "logvar", "z"))
    return Latent(*(np.concatenate(list(each)) for each in rows))


def latents_kl(p: Latent, q: Latent) -> float:
    """Return KL(p || q) of two diagonal Gaussians, nats, summed over all latents.

    1/2 sum(logvar_q - logvar_p - 1 + (exp(logvar_p) + (mu_p - mu_q)^2) / exp(logvar_q))
    """
    ratio = np.exp(p.logvar - q.logvar) + (p.mu - q.mu) ** 2 * np.exp(-q.logvar)
    return float((q.logvar - p.logvar - 1 + ratio).sum() / 2)


def _likelihood(answers: Answers, mode: str) -> dict[str, float]:
    """Return reconstruction, KL from the prior and their sum, nats a sentence."""
    latents = driving(answers.latents, mode)
    kl = latents_kl(latents, Latent(*np.zeros((3, *latents.mu.shape)))) / len(answers.latents)
    reconstruction = float(answers.costs.mean())
    return {"reconstruction": reconstruction, "kl": kl, "elbo": reconstruction + kl}


def _layer_metrics(errors: BatchErrors, sentences: slice, build: Build) -> dict[str, float]:
    """Return rms read error and shares of clipped inputs and column values of a layer over some sentences."""
    sums = {name: float(getattr(errors, name)[sentences].sum()) for name in ("squares", "values", "inputs")}
    clipped_in, clipped_out = errors.clipped_inputs[sentences].sum(), errors.clipped_outputs[sentences].sum()
    cycles = cycles_per_read(build.manifest.hardware)
    return {
        f"rms_{errors.name}": math.sqrt(sums["squares"] / sums["values"]),
        f"clipped_in_{errors.name}": float(clipped_in) / sums["inputs"],
        f"clipped_out_{errors.name}": float(clipped_out) / (cycles * sums["values"]),
    }


def _equal_steps(hardware: Ids, software: Ids) -> int:
    """Return how many words are said before the first that differs; all of software's where none does."""
    pairs = zip(hardware, software, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(hardware), len(software)))


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
