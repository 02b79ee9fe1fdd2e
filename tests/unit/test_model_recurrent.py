"""The lstm with peepholes against torch's lstm and against a step written out in numpy."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from hvae_mnn.model.network.recurrent import PeepholeLstm, make_layer

Array = NDArray[np.float64]
INPUTS, HIDDEN = 5, 4


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def step_by_hand(weights: dict[str, Array], x: Array, h: Array, c: Array) -> tuple[Array, Array]:
    """One step of Gers & Schmidhuber's cell, unit by unit and gate by gate."""
    new_h, new_c = np.zeros(HIDDEN), np.zeros(HIDDEN)
    for unit in range(HIDDEN):
        sums = []
        for place in range(4):
            row = place * HIDDEN + unit
            total = weights["bias_ih_l0"][row] + weights["bias_hh_l0"][row]
            total += sum(weights["weight_ih_l0"][row, k] * x[k] for k in range(INPUTS))
            sums.append(total + sum(weights["weight_hh_l0"][row, k] * h[k] for k in range(HIDDEN)))
        p_i, p_f, p_o = weights["peephole"][:, unit]
        i, f = sigmoid(sums[0] + p_i * c[unit]), sigmoid(sums[1] + p_f * c[unit])
        new_c[unit] = f * c[unit] + i * math.tanh(sums[2])
        new_h[unit] = sigmoid(sums[3] + p_o * new_c[unit]) * math.tanh(new_c[unit])
    return new_h, new_c


def test_it_starts_as_torch_s_lstm_of_the_same_seed() -> None:
    torch.manual_seed(3)
    found = PeepholeLstm(INPUTS, HIDDEN)
    torch.manual_seed(3)
    expected = torch.nn.LSTM(INPUTS, HIDDEN, batch_first=True)

    assert list(found.state_dict()) == [*expected.state_dict(), "peephole"]
    for name, value in expected.state_dict().items():
        assert torch.equal(found.state_dict()[name], value)
    assert torch.equal(found.peephole, torch.zeros(3, HIDDEN))


@pytest.mark.parametrize("given", [True, False])
def test_without_peephole_it_is_torch_s_lstm(given: bool) -> None:
    found = PeepholeLstm(INPUTS, HIDDEN).double()
    expected = torch.nn.LSTM(INPUTS, HIDDEN, batch_first=True).double()
    expected.load_state_dict({name: value for name, value in found.state_dict().items() if name != "peephole"})
    x = torch.randn(3, 7, INPUTS, dtype=torch.float64)
    state = (torch.randn(1, 3, HIDDEN).double(), torch.randn(1, 3, HIDDEN).double()) if given else None

    outputs, (h, c) = found(x, state)

    wanted, (wanted_h, wanted_c) = expected(x, state)
    for value, other in ((outputs, wanted), (h, wanted_h), (c, wanted_c)):
        torch.testing.assert_close(value, other, rtol=0, atol=1e-12)
    gradients, others = (
        torch.autograd.grad(y.sum(), m.weight_hh_l0) for y, m in ((outputs, found), (wanted, expected))
    )
    torch.testing.assert_close(gradients, others, rtol=0, atol=1e-12)


@torch.no_grad()
def test_with_peephole_it_is_the_cell_by_hand() -> None:
    layer = PeepholeLstm(INPUTS, HIDDEN).double()
    layer.peephole.normal_(0, 2)
    weights = {name: value.numpy() for name, value in layer.state_dict().items()}
    x, first = (
        torch.randn(2, 6, INPUTS).double(),
        (torch.randn(1, 2, HIDDEN).double(), torch.randn(1, 2, HIDDEN).double()),
    )

    outputs, (last_h, last_c) = layer(x, first)

    for row in range(2):
        h, c = first[0][0, row].numpy(), first[1][0, row].numpy()
        for t in range(6):
            h, c = step_by_hand(weights, x[row, t].numpy(), h, c)
            np.testing.assert_allclose(outputs[row, t].numpy(), h, rtol=0, atol=1e-12)
        np.testing.assert_allclose(last_h[0, row].numpy(), h, rtol=0, atol=1e-12)
        np.testing.assert_allclose(last_c[0, row].numpy(), c, rtol=0, atol=1e-12)


def test_all_three_peepholes_learn() -> None:
    layer = PeepholeLstm(INPUTS, HIDDEN)

    layer(torch.randn(2, 3, INPUTS))[0].sum().backward()  # type: ignore[no-untyped-call]

    assert layer.peephole.grad is not None
    assert torch.all(layer.peephole.grad != 0)


def test_only_an_lstm_has_peepholes() -> None:
    assert isinstance(make_layer("lstm", INPUTS, HIDDEN, peepholes=True), PeepholeLstm)
    for cell, kind in (("gru", torch.nn.GRU), ("rnn", torch.nn.RNN)):
        assert isinstance(make_layer(cell, INPUTS, HIDDEN, peepholes=True), kind)
    assert isinstance(make_layer("lstm", INPUTS, HIDDEN), torch.nn.LSTM)
