"""The batch normalisation of the posterior's mean: torch's, folded away exactly, and what it keeps up."""

from pathlib import Path

import pytest
import torch
from test_model_training import generated
from test_objectives import config_of

from hvae_mnn.model.network.vae import TextVae, pad_batch
from hvae_mnn.model.text.corpus import Corpus
from hvae_mnn.model.training.objectives.batch_norm import LastNorm
from hvae_mnn.model.training.train import train

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return generated()


def test_folding_the_batch_norm_is_exact(corpus: Corpus) -> None:
    torch.manual_seed(0)
    config = config_of("bn")
    objective = config.make_objective()
    model = TextVae(config.model_config(len(corpus.vocabulary)))
    objective.prepare(model)
    with torch.no_grad():
        model.mu_norm.beta.normal_()
        for start in range(0, 60, 20):
            model.train().encode(pad_batch(corpus.train[start : start + 20]))
    folded = TextVae(model.config)
    folded.load_state_dict(objective.exported(model.state_dict()))
    tokens = pad_batch(corpus.test)

    for one, two in zip(model.eval().encode(tokens), folded.eval().encode(tokens), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)
    assert float(model.mu_norm.running_mean.abs().max()) > 1e-3


def test_the_batch_norm_is_torchs_on_last_tokens() -> None:
    torch.manual_seed(0)
    norm, reference = LastNorm(3, 0.6), torch.nn.BatchNorm1d(3, momentum=0.1)
    with torch.no_grad():
        reference.weight.fill_(0.6)
    mu, last = torch.randn(50, 7, 3), torch.randint(7, (50, 1, 1)).expand(-1, 1, 3)

    with torch.no_grad():
        normalised = norm(mu, last)
        expected = reference(mu.gather(1, last)[:, 0])

    torch.testing.assert_close(normalised.gather(1, last)[:, 0], expected)
    assert float(normalised.gather(1, last).var(0, unbiased=False).mean()) == pytest.approx(0.36, rel=1e-3)


def test_the_batch_norm_keeps_the_kl_up(corpus: Corpus, tmp_path: Path) -> None:
    """E[KL] >= L gamma^2 / 2 (Zhu et al. 2020), where the plain bound lets it vanish."""
    runs = {name: train(corpus, config_of(name, kl_warmup=0.0), tmp_path / name, threads=1) for name in ("vae", "bn")}

    assert runs["bn"].metrics["kl"] > 0.9 * 4 * 0.6**2 / 2 > 3 * runs["vae"].metrics["kl"]
