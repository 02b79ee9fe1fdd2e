import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from hvae_mnn.errors import CheckpointError, SentenceError
from hvae_mnn.model.network.vae import CELLS, ModelConfig, TextVae, best_token, kl_divergence, pad_batch
from hvae_mnn.model.text.corpus import EOS, PAD, SOS, UNK

SENTENCES = [(4, 5, 6), (7, 4), (8, 8, 5, 9, 6)]


def small_config(**changes: object) -> ModelConfig:
    sizes: dict[str, object] = {
        "vocabulary_size": 12, "embedding": 5, "hidden": 7, "latent": 3, "max_length": 9
    }  # fmt: skip
    return ModelConfig(**(sizes | changes))  # type: ignore[arg-type]


def small_model(seed: int = 0, **changes: object) -> TextVae:
    torch.manual_seed(seed)
    return TextVae(small_config(**changes)).double().eval()


class LeakingVae(TextVae):
    """The mistake the causality test is for: each step is given the latent of the token it predicts."""

    def driving_latents(self, tokens: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, ...]:
        mu, logvar = self.encode(tokens)
        return mu[:, 1:], mu, logvar


def logits_of(model: TextVae, tokens: Tensor) -> Tensor:
    z, _, _ = model.driving_latents(tokens, torch.Generator().manual_seed(3))
    return model.output(model.decode(tokens[:, :-1], z))


def farthest_leak(model: TextVae) -> float:
    """Return how far logits at steps <= t move when only the tokens after t are changed."""
    tokens = pad_batch([(4, 5, 6, 7, 8, 9)])
    before = logits_of(model, tokens)
    worst = 0.0
    for t in range(tokens.shape[1] - 2):
        changed = tokens.clone()
        changed[:, t + 1] = 11
        after = logits_of(model, changed)
        worst = max(worst, float((after - before)[:, : t + 1].abs().max().detach()))
        assert not torch.equal(after[:, t + 1], before[:, t + 1])
    return worst


@pytest.mark.parametrize("cell", CELLS)
def test_per_step_latents_are_causal(cell: str) -> None:
    assert farthest_leak(small_model(latent_mode="per-step", encoder=(cell, cell), decoder=cell)) == 0


def test_the_causality_test_sees_a_shift_by_one() -> None:
    torch.manual_seed(0)
    leaking = LeakingVae(small_config(latent_mode="per-step")).double().eval()

    assert farthest_leak(leaking) > 1e-6


def test_the_last_latent_sees_the_whole_sentence() -> None:
    model = small_model()
    whole = model.encode(pad_batch([(4, 5, 6)]))[0][0, -1]

    assert not torch.allclose(whole, model.encode(pad_batch([(9, 5, 6)]))[0][0, -1])


def test_the_divergence_in_closed_form_with_its_signs() -> None:
    zero = torch.zeros(1)

    assert kl_divergence(zero, zero).item() == 0
    assert kl_divergence(zero + 2, zero).item() == pytest.approx(2.0)  # mu^2 / 2: the paper prints -2
    assert kl_divergence(zero, zero + math.log(4)).item() == pytest.approx(0.5 * (4 - 1 - math.log(4)))


def test_the_divergence_agrees_with_monte_carlo() -> None:
    mu, logvar = torch.tensor([0.7, -1.2, 0.1]), torch.tensor([-0.5, 0.3, -2.0])
    rng = np.random.default_rng(1)
    eps = rng.standard_normal((200_000, 3))
    z = mu.numpy() + np.exp(logvar.numpy() / 2) * eps
    log_q = -0.5 * (eps**2 + logvar.numpy())
    draws = (log_q + 0.5 * z**2).sum(1)

    expected = kl_divergence(mu, logvar).item()

    assert draws.mean() == pytest.approx(expected, abs=3 * draws.std() / math.sqrt(len(draws)))


@torch.no_grad()
def test_the_loss_adds_words_and_the_end_and_the_mean_divergence() -> None:
    model = small_model()
    tokens = pad_batch(SENTENCES)

    losses = model.losses(tokens, torch.Generator().manual_seed(5))

    z, mu, logvar = model.driving_latents(tokens, torch.Generator().manual_seed(5))
    logits = model.output(model.decode(tokens[:, :-1], z))
    for row, sentence in enumerate(SENTENCES):
        steps = len(sentence) + 1
        log_p = functional.log_softmax(logits[row, :steps], dim=1)
        nll = -sum(log_p[t, word] for t, word in enumerate((*sentence, EOS)))
        kl = kl_divergence(mu[row, : steps + 1], logvar[row, : steps + 1])
        assert losses.reconstruction()[row].item() == pytest.approx(float(nll))
        assert losses.kl_mean()[row].item() == pytest.approx(float(kl.mean()))
        assert losses.kl_last()[row].item() == pytest.approx(float(kl[-1]))
    expected = (losses.reconstruction() + losses.kl_mean()).mean()
    assert losses.objective().item() == pytest.approx(expected.item())
    assert losses.objective(0.0).item() == pytest.approx(losses.reconstruction().mean().item())


@pytest.mark.parametrize("mode", ["last", "per-step", "none"])
def test_padding_changes_nothing(mode: str) -> None:
    model = small_model(latent_mode=mode)
    together, alone = pad_batch(SENTENCES), pad_batch(SENTENCES[1:2])

    mu, logvar = model.encode(together)
    alone_mu, alone_logvar = model.encode(alone)

    torch.testing.assert_close(mu[1, :4], alone_mu[0])
    torch.testing.assert_close(logvar[1, :4], alone_logvar[0])
    assert torch.all(model.losses(together).kl[1, 4:] == 0)
    if mode != "none":
        return
    losses, losses_alone = model.losses(together), model.losses(alone)
    torch.testing.assert_close(losses.reconstruction()[1:2], losses_alone.reconstruction())


@pytest.mark.parametrize("decoder", CELLS)
@torch.no_grad()
def test_a_plain_language_model_is_a_decoder_from_rest(decoder: str) -> None:
    """The likelihood of each sentence from torch's own layer, alone, and no divergence."""
    model = small_model(latent_mode="none", decoder=decoder)
    tokens = pad_batch(SENTENCES)

    losses = model.losses(tokens)

    assert {name.partition(".")[0] for name in model.state_dict()} == {"decoder_embedding", "decoder", "output"}
    layer = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}[decoder](5, 7).double()
    layer.load_state_dict(model.decoder.state_dict())
    for row, sentence in enumerate(SENTENCES):
        words = torch.tensor([SOS, *sentence, EOS])
        hidden, _ = layer(model.decoder_embedding.weight[words[:-1]])
        log_p = functional.log_softmax(model.output(hidden), dim=1)
        nll = -sum(log_p[t, word] for t, word in enumerate(words[1:]))
        assert losses.reconstruction()[row].item() == pytest.approx(float(nll))
    assert losses.kl.shape == tokens.shape
    for zero in (losses.kl, losses.kl_mean(), losses.kl_driving("none")):
        assert torch.all(zero == 0)
    assert losses.objective().item() == pytest.approx(losses.reconstruction().mean().item())


def test_a_plain_language_model_reconstructs_nothing() -> None:
    with pytest.raises(CheckpointError, match=r"plain language model .* expected latent_mode last or per-step\. Use"):
        small_model(latent_mode="none").reconstruct((4, 5), np.zeros(3))


def test_per_step_bounds_count_every_latent_the_decoder_was_given() -> None:
    losses = small_model(latent_mode="per-step").losses(pad_batch(SENTENCES))

    torch.testing.assert_close(losses.kl_driving("per-step")[1], losses.kl[1, :3].sum())
    torch.testing.assert_close(losses.kl_driving("last"), losses.kl_last())


@pytest.mark.parametrize("peepholes", [False, True])
@pytest.mark.parametrize("hidden", [7, (4, 7, 6)])
@pytest.mark.parametrize(("first", "second", "decoder"), list(itertools.product(CELLS, CELLS, CELLS)))
def test_every_combination_of_cells_runs_forward_and_backward(
    first: str, second: str, decoder: str, hidden: int | tuple[int, int, int], peepholes: bool
) -> None:
    peepholes = peepholes and "lstm" in (first, second, decoder)
    model = small_model(encoder=(first, second), decoder=decoder, hidden=hidden, peepholes=peepholes).train()

    model.losses(pad_batch(SENTENCES)).objective().backward()  # type: ignore[no-untyped-call]

    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


def greedy_by_hand(model: TextVae, z: Tensor, limit: int) -> tuple[list[int], bool]:
    """One step at a time from torch's own cells; z (S, L)."""
    config = model.config
    names = {"lstm": torch.nn.LSTMCell, "gru": torch.nn.GRUCell, "rnn": torch.nn.RNNCell}
    cell = names[config.decoder](config.embedding + config.latent, config.hidden_sizes[2]).double()
    cell.load_state_dict({name.removesuffix("_l0"): v for name, v in model.decoder.state_dict().items()})
    first = model.initial.weight @ z[0]
    state = (first[None], first[None]) if config.decoder == "lstm" else first[None]
    word, said = SOS, []
    for step in range(limit):
        joined = torch.cat([model.decoder_embedding.weight[word], z[min(step, len(z) - 1)]])[None]
        state = cell(joined, state)
        hidden = state[0] if config.decoder == "lstm" else state
        logits = model.output.weight @ hidden[0] + model.output.bias
        ranked = torch.argsort(logits, descending=True).tolist()
        word = next(place for place in ranked if place not in (PAD, SOS))
        if word == EOS:
            return said, True
        said.append(word)
    return said, False


@pytest.mark.parametrize("decoder", CELLS)
@pytest.mark.parametrize("mode", ["last", "per-step"])
def test_reconstruction_equals_a_loop_by_hand(mode: str, decoder: str) -> None:
    rng = np.random.default_rng(0)
    ended = set()
    for seed, sentence in itertools.product(range(6), SENTENCES):
        model = small_model(seed, latent_mode=mode, decoder=decoder, hidden=(6, 8, 7) if seed % 2 else 7)
        with torch.no_grad():
            model.output.weight.mul_(4)
            mu, logvar = (value[0] for value in model.encode(pad_batch([sentence])))
            eps = rng.standard_normal(mu.shape)
            if mode == "last":
                mu, logvar, eps = mu[-1:], logvar[-1:], eps[-1:]
            z = mu + torch.exp(logvar / 2) * torch.from_numpy(eps)
            expected = greedy_by_hand(model, z, 9)

        found = model.reconstruct(sentence, eps[0] if mode == "last" else eps)

        assert (list(found.tokens), found.ended) == expected
        shape = (3,) if mode == "last" else (len(sentence) + 2, 3)
        for value, by_hand in ((found.mu, mu), (found.logvar, logvar), (found.z, z)):
            assert value.shape == shape
            assert value.dtype == np.float64
            np.testing.assert_allclose(value.reshape(by_hand.shape), by_hand.numpy(), rtol=0, atol=1e-12)
        ended.add(found.ended)
    assert ended == {True, False}


def test_reconstruction_is_without_dropout_and_leaves_the_mode_alone() -> None:
    model = small_model(embedding_dropout=0.5).train()

    first, second = (model.reconstruct((4, 5), np.zeros(3)) for _ in range(2))

    assert first.tokens == second.tokens
    np.testing.assert_array_equal(first.mu, second.mu)
    assert model.training


def test_reconstruction_stops_at_the_limit() -> None:
    model = small_model()
    with torch.no_grad():
        model.output.bias[EOS] = -100

    found = model.reconstruct((4, 5), np.zeros(3), max_length=4)

    assert (len(found.tokens), found.ended) == (4, False)


def test_padding_and_start_are_never_said() -> None:
    logits = torch.zeros(2, 12)
    logits[:, [PAD, SOS]] = 9
    logits[:, 7] = 1

    assert best_token(logits).tolist() == [7, 7]


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ((), r"the sentence has no words; expected at least one"),
        ((4,) * 10, r"the sentence has 10 words; the model reads at most 9"),
        ((4, 12), r"token number 12; expected a word's number below 12"),
        ((4, EOS), r"token number 3; expected a word's number"),
    ],
)
def test_sentences_that_cannot_be_read_are_refused(ids: tuple[int, ...], message: str) -> None:
    with pytest.raises(SentenceError, match=message):
        small_model().reconstruct(ids, np.zeros(3))


def test_word_dropout_hides_words_from_the_decoder_but_not_the_start() -> None:
    model = small_model(word_dropout=0.5).train()
    torch.manual_seed(0)
    inputs = torch.full((40, 20), 5)
    inputs[:, 0] = SOS

    dropped = model._drop_words(inputs)

    assert torch.all(dropped[:, 0] == SOS)
    assert set(dropped.unique().tolist()) == {UNK, SOS, 5}
    assert (dropped[:, 1:] == UNK).double().mean().item() == pytest.approx(0.5, abs=0.06)
    assert torch.equal(model.eval()._drop_words(inputs), inputs)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden": 0}, r"model.hidden is 0; expected a whole number of at least 1"),
        ({"hidden": (7, 5)}, r"model.hidden is \(7, 5\); expected one whole number, or three for encoder 1, encoder 2"),
        ({"hidden": (7, 5, 0)}, r"model.hidden is 0; expected a whole number of at least 1"),
        ({"hidden": "7"}, r"model.hidden is '7'; expected a whole number"),
        ({"latent": 2.5}, r"model.latent is 2.5; expected a whole number"),
        ({"vocabulary_size": 4}, r"model.vocabulary_size is 4; expected a whole number of at least 5"),
        ({"encoder": ("lstm",) * 3}, r"model.encoder is \('lstm', 'lstm', 'lstm'\); expected one or two cells"),
        (
            {"encoder": ("lstm",), "hidden": (7, 5, 6)},
            r"model.hidden is \(7, 5, 6\); expected .* or two for the encoder and decoder",
        ),
        ({"posterior": "exact"}, r"model.posterior is 'exact'; expected one of encoder, flow, svi, langevin"),
        ({"prior": "wide"}, r"model.prior is 'wide'; expected one of normal, learned"),
        ({"prior": "learned"}, r"model.latent_mode is 'last' with .* prior 'learned'; expected last for .* per-step"),
        ({"posterior": "flow", "posterior_steps": 2, "latent_mode": "none"}, r"model.latent_mode is 'none' with"),
        ({"posterior": "flow"}, r"model.posterior_steps is 0 with posterior 'flow'; expected a .* of at least 1"),
        ({"posterior_steps": 2}, r"model.posterior_steps is 2 with posterior 'encoder'; expected a whole number of 0"),
        ({"posterior": "svi", "posterior_steps": 2}, r"model.posterior_rate is 0.0 .* expected more than 0"),
        ({"posterior_rate": 0.1}, r"model.posterior_rate is 0.1 with posterior 'encoder'; expected 0"),
        ({"encoder": ("lstm", "elman")}, r"model.encoder has the cell 'elman'; expected one of lstm, gru, rnn"),
        ({"decoder": "lstn"}, r"model.decoder has the cell 'lstn'; expected one of lstm, gru, rnn"),
        ({"latent_mode": "first"}, r"model.latent_mode is 'first'; expected one of last, per-step, none"),
        ({"peepholes": 1}, r"model.peepholes is 1; expected true or false"),
        (
            {"peepholes": True, "encoder": ("gru", "rnn"), "decoder": "gru"},
            r"model.peepholes is true but the layers are gru, rnn, gru; expected an lstm among them",
        ),
        (
            {"peepholes": True, "latent_mode": "none", "decoder": "rnn"},
            r"model.peepholes is true but the layers are rnn; expected an lstm",
        ),
        ({"word_dropout": 1.0}, r"model.word_dropout is 1.0; expected 0 <= word_dropout < 1"),
        ({"embedding_dropout": -0.1}, r"model.embedding_dropout is -0.1; expected 0 <= embedding_dropout < 1"),
    ],
)
def test_impossible_models_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        small_config(**changes)
