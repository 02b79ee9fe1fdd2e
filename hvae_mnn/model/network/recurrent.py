"""Recurrent layers in torch: torch's own, and an lstm with diagonal peepholes."""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

LstmState = tuple[Tensor, Tensor]

_TORCH: Mapping[str, Callable[..., nn.RNNBase]] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


def make_layer(cell: str, inputs: int, hidden: int, *, peepholes: bool = False) -> nn.Module:
    """Return a layer that maps (B, T, inputs) and a first state to (B, T, hidden) and a last state.

    Args:
        cell: `lstm`, `gru` or `rnn`.
        inputs: Width of the input.
        hidden: Width of the output.
        peepholes: Whether an lstm has them; other cells have none.
    """
    if peepholes and cell == "lstm":
        return PeepholeLstm(inputs, hidden)
    return _TORCH[cell](inputs, hidden, batch_first=True)


class PeepholeLstm(nn.Module):
    """One lstm layer whose gates see the cell state, each unit its own (Gers & Schmidhuber 2000).

    Its parameters are named, shaped and started as those of `torch.nn.LSTM`, gates in the order i, f, g, o.
    `peephole` (3, H) holds the weights of i, f and o; it starts at zero, where the layer equals torch's.

        i = S(W_i [x, h] + b_i + p_i c)   f = S(W_f [x, h] + b_f + p_f c)   g = tanh(W_g [x, h] + b_g)
        c' = f c + i g                    o = S(W_o [x, h] + b_o + p_o c')  h' = o tanh(c')

    Eq. 11 of Hu & Yang 2023 gives o a view of c' by a full matrix, which the paper's count of
    parameters leaves out.
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.weight_ih_l0 = nn.Parameter(torch.empty(4 * hidden, inputs))
        self.weight_hh_l0 = nn.Parameter(torch.empty(4 * hidden, hidden))
        self.bias_ih_l0 = nn.Parameter(torch.empty(4 * hidden))
        self.bias_hh_l0 = nn.Parameter(torch.empty(4 * hidden))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -1 / math.sqrt(hidden), 1 / math.sqrt(hidden))
        self.peephole = nn.Parameter(torch.zeros(3, hidden))

    def forward(self, inputs: Tensor, state: LstmState | None = None) -> tuple[Tensor, LstmState]:
        """Read inputs (B, T, inputs) from a state of h and c, (1, B, H) each, or from zero.

        Returns:
            h of every step (B, T, H), and the last h and c, (1, B, H) each.
        """
        if state is None:
            zero = inputs.new_zeros((len(inputs), self.hidden))
            h, c = zero, zero
        else:
            h, c = state[0][0], state[1][0]
        given = functional.linear(inputs, self.weight_ih_l0, self.bias_ih_l0)
        outputs = []
        for step in given.unbind(1):
            h, c = self._advance(step + functional.linear(h, self.weight_hh_l0, self.bias_hh_l0), c)
            outputs.append(h)
        return torch.stack(outputs, dim=1), (h[None], c[None])

    def _advance(self, sums: Tensor, c: Tensor) -> LstmState:
        """Return h and c after a step, (B, H) each, from gate sums (B, 4 H) and c before."""
        i, f, g, o = sums.chunk(4, dim=1)
        seen_by_i, seen_by_f, seen_by_o = self.peephole
        c = torch.sigmoid(f + seen_by_f * c) * c + torch.sigmoid(i + seen_by_i * c) * torch.tanh(g)
        return torch.sigmoid(o + seen_by_o * c) * torch.tanh(c), c
