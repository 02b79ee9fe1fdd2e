"""A sentence through an engine: what is refused, what repeats, which step is named."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from making import make_build, make_checkpoint, random_sentences

from hvae_mnn.engines.base import Reading
from hvae_mnn.engines.nodal import NodalEngine
from hvae_mnn.engines.software import SoftwareEngine
from hvae_mnn.errors import EngineError, SentenceError
from hvae_mnn.model.cells import CellState, next_state
from hvae_mnn.model.corpus import EOS, SOS
from hvae_mnn.orchestrator import DigitalHalf, Simulation
from hvae_mnn.run import Run
from hvae_mnn.simulate import (
    draw_noise,
    open_engine,
    read_sentence,
    reference_sides,
    simulate_sentence,
)


def test_words_become_numbers_and_unknown_ones_are_named() -> None:
    build = make_build(None)
    words = read_sentence(build, "a  zyx c")
    ids, unknown = words.ids, words.unknown
    assert build.checkpoint.vocabulary.tokens(ids) == ("a", "<unk>", "c")
    assert unknown == ("zyx",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the sentence has no words"),
        (" \n", "the sentence has no words; expected at least one"),
        ("x y", "none of the sentence's words is in the model's vocabulary of 9 words (x, y); use words of the text"),
        ("u v w x y z", "(u, v, w, x, y); use words"),
        ("a " * 21, "the sentence has 21 words; the model reads at most 20. Shorten it"),
    ],
)
def test_sentences_that_cannot_be_read(text: str, message: str) -> None:
    with pytest.raises(SentenceError, match=re.escape(message)):
        read_sentence(make_build(None), text)


def test_waveforms_need_spice() -> None:
    for backend in ("nodal", "software"):
        with pytest.raises(EngineError, match=f"--waveforms with --backend {backend}: only spice has waveforms"):
            open_engine(make_build(None), backend, transient=["all"])


def test_backends_by_name() -> None:
    assert isinstance(open_engine(make_build(None), "nodal"), NodalEngine)
    assert isinstance(open_engine(make_build(None), "software"), SoftwareEngine)


def same(one: Run, other: Run) -> bool:
    first, second = one.to_json(), other.to_json()
    del first["seconds"], second["seconds"]
    return first == second


def test_a_seed_repeats_and_another_differs() -> None:
    build = make_build(None)
    runs = [simulate_sentence(build, "a b c", backend="nodal", seed=seed) for seed in (3, 3, 4)]
    assert same(runs[0], runs[1])
    assert not np.array_equal(runs[0].software.z, runs[2].software.z)
    np.testing.assert_array_equal(runs[0].hardware.mu, runs[2].hardware.mu)  # noise comes after mu


def test_the_noise_is_the_seeds_and_has_the_latents_shape() -> None:
    build = make_build(None)
    noise = draw_noise(build, (4, 5, 6), 11)
    np.testing.assert_array_equal(noise, np.random.default_rng(11).standard_normal(4))


def test_a_latent_each_step() -> None:
    """<sos>, three words and <eos> have a latent of 4 numbers each, and each its own noise."""
    build = make_build(None, latent_mode="per-step", cells=("rnn", "gru"))
    noise = draw_noise(build, (4, 5, 6), 11)
    np.testing.assert_array_equal(noise, np.random.default_rng(11).standard_normal((5, 4)))
    run = simulate_sentence(build, "a b c", backend="software", seed=11)
    assert run.hardware.mu.shape == run.hardware.z.shape == (5, 4)
    np.testing.assert_allclose(run.hardware.z, run.software.z, rtol=1e-5, atol=1e-6)
    assert run.parts_at is None


def test_z_is_mu_plus_the_noise_times_sigma() -> None:
    build = make_build(None)
    run = simulate_sentence(build, "a b", backend="nodal", seed=5)
    noise = np.random.default_rng(5).standard_normal(4)
    for side in (run.hardware, run.software):
        np.testing.assert_allclose(side.z, side.mu + np.exp(side.logvar / 2) * noise, rtol=1e-6, atol=1e-7)


def test_software_engine_says_what_the_model_says() -> None:
    build = make_build(None, cells=("gru", "rnn"), decoder="lstm")
    run = simulate_sentence(build, "a b e d c", backend="software", seed=1)
    assert run.parts_at is None
    np.testing.assert_allclose(run.hardware.mu, run.software.mu, rtol=1e-5, atol=1e-6)
    assert all(layer.max_error == 0 for layer in run.layers)


def test_every_layer_is_traced_at_every_step() -> None:
    """<sos> and three words and <eos> are 5 steps of either encoder; the decoder reads once a word and for <eos>."""
    run = simulate_sentence(make_build(None), "a b c", backend="nodal")
    steps = {layer.name: len(layer.error) for layer in run.layers}
    said = len(run.hardware.tokens)
    assert steps["encoder1"] == steps["encoder2"] == 5
    assert steps["decoder"] == min(said + 1, 20)
    assert all(0 < layer.rms_error < 0.1 for layer in run.layers)


def test_sentences_of_a_batch_come_out_as_one_by_one() -> None:
    build = make_build(None)
    sentences = [*random_sentences(4, 2, 9), (4,)]
    assert len({len(ids) for ids in sentences}) > 1
    noises = [draw_noise(build, ids, seed) for seed, ids in enumerate(sentences)]
    together = Simulation(build, NodalEngine(build)).run(sentences, noises)
    for ids, noise, found in zip(sentences, noises, together, strict=True):
        (alone,) = Simulation(build, NodalEngine(build)).run([ids], [noise])
        assert found.tokens == alone.tokens
        np.testing.assert_allclose(found.mu, alone.mu, rtol=1e-9, atol=1e-12)


def test_the_encoders_run_in_a_pipeline() -> None:
    """Encoder 2 at step t reads what encoder 1 gave at step t; both are written out here without it."""
    build = make_build(None)
    ids = (4, 6, 5)
    simulation = Simulation(build, SoftwareEngine(build))
    simulation.run([ids], [np.zeros(4)])
    first, second, _ = build.checkpoint.layer_weights()
    lower = upper = CellState(np.zeros((1, 6)), np.zeros((1, 6)))
    for step, word in enumerate((SOS, *ids, EOS)):
        x = build.checkpoint.software_parts().encoder_embedding[[word]]
        inputs = np.concatenate([x, lower.h], axis=1)
        lower = next_state("lstm", {gate.gate: inputs @ gate.weight + gate.bias for gate in first.gates}, lower)
        inputs = np.concatenate([lower.h, upper.h], axis=1)
        x_max = np.repeat([group.x_max for group in build.layer("encoder2").groups], 6)
        np.testing.assert_allclose(simulation.traces["encoder2"].inputs[step] * x_max, inputs, rtol=1e-9, atol=1e-12)
        upper = next_state("lstm", {gate.gate: inputs @ gate.weight + gate.bias for gate in second.gates}, upper)


class FailingEngine(NodalEngine):
    """Fails at its third cycle."""

    cycles = 0

    def step(self, codes: Mapping[str, np.ndarray]) -> dict[str, Reading]:
        self.cycles += 1
        if self.cycles == 3:
            raise EngineError("the lights went out")
        return super().step(codes)


def test_a_failure_names_layers_and_steps() -> None:
    build = make_build(None)
    with pytest.raises(EngineError, match=r"^at encoder1 step 2, encoder2 step 1: the lights went out$"):
        Simulation(build, FailingEngine(build)).run([(4, 5)], [np.zeros(4)])


def test_progress_counts_up() -> None:
    calls: list[tuple[str, int, int | None]] = []
    run = simulate_sentence(make_build(None), "a b", backend="nodal", progress=lambda *call: calls.append(call))
    encoder = [call for call in calls if call[0] == "encoder"]
    assert encoder == [("encoder", step, 5) for step in range(1, 6)]
    decoder = [call for call in calls if call[0] == "decoder"]
    assert [done for _, done, _ in decoder] == list(range(1, len(decoder) + 1))
    assert decoder[0] == ("decoder", 1, 3)  # as long as the sentence, as far as anybody knows
    assert all(total > done for _, done, total in decoder[:-1] if total is not None)
    assert decoder[-1][1] == decoder[-1][2]
    assert len(decoder) == min(len(run.hardware.tokens) + 1, 20)


def test_the_run_says_what_it_came_from() -> None:
    build = make_build(None, "ideal")
    run = simulate_sentence(build, "a zyx", backend="nodal", seed=9)
    assert (run.sentence, run.tokens, run.unknown) == ("a zyx", ("a", "<unk>"), ("zyx",))
    assert (run.engine.name, run.hardware_preset, run.seed) == ("nodal", "ideal", 9)
    assert run.model_hash == make_checkpoint().content_hash()
    assert run.seconds > 0
    ids = read_sentence(build, "a zyx").ids
    (software,) = reference_sides(build, DigitalHalf.of_build(build), [ids], [draw_noise(build, ids, 9)])
    assert run.software.tokens == software.tokens


@pytest.mark.ngspice
def test_spice_says_what_nodal_says(tmp_path: Path) -> None:
    build = make_build(tmp_path / "build", "ideal", ("array.tile_rows=9",), cells=("gru", "lstm"), decoder="rnn")
    spice = simulate_sentence(build, "a b", backend="spice", workers=2, seed=2)
    nodal = simulate_sentence(build, "a b", backend="nodal", seed=2)
    assert spice.engine.name == "spice"
    assert spice.hardware.tokens == nodal.hardware.tokens
    np.testing.assert_allclose(spice.hardware.mu, nodal.hardware.mu, rtol=1e-6, atol=1e-7)
