"""Flows, learned priors and latents found by search: densities, KLs, causality, and what a step does."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hvae_mnn.model.evaluation.evaluate import evaluate_honest, evaluate_paper
from hvae_mnn.model.evaluation.information import mean_kl_steps, mutual_information
from hvae_mnn.model.evaluation.posterior_kinds import follow_prior
from hvae_mnn.model.evaluation.posteriors import Posterior, encode_sentences, reconstruction
from hvae_mnn.model.evaluation.sampling import say_from_prior
from hvae_mnn.model.network.losses import kl_between, kl_divergence
from hvae_mnn.model.network.planar import count_parameters, planar_flow, planar_inverse
from hvae_mnn.model.network.refinement import fit_gaussian, langevin, refine
from hvae_mnn.model.network.vae import ModelConfig, TextVae, best_token, pad_batch

SENTENCES = [(4, 5, 6), (7, 4), (8, 8, 5, 9, 6)]
KINDS: dict[str, dict[str, Any]] = {
    "encoder": {},
    "one layer": {"encoder": ("gru",), "hidden": (6, 7)},
    "flow": {"posterior": "flow", "posterior_steps": 3},
    "svi": {"posterior": "svi", "posterior_steps": 4, "posterior_rate": 0.5},
    "langevin": {"posterior": "langevin", "posterior_steps": 5, "posterior_rate": 0.3},
    "per-step": {"latent_mode": "per-step"},
    "prior": {"latent_mode": "per-step", "prior": "learned"},
}

pytestmark = pytest.mark.usefixtures("one_thread")


def make_model(kind: str, seed: int = 0, scale: float = 3.0) -> TextVae:
    """Return a random network whose latents say something, in float64 and evaluation mode."""
    torch.manual_seed(seed)
    sizes: dict[str, Any] = {"vocabulary_size": 12, "embedding": 5, "hidden": 7, "latent": 3, "max_length": 9}
    model = TextVae(ModelConfig(**(sizes | KINDS[kind]))).double().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.mul_(1 if "embedding" in name else scale)
    return model


def random_sentences(count: int, seed: int = 0) -> list[tuple[int, ...]]:
    rng = np.random.default_rng(seed)
    return [tuple(rng.integers(4, 12, length).tolist()) for length in rng.integers(1, 8, count)]


@pytest.mark.parametrize("kind", KINDS)
def test_the_kl_is_the_mean_of_the_log_ratio(kind: str) -> None:
    """Monte Carlo over many draws of 40 sentences, within 1 %."""
    scale = {"flow": 2.0, "prior": 1.0}.get(kind, 3.0)
    posteriors = encode_sentences(make_model(kind, scale=scale), random_sentences(40))

    drawn = [-float(each.log_ratio(each.noise(1, 7, 10000)).mean()) for each in posteriors]

    assert np.mean([each.kl() for each in posteriors]) == pytest.approx(np.mean(drawn), rel=0.01)
    assert np.mean(drawn) > 0.2  # there is something to measure


@pytest.mark.parametrize("kind", KINDS)
def test_importance_weights_have_the_mean_that_the_prior_gives(kind: str) -> None:
    """E_q[p(x|z) p(z) / q(z|x)] = E_p[p(x|z)] = p(x): log ratio, latents and prior latents belong together."""
    model = make_model(kind, scale=1.0)
    (posterior,) = encode_sentences(model, [(4, 5)])
    eps, other = posterior.noise(1, 7, 20000), posterior.noise(2, 7, 20000)
    ids = [posterior.ids] * len(eps)

    weights = torch.exp(posterior.log_ratio(eps) - reconstruction(model, ids, list(posterior.latents(eps))))
    plain = torch.exp(-reconstruction(model, ids, list(posterior.prior_latents(other))))

    error = math.sqrt((weights.var() + plain.var()) / len(eps))
    assert abs(float(weights.mean() - plain.mean())) < 4 * error
    assert error < 0.05 * float(plain.mean())


@pytest.mark.parametrize("kind", KINDS)
def test_posteriors_do_not_depend_on_the_batch(kind: str) -> None:
    model = make_model(kind)
    together = encode_sentences(model, SENTENCES)

    for place, ids in enumerate(SENTENCES):
        (alone,) = encode_sentences(model, [ids])
        torch.testing.assert_close(alone.mu, together[place].mu, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(alone.logvar, together[place].logvar, rtol=1e-9, atol=1e-9)


def test_searched_posteriors_come_in_smaller_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their steps need the scores of all words; the batch does not change them."""
    model, widths = make_model("svi"), []
    whole = encode_sentences(model, SENTENCES)
    infer = TextVae.infer
    monkeypatch.setattr(TextVae, "infer", lambda self, tokens: widths.append(len(tokens)) or infer(self, tokens))
    monkeypatch.setattr("hvae_mnn.model.evaluation.posteriors._SEARCHED", 12 * 10)

    parts = encode_sentences(model, SENTENCES)

    assert widths == [2, 1]  # 4 and 5 tokens, padded; then 7
    for one, two in zip(whole, parts, strict=True):
        torch.testing.assert_close(one.mu, two.mu, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", ["encoder", "flow", "per-step", "prior"])
def test_what_is_said_from_the_prior_is_what_its_latents_make_likely(kind: str) -> None:
    """Read back with the latents that the same noise makes, each word is the most likely one."""
    model = make_model(kind)
    single = model.config.latent_mode == "last"
    eps = torch.randn(30, 1 if single else 9, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    said = say_from_prior(model, eps)

    assert len({len(words) for words in said}) > 1
    for words, noise in zip(said, eps, strict=True):
        inputs = pad_batch([words])[:, :-1]
        driving = noise[None].expand(1, inputs.shape[1], -1) if single else noise[None, : inputs.shape[1]]
        inputs = inputs[:, : driving.shape[1]]  # where the limit came before <eos>
        with torch.no_grad():
            z = follow_prior(model, driving, inputs)[0] if kind == "prior" else driving
            logits = model.output(model.decode(inputs, z))[0]
        assert best_token(logits).tolist()[: len(words)] == list(words)


@pytest.mark.parametrize("kind", ["flow", "prior", "svi", "langevin"])
def test_training_and_evaluation_count_the_same_kl(kind: str) -> None:
    """`Losses` over many draws against the posterior's own figure."""
    model = make_model(kind, scale=1.0 if kind == "prior" else 1.5)
    tokens = pad_batch(SENTENCES)
    generator = torch.Generator().manual_seed(0)
    count = 400 if kind in ("flow", "prior") else 1  # the others are closed

    with torch.no_grad():
        drawn = [model.losses(tokens, generator).kl_driving(model.config.latent_mode) for _ in range(count)]

    expected = [posterior.kl() for posterior in encode_sentences(model, SENTENCES)]
    np.testing.assert_allclose(torch.stack(drawn).mean(0).numpy(), expected, rtol=0.05)


@pytest.mark.parametrize("latent", [1, 4])
def test_the_log_determinant_is_that_of_the_jacobian(latent: int) -> None:
    torch.manual_seed(0)
    for _ in range(5):
        z = torch.randn(latent, dtype=torch.float64)
        parameters = 2 * torch.randn(count_parameters(latent, 3), dtype=torch.float64)

        jacobian = torch.autograd.functional.jacobian(lambda at, p=parameters: planar_flow(at, p)[0], z)

        sign, expected = np.linalg.slogdet(jacobian.numpy())
        assert sign == 1
        assert float(planar_flow(z, parameters)[1]) == pytest.approx(float(expected), abs=1e-10)


@pytest.mark.parametrize("size", [0.0, 1e-7, 1e-3])
def test_the_log_determinant_of_a_flow_that_hardly_looks_at_z_is_that_of_the_jacobian(size: float) -> None:
    z, parameters = torch.randn(3, dtype=torch.float64), 2 * torch.randn(count_parameters(3, 1), dtype=torch.float64)
    parameters[3:6] *= size

    jacobian = torch.autograd.functional.jacobian(lambda at: planar_flow(at, parameters)[0], z)

    moved, log_det = planar_flow(z, parameters)
    assert float(log_det) == pytest.approx(float(np.linalg.slogdet(jacobian.numpy())[1]), abs=1e-10)
    torch.testing.assert_close(planar_inverse(moved, parameters)[0], z)


def test_flows_are_undone() -> None:
    torch.manual_seed(1)
    z, parameters = torch.randn(50, 4).double(), 3 * torch.randn(50, count_parameters(4, 5)).double()

    moved, log_det = planar_flow(z, parameters)
    back, same = planar_inverse(moved, parameters)

    torch.testing.assert_close(back, z, rtol=0, atol=1e-8)
    torch.testing.assert_close(same, log_det, rtol=0, atol=1e-8)
    assert float((moved - z).abs().max()) > 1


@pytest.mark.parametrize("inner", [-5.0, -15.0, -30.0, -60.0, -150.0])
def test_the_log_determinant_of_a_nearly_flat_map_is_exact_in_float32(inner: float) -> None:
    """w.u' = softplus(w.u) - 1 is -1 in float32; log(1 + (1 - tanh^2) w.u') in long doubles, or close to it, is not."""
    rng = np.random.default_rng(0)
    w = rng.normal(size=(500, 3))
    u = w * (inner / np.square(w).sum(1))[:, None]
    z, height = rng.normal(size=(500, 3)), rng.normal(size=500) * np.repeat([0.0, 1e-3, 0.1, 1, 3], 100)
    b = height - (w * z).sum(1)
    narrow = [torch.from_numpy(each.astype(np.float32)) for each in (z, np.concatenate([u, w, b[:, None]], axis=1))]
    parameters = narrow[1].clone().requires_grad_()

    _, found = planar_flow(narrow[0], parameters)
    found.sum().backward()
    _, exact = planar_flow(narrow[0].double(), narrow[1].double())

    at, (own_u, own_w, own_b) = (
        narrow[0].numpy().astype(np.longdouble),
        np.split(narrow[1].numpy().astype(np.longdouble), [3, 6], axis=1),
    )
    square = np.square(np.tanh((own_w * at).sum(1) + own_b[:, 0]))
    wanted = np.log(square + (1 - square) * np.log1p(np.exp((own_w * own_u).sum(1))))
    np.testing.assert_allclose(exact.numpy(), wanted.astype(np.float64), rtol=1e-7)
    far = np.abs(height) >= 1e-3  # nearer, tanh is as uncertain in float32 as it is large
    np.testing.assert_allclose(found.detach().numpy()[far], wanted.astype(np.float64)[far], atol=0.02)
    assert bool(torch.isfinite(found).all()) and bool(torch.isfinite(parameters.grad).all())


def test_information_behind_one_flow_is_that_before_it() -> None:
    """An invertible map that is the same for all sentences changes no mutual information."""
    torch.manual_seed(2)
    mu, logvar = 2 * torch.randn(60, 3).double(), torch.randn(60, 3).double() - 2
    z = mu + torch.exp(logvar / 2) * torch.randn(60, 3).double()
    flow = torch.randn(1, count_parameters(3, 4)).double().expand(60, -1)

    assert mutual_information(planar_flow(z, flow)[0], mu, logvar, flow) == pytest.approx(
        mutual_information(z, mu, logvar), abs=1e-6
    )


def test_the_kl_of_two_gaussians_by_hand() -> None:
    one, two = torch.tensor([1.0, 0.0]), torch.tensor([0.0, math.log(4.0)])

    assert float(kl_between(one, two, torch.zeros(2), torch.zeros(2))) == pytest.approx(float(kl_divergence(one, two)))
    expected = 0.5 * (math.log(9) - 0 + 1 / 9 + (1 - 3) ** 2 / 9 - 1)
    found = kl_between(torch.tensor([1.0]), torch.tensor([0.0]), torch.tensor([3.0]), torch.tensor([math.log(9.0)]))
    assert float(found) == pytest.approx(expected)


def logits_and_prior(model: TextVae, tokens: Tensor, z: Tensor) -> tuple[Tensor, ...]:
    hidden = model.decode(tokens[:, :-1], z)
    return model.output(hidden), *model.prior_steps(tokens[:, :-1], hidden)


def test_a_learned_prior_sees_the_past_alone() -> None:
    """A later word or latent moves neither the prior at t nor, at the same latents, the logits at t."""
    model = make_model("prior")
    tokens = pad_batch([(4, 5, 6, 7, 8, 9)])
    z = torch.randn(1, 7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    before = logits_and_prior(model, tokens, z)
    for t in range(6):
        changed = tokens.clone()
        changed[:, t + 1] = 11
        for was, now in zip(before, logits_and_prior(model, changed, z), strict=True):
            assert torch.equal(was[:, : t + 1], now[:, : t + 1])
            assert not torch.equal(was[:, t + 1], now[:, t + 1])
        moved = z.clone()
        moved[:, t] += 1
        logits, mean, spread = logits_and_prior(model, tokens, moved)
        assert torch.equal(mean[:, : t + 1], before[1][:, : t + 1])  # p(z_t | z_<t): its own z does not move it
        assert torch.equal(spread[:, : t + 1], before[2][:, : t + 1])
        assert not torch.equal(mean[:, t + 1], before[1][:, t + 1])
        assert torch.equal(logits[:, :t], before[0][:, :t]) or t == 0  # the first state reads z_1


def test_draws_from_a_learned_prior_are_its_own() -> None:
    """Put through the prior again, each latent is mean + deviation times the noise that drew it."""
    model = make_model("prior")
    inputs = pad_batch([(4, 5, 6, 7)])[:, :-1]
    eps = torch.randn(1, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    with torch.no_grad():
        z, _ = follow_prior(model, eps, inputs)
        mean, spread = model.prior_steps(inputs, model.decode(inputs, z))

    torch.testing.assert_close((z - mean) * torch.exp(-spread / 2), eps)


def test_the_posterior_of_a_learned_prior_reads_the_word_that_its_step_predicts() -> None:
    model = make_model("prior")
    one, two = (encode_sentences(model, [ids])[0].driving()[0] for ids in ((4, 5, 6), (4, 5, 7)))

    assert one.shape == (4, 3)
    assert torch.equal(one[:2], two[:2])
    assert not torch.equal(one[2], two[2])


def test_the_curve_of_a_learned_prior_has_the_latents_that_drive_alone() -> None:
    """No zero for the step at `<eos>`, which there is not: KLs by hand from the prior along the mean path."""
    model = make_model("prior", scale=1.0)
    sentences = [(4, 5, 6), (7, 4)]
    posteriors = encode_sentences(model, sentences)
    with torch.no_grad():
        model.prior.inner.weight[:, 5:] = 0  # the prior sees the word alone, so that its KL needs no draws
    wanted = []
    for ids in sentences:
        tokens = pad_batch([ids])
        with torch.no_grad():
            mu, logvar = (part[0, 1:] for part in model.encode(tokens))
            mean, spread = model.prior.at_step(
                model.decoder_embedding(tokens[0, :-1]), torch.zeros(tokens.shape[1] - 1, 7).double()
            )
        gap = torch.distributions.kl_divergence(
            torch.distributions.Normal(mu, torch.exp(logvar / 2)),
            torch.distributions.Normal(mean, torch.exp(spread / 2)),
        )
        wanted.append(gap.sum(1))

    curve, counts = mean_kl_steps(posteriors)
    found = evaluate_honest(model, sentences, importance_sentences=2)
    paper = evaluate_paper(model, sentences)

    assert counts == found.kl_counts == (2, 2, 2, 1)
    expected = [float(wanted[0][t] + wanted[1][t]) / 2 for t in range(3)] + [float(wanted[0][3])]
    assert list(curve) == pytest.approx(expected) and min(curve) > 0
    assert found.kl_end == pytest.approx(float(wanted[0][-1] + wanted[1][-1]) / 2)
    assert found.kl_first == 2
    assert paper.kl == pytest.approx(float(wanted[0].sum() / 5 + wanted[1].sum() / 4) / 2)  # (1/T) sum as it is trained


@pytest.mark.parametrize("kind", ["flow", "langevin"])
def test_there_is_no_curve_where_only_the_last_token_has_a_kl(kind: str) -> None:
    found = evaluate_honest(make_model(kind), SENTENCES, importance_sentences=2)

    assert found.kl_steps == found.kl_counts == ()
    assert found.kl_end == pytest.approx(found.kl)


def negative_elbo(model: TextVae, posterior: Posterior) -> float:
    z = posterior.latents(posterior.noise(5, 5, 400))
    return float(reconstruction(model, [posterior.ids] * len(z), list(z)).mean()) + posterior.kl()


@pytest.mark.parametrize("steps", [1, 5, 20])
def test_refinement_lowers_the_bound(steps: int) -> None:
    model = make_model("svi")
    tokens = pad_batch(SENTENCES)
    with torch.no_grad():
        mu, logvar = (part[torch.arange(3), [4, 3, 6]] for part in model.encode(tokens))

    better = refine(model._cost(tokens), mu, logvar, steps=steps, rate=0.1)

    for place, ids in enumerate(SENTENCES):
        before = Posterior(place, ids, mu[place][None], logvar[place][None], "last")
        after = Posterior(place, ids, better[0][place][None], better[1][place][None], "last")
        assert negative_elbo(model, after) < negative_elbo(model, before) - 0.01


def test_gradients_go_through_all_refinement_steps() -> None:
    """Back-propagation against central differences with the same noise: second derivatives included."""
    model = make_model("svi", scale=1.0).train()
    tokens = pad_batch(SENTENCES)

    def loss() -> Tensor:
        torch.manual_seed(3)
        return model.losses(tokens).negative_elbo("last")

    loss().backward()
    for parameter in (model.mu.bias, model.logvar.bias, model.encoder1.weight_hh_l0, model.output.bias):
        flat, slope = parameter.data.view(-1), parameter.grad.view(-1)
        for place in (0, 2):
            value, sides = float(flat[place]), []
            for shift in (1e-5, -1e-5):
                flat[place] = value + shift
                sides.append(float(loss().detach()))
            flat[place] = value
            assert float(slope[place]) == pytest.approx((sides[0] - sides[1]) / 2e-5, rel=1e-4, abs=1e-8)


def gaussian_cost(observed: Tensor, variance: float) -> Any:
    """-log p(x | z), x = z + noise: with the prior N(0, 1) the posterior is N(x / (1 + v), v / (1 + v))."""
    return lambda z: 0.5 * (observed - z).square().sum(1) / variance


def test_a_fitted_gaussian_is_the_posterior_where_that_is_one() -> None:
    observed, variance = torch.tensor([[1.0, -2.0], [0.3, 4.0]]).double(), 0.25

    mu, logvar = fit_gaussian(gaussian_cost(observed, variance), torch.zeros(2, 2).double(), steps=400)

    torch.testing.assert_close(mu, observed / (1 + variance), rtol=0, atol=0.15)
    torch.testing.assert_close(
        torch.exp(logvar), torch.full((2, 2), variance / (1 + variance)).double(), rtol=0.3, atol=0
    )


def test_langevin_dynamics_draw_from_the_posterior() -> None:
    torch.manual_seed(0)
    observed, variance = torch.full((20000, 1), 2.0).double(), 1.0

    z = langevin(gaussian_cost(observed, variance), torch.randn(20000, 1).double(), steps=60, size=0.3, training=True)

    assert float(z.mean()) == pytest.approx(1.0, abs=0.02)
    assert float(z.var()) == pytest.approx(0.5, rel=0.06)


def test_langevin_lowers_the_reconstruction_loss() -> None:
    model = make_model("langevin")
    tokens = pad_batch(random_sentences(60))
    torch.manual_seed(0)

    with torch.no_grad():
        start = model.losses_at(tokens, torch.randn(60, 3).double()).reconstruction().mean()
        end = model.losses_at(tokens, model.explore(tokens)).reconstruction().mean()

    assert float(end) < float(start) - 0.1
