"""The bench of sweeps: metrics against torch and closed forms, dies against what other commands compile and say."""

import math

import numpy as np
import pytest
import torch
from making import make_build, make_checkpoint, random_sentences

from hvae_mnn.compiler.pipeline import compile_model, draw_die
from hvae_mnn.engines.nodal import NodalEngine
from hvae_mnn.errors import EngineError
from hvae_mnn.experiments.sweep.bench import TrialBench, _equal_steps, driving, latents_kl
from hvae_mnn.experiments.sweep.metrics import LAYERS, METRICS
from hvae_mnn.hardware.files import load_hardware
from hvae_mnn.model.evaluation.posteriors import encode_sentences, reconstruction
from hvae_mnn.model.network.vae import pad_batch
from hvae_mnn.model.text.corpus import EOS, PAD
from hvae_mnn.simulation.orchestrator import DigitalHalf, Latent, Simulation
from hvae_mnn.simulation.run import share_equal
from hvae_mnn.simulation.sentence import draw_noise

pytestmark = pytest.mark.usefixtures("one_thread")

SENTENCES = random_sentences(12, seed=3, vocabulary_size=9)
VARIED = (
    "device.sigma=0.1",
    "stuck.p_hrs=0.02",
    "amplifier.gain=1e4",
    "amplifier.offset_sigma=0.001",
    "adc.inl=0.5",
    "array.tile_rows=7",
)


def make_bench(**checkpoint: object) -> TrialBench:
    return TrialBench(make_checkpoint(**checkpoint), SENTENCES, seed=5)  # type: ignore[arg-type]


@pytest.mark.parametrize("latent_mode", ["last", "per-step"])
def test_the_software_figures_are_torchs(latent_mode: str) -> None:
    checkpoint = make_checkpoint(latent_mode=latent_mode)
    found = make_bench(latent_mode=latent_mode).software()
    model = checkpoint.build_model().double()
    posteriors = encode_sentences(model, SENTENCES)
    latents = []
    for i, (posterior, ids) in enumerate(zip(posteriors, SENTENCES, strict=True)):
        eps = torch.from_numpy(np.atleast_2d(checkpoint.config.draw_noise(len(ids), 5 + i)))
        latents.append(posterior.latents(eps[None, : len(posterior.driving()[0])])[0])
    wanted = float(reconstruction(model, SENTENCES, latents).mean())
    assert found["reconstruction"] == pytest.approx(wanted, rel=1e-6)
    kl = float(np.mean([posterior.kl() for posterior in posteriors]))
    assert found["kl"] == pytest.approx(kl, rel=1e-9)
    assert found["elbo"] == found["reconstruction"] + found["kl"]


@pytest.mark.parametrize("latent_mode", ["last", "per-step"])
def test_ideal_hardware_is_software(latent_mode: str) -> None:
    bench = make_bench(latent_mode=latent_mode)
    (found,) = bench.measure(load_hardware("ideal"), [0])
    assert tuple(found) == tuple(metric.name for metric in METRICS)
    assert found["agreement_free"] == found["agreement_forced"] == found["whole"] == 1
    assert found["kl_shift"] == pytest.approx(0, abs=1e-12)
    assert max(found[name] for name in ("mu_shift", "z_shift")) < 1e-9
    for name, value in bench.software().items():
        assert found[name] == pytest.approx(value, rel=1e-6)
    assert all(found[f"rms_{layer}"] < 1e-12 for layer in LAYERS)
    free = [len(side.tokens) + 1 for side in _software_words(bench, latent_mode)]
    assert found["first_divergence"] <= np.mean(free)


def _software_words(bench: TrialBench, latent_mode: str) -> list:  # type: ignore[type-arg]
    checkpoint = make_checkpoint(latent_mode=latent_mode)
    noises = [checkpoint.config.draw_noise(len(ids), 5 + i) for i, ids in enumerate(SENTENCES)]
    return checkpoint.build_model().double().reconstruct_all(SENTENCES, noises)


def test_a_row_does_not_depend_on_its_company() -> None:
    bench, hardware = make_bench(), load_hardware("default", VARIED)
    together = bench.measure(hardware, range(24))  # more than are simulated at once
    for seed in (0, 7, 23):
        assert make_bench().measure(hardware, [seed])[0] == together[seed]
    assert bench.measure(hardware, [22, 23, 24])[1] == together[23]
    assert together[0] != together[1]


def test_a_die_is_what_compiling_with_its_seed_gives() -> None:
    nominal = make_build(None, "default", VARIED)
    die = draw_die(nominal, 9)
    wanted = compile_model(make_checkpoint(), load_hardware("default", (*VARIED, "device.seed=9")), "default")
    assert die.manifest == wanted.manifest
    for name, tile in wanted.tiles.items():
        np.testing.assert_array_equal(die.tiles[name].g, tile.g)
        assert (die.tiles[name].g != nominal.tiles[name].g).any()


def test_a_trial_says_what_a_simulation_of_its_die_says() -> None:
    """The metrics written out again from an ordinary simulation and from torch."""
    checkpoint = make_checkpoint()
    build = compile_model(checkpoint, load_hardware("default", (*VARIED, "device.seed=4")), "default")
    noises = [draw_noise(build, ids, 5 + i) for i, ids in enumerate(SENTENCES)]
    outcomes = Simulation(build, NodalEngine(build)).run(SENTENCES, noises)
    software = checkpoint.build_model().double().reconstruct_all(SENTENCES, noises)
    (found,) = make_bench().measure(load_hardware("default", VARIED), [4])

    pairs = list(zip(outcomes, software, strict=True))
    agreement = [share_equal(ours.tokens, theirs.tokens) for ours, theirs in pairs]
    assert found["agreement_free"] == pytest.approx(np.mean(agreement))
    assert 0 < found["agreement_free"] < 1  # else this shows little
    shift = np.array([ours.mu - theirs.mu for ours, theirs in pairs])
    assert found["mu_shift"] == pytest.approx(np.sqrt(np.mean(shift**2)), rel=1e-9)

    p, q = ([torch.distributions.Normal(*_normal(side[i])) for side in pairs] for i in (0, 1))
    kl = [float(torch.distributions.kl_divergence(a, b).sum()) for a, b in zip(p, q, strict=True)]
    assert found["kl_shift"] == pytest.approx(np.mean(kl), rel=1e-9)


def _normal(side: Latent) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(side.mu), torch.from_numpy(np.exp(side.logvar / 2))


def test_reading_along_costs_what_torch_says_of_the_same_hidden_states() -> None:
    build = make_build(None, "default", VARIED)
    simulation = Simulation(build, NodalEngine(build))
    noises = [draw_noise(build, ids, i) for i, ids in enumerate(SENTENCES)]
    latents = simulation.encode(SENTENCES, noises)
    hidden = simulation.read_along(SENTENCES, latents)
    projection = DigitalHalf.of_build(build).projection
    output = build.checkpoint.build_model().double().output
    for ids, h in zip(SENTENCES, hidden, strict=True):
        targets = np.array([*ids, EOS])
        costs, _ = projection.weigh(h, targets)
        logits = output(torch.from_numpy(h))
        wanted = torch.nn.functional.cross_entropy(logits, torch.from_numpy(targets), reduction="none")
        np.testing.assert_allclose(costs, wanted.detach().numpy(), rtol=1e-5, atol=1e-6)


def test_the_model_reads_along_as_it_decodes() -> None:
    model = make_checkpoint().build_model().double()
    z = [np.random.default_rng(i).standard_normal(4) for i in range(len(SENTENCES))]
    found = model.read_along(SENTENCES, z)
    tokens = pad_batch(SENTENCES)
    drives = torch.from_numpy(np.array(z))[:, None].expand(-1, tokens.shape[1] - 1, -1)
    with torch.no_grad():
        wanted = model.decode(tokens[:, :-1], drives)
    for i, ids in enumerate(SENTENCES):
        assert tokens[i, len(ids) + 2 :].eq(PAD).all()
        np.testing.assert_allclose(found[i], wanted[i, : len(ids) + 1].numpy(), atol=1e-12)


def test_software_sentences_read_along_as_torch_does() -> None:
    """The orchestrator's teacher-forced pass on exact sums gives torch's hidden states."""
    build = make_build(None, "ideal", latent_mode="per-step")
    simulation = Simulation(build, NodalEngine(build))
    latents = simulation.encode(SENTENCES, [draw_noise(build, ids, i) for i, ids in enumerate(SENTENCES)])
    found = simulation.read_along(SENTENCES, latents)
    wanted = build.checkpoint.build_model().double().read_along(SENTENCES, [latent.z for latent in latents])
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-7)


def test_kl_of_gaussians() -> None:
    """One unit, N(1, 4) from N(0, 1): (4 + 1 - 1 - ln 4) / 2."""
    p = Latent(np.array([[1.0]]), np.array([[math.log(4)]]), np.zeros((1, 1)))
    q = Latent(*np.zeros((3, 1, 1)))
    assert latents_kl(p, q) == pytest.approx((4 - math.log(4)) / 2)
    assert latents_kl(q, q) == 0


def test_the_latent_of_the_end_drives_nothing_per_step() -> None:
    latent = Latent(*np.arange(18.0).reshape(3, 3, 2))
    assert driving([latent, latent], "per-step").mu.shape == (4, 2)
    assert driving([latent], "last").mu.shape == (3, 2)


def test_steps_before_the_words_part() -> None:
    assert _equal_steps((4, 5, EOS), (4, 5, EOS)) == 3
    assert _equal_steps((4, EOS), (4, 5, EOS)) == 1
    assert _equal_steps((6, EOS), (4, 5, EOS)) == 0


def test_torch_multiplies_as_numpy_does() -> None:
    hardware = load_hardware("default", VARIED)
    numpys, torchs = (
        TrialBench(make_checkpoint(), SENTENCES, seed=5, device=device).measure(hardware, [1, 2])
        for device in (None, "cpu")
    )
    for ours, theirs in zip(torchs, numpys, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-6, abs=1e-9)


def test_a_device_that_torch_has_not_is_refused() -> None:
    with pytest.raises(EngineError, match=r"^device gpu0: torch cannot use it \(.+\); expected for example cuda"):
        TrialBench(make_checkpoint(), SENTENCES, device="gpu0")


@pytest.mark.ngspice
def test_ngspice_measures_the_same_die() -> None:
    bench, hardware = make_bench(), load_hardware("default", VARIED)
    (nodal,) = bench.measure(hardware, [2])
    spice, check = bench.measure_spice(hardware, 2, workers=1, check=True)
    assert check["values"] > 10_000
    assert check["largest_analog"] < 1e-4
    assert check["largest_lsb"] <= 1
    assert check["equal_codes"] >= 0.999
    for name in ("agreement_free", "agreement_forced", "kl_shift", "elbo"):
        assert spice[name] == pytest.approx(nodal[name], rel=0.05)
    assert bench.measure_spice(hardware, 2, workers=1)[0] == spice


@pytest.mark.parametrize("sentences", [1, 3])
def test_dies_of_wide_layers_do_not_depend_on_their_company(sentences: int) -> None:
    """Rows of one sentence and of several lie differently in memory, and are summed in another order."""
    checkpoint = make_checkpoint(embedding=64, hidden=64, latent=8)
    drawn = random_sentences(sentences, seed=2, vocabulary_size=9)
    hardware = load_hardware("default", ["device.sigma=0.1"])
    together = TrialBench(checkpoint, drawn).measure(hardware, range(4))
    assert [TrialBench(checkpoint, drawn).measure(hardware, [seed])[0] for seed in range(4)] == together
