"""Evaluation on hardware: ideal hardware gives the software's figures, and quality is what torch and hand say."""

import numpy as np
import pytest
import torch
from making import make_build, make_checkpoint, random_sentences
from torch.nn import functional

from hvae_mnn.engines.nodal import NodalEngine
from hvae_mnn.model.evaluation.evaluate import evaluate_honest, evaluate_paper, importance_bounds
from hvae_mnn.model.evaluation.gaps import measure_gaps
from hvae_mnn.model.evaluation.generation import interpolate, prior_latents, speak_prior
from hvae_mnn.model.evaluation.posteriors import encode_sentences
from hvae_mnn.model.evaluation.quality import compare_words, evaluate_quality
from hvae_mnn.model.evaluation.sides import SoftwareSide
from hvae_mnn.model.network.vae import pad_batch
from hvae_mnn.model.text.corpus import EOS, PAD, SOS
from hvae_mnn.simulation.hardware_side import HardwareSide
from hvae_mnn.simulation.orchestrator import Simulation

pytestmark = pytest.mark.usefixtures("one_thread")

SENTENCES = random_sentences(20, seed=6, vocabulary_size=9)
READ_NOISE = ("device.read_sigma=0.05",)


def make_sides(
    preset: str = "ideal", overrides: tuple[str, ...] = (), **model: object
) -> tuple[SoftwareSide, HardwareSide]:
    build = make_build(None, preset, overrides, **model)
    draws = (1, 5, 50)
    return SoftwareSide(build.checkpoint.build_model().double(), draws), HardwareSide(build, NodalEngine(build), draws)


def flat(values: object) -> list[float]:
    if isinstance(values, dict):
        return [number for value in values.values() for number in flat(value)]
    if isinstance(values, list | tuple):
        return [number for value in values for number in flat(value)]
    return [float(values)]  # type: ignore[arg-type]


@pytest.mark.parametrize("latent_mode", ["last", "per-step"])
def test_ideal_hardware_gives_the_software_s_figures(latent_mode: str) -> None:
    software, hardware = make_sides(latent_mode=latent_mode)

    ours, theirs = (evaluate_honest(side, SENTENCES, importance_sentences=4) for side in (software, hardware))
    assert set(ours.importance) == set(theirs.importance) == {1, 5, 50}
    assert flat(theirs.to_json()) == pytest.approx(flat(ours.to_json()), rel=1e-6, abs=1e-9)
    paper = [evaluate_paper(side, SENTENCES).to_json() for side in (software, hardware)]
    assert flat(paper[1]) == pytest.approx(flat(paper[0]), rel=1e-6, abs=1e-9)
    quality = [evaluate_quality(side, side.encode(SENTENCES), 0, 1) for side in (software, hardware)]
    assert quality[0] == quality[1]
    vocabulary = make_checkpoint().vocabulary
    said = [speak_prior(side, vocabulary, 5, 0) for side in (software, hardware)]
    assert said[0] == said[1]
    way = [interpolate(side, vocabulary, side.encode(SENTENCES[:2]), 4) for side in (software, hardware)]
    assert way[0] == way[1]


@pytest.mark.parametrize("latent_mode", ["last", "per-step"])
def test_posteriors_of_every_step_are_torchs(latent_mode: str) -> None:
    _, hardware = make_sides(latent_mode=latent_mode)
    wanted = encode_sentences(make_checkpoint(latent_mode=latent_mode).build_model().double(), SENTENCES)

    for found, each in zip(hardware.encode(SENTENCES), wanted, strict=True):
        assert (found.place, found.ids, found.latent_mode) == (each.place, each.ids, latent_mode)
        torch.testing.assert_close(found.mu, each.mu, atol=1e-9, rtol=1e-9)
        torch.testing.assert_close(found.logvar, each.logvar, atol=1e-9, rtol=1e-9)


def test_ideal_hardware_adds_no_inference_gap() -> None:
    software, hardware = make_sides()
    sentences = SENTENCES[:6]
    found = measure_gaps(software, software.encode(sentences), 0, 2, (hardware, hardware.encode(sentences)))

    assert found.encoder_cost is not None and found.hardware is not None and found.crossed is not None
    assert found.encoder_cost.value == pytest.approx(0, abs=1e-9)
    assert found.crossed.value == pytest.approx(found.software.encoded.value)
    assert _values(found.hardware) == pytest.approx(_values(found.software), rel=1e-6)

    more = measure_gaps(
        SoftwareSide(software.model), software.encode(sentences), 0, 2, (hardware, hardware.encode(sentences))
    )
    assert (more.software.draws, more.hardware.draws) == (500, 50)
    assert more.software.encoded.value == pytest.approx(found.software.encoded.value)  # means over the same 50
    assert more.software.log_p.value != found.software.log_p.value


def _values(gaps: object) -> list[float]:
    names = ("log_p", "best", "encoded", "approximation", "amortisation")
    return [getattr(gaps, name).value for name in names]


def test_imperfect_hardware_costs_and_its_bounds_are_ordered() -> None:
    software, hardware = make_sides("default", ("device.sigma=0.1", "adc.bits=6"))
    sentences = SENTENCES[:10]
    theirs = hardware.encode(sentences)
    bounds = importance_bounds(hardware, theirs, seed=0)
    assert (bounds[50] <= bounds[5]).all() and (bounds[5] <= bounds[1]).all()

    found = measure_gaps(software, software.encode(sentences), 0, 2, (hardware, theirs))
    assert found.hardware is not None and found.crossed is not None
    for decoder in (found.software, found.hardware):
        assert decoder.approximation.value >= -3 * decoder.approximation.standard_error
    off = found.software.best.value - found.crossed.value  # q* is the best for the software decoder
    assert off > 0


def test_read_noise_is_new_in_every_read_and_the_same_in_every_run() -> None:
    first, again = (make_sides("default", READ_NOISE)[1] for _ in range(2))
    latents = [posterior.centre() for posterior in make_sides()[0].encode(SENTENCES)]

    costs = [first.costs(SENTENCES, latents) for _ in range(2)]

    assert (costs[0] != costs[1]).all()
    np.testing.assert_array_equal(again.costs(SENTENCES, latents), costs[0])


def test_reads_that_are_not_compared_are_the_same() -> None:
    build = make_build(None, "default", ("device.sigma=0.1",))
    compared, bare = (Simulation(build, NodalEngine(build), compared=flag) for flag in (True, False))
    for ours, theirs in zip(compared.encode_steps(SENTENCES), bare.encode_steps(SENTENCES), strict=True):
        np.testing.assert_array_equal(ours[0], theirs[0])
    assert len(compared.traces["encoder1"].codes) and not len(bare.traces["encoder1"].codes)


# the software side, against torch's own functions


@torch.no_grad()
@pytest.mark.parametrize("latent_mode", ["last", "per-step"])
def test_teacher_forced_words_and_costs_are_torchs(latent_mode: str) -> None:
    model = make_checkpoint(latent_mode=latent_mode).build_model()
    side = SoftwareSide(model)
    posteriors = side.encode(SENTENCES)
    latents = [posterior.centre() for posterior in posteriors]

    forced, costs = side.forced(SENTENCES, latents), side.costs(SENTENCES, latents)

    for ids, z, words, cost in zip(SENTENCES, latents, forced, costs, strict=True):
        tokens = pad_batch([ids])
        scores = model.output(model.decode(tokens[:, :-1], z.expand(len(ids) + 1, -1)[None]))[0]
        assert cost == pytest.approx(float(functional.cross_entropy(scores, tokens[0, 1:], reduction="sum")), rel=1e-5)
        scores[:, [PAD, SOS]] = -torch.inf
        assert words == tuple(scores.argmax(1).tolist())


def test_free_words_are_those_of_reconstruct() -> None:
    for latent_mode in ("last", "per-step"):
        model = make_checkpoint(latent_mode=latent_mode).build_model().double()
        side = SoftwareSide(model)
        means = [posterior.centre() for posterior in side.encode(SENTENCES)]
        zeros = [np.zeros((1 if latent_mode == "last" else len(ids) + 2, 4)) for ids in SENTENCES]
        wanted = [each.tokens for each in model.reconstruct_all(SENTENCES, zeros)]
        said = side.speak(means)
        if latent_mode == "last":
            assert said == wanted
        else:  # past the end of the sentence another latent is repeated
            for ids, ours, theirs in zip(SENTENCES, said, wanted, strict=True):
                assert ours[: len(ids) + 1] == theirs[: len(ids) + 1]


def test_words_compared_by_hand() -> None:
    sources = [(4, 5, 6, 7, 8), (9,)]
    forced = [(4, 5, 6, 4, 8, EOS), (9, 9)]
    said = [(4, 5, 6, 7), (9,)]

    found = compare_words(sources, forced, said)

    assert found.forced == 6 / 8
    assert found.free == 5 / 6
    assert found.exact == 1 / 2
    assert found.bleu == pytest.approx(np.exp(1 - 6 / 5))  # every n-gram is right, five words for six


def test_the_prior_is_standard_normal_and_the_way_is_straight() -> None:
    config = make_checkpoint().config
    drawn = torch.stack(prior_latents(config, 20_000, 0))
    assert drawn.shape == (20_000, 1, 4)
    assert float(drawn.mean().abs()) < 0.02 and float(drawn.std()) == pytest.approx(1, abs=0.02)
    assert prior_latents(make_checkpoint(latent_mode="per-step").config, 2, 0)[0].shape == (20, 4)

    side = SoftwareSide(make_checkpoint().build_model())
    posteriors = side.encode(SENTENCES[:2])
    found = interpolate(side, make_checkpoint().vocabulary, posteriors, 3)
    ends = [posterior.centre() for posterior in posteriors]
    wanted = side.speak([ends[0], (ends[0] + ends[1]) / 2, ends[1]])
    assert found.said == tuple(make_checkpoint().vocabulary.decode(ids) for ids in wanted)
    assert found.first == make_checkpoint().vocabulary.decode(SENTENCES[0])
