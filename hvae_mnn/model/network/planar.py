"""Planar flows, forwards and backwards (Rezende & Mohamed 2015, arXiv:1505.05770, section 4.1).

    f(z) = z + u' tanh(w.z + b)        log |det df/dz| = log(1 + (1 - tanh^2(w.z + b)) w.u')

with u' = u + (m(w.u) - w.u) w / |w|^2 and m(x) = softplus(x) - 1, so that w.u' > -1 and f is invertible
(their appendix A.1). u, w and b are the encoder's outputs, different for each sentence. w.u' rounds to -1 where w.u
is far below 0, so the determinant is worked out without it, from r = 1 + w.u' = softplus(w.u), with nothing cancelling:

    |det df/dz| = tanh^2(w.z + b) + (1 - tanh^2(w.z + b)) r

Shapes: `L` latent.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

_HALVINGS, _NEWTON = 14, 4  # steps to the root in the inverse: near enough to end in the last digit of a float64
_LEAST = 1e-12  # |w|^2 below which u' is not moved all the way, so that r is another


def count_parameters(latent: int, steps: int) -> int:
    """Return how many numbers define so many flows: u, w and b of each."""
    return steps * (2 * latent + 1)


def planar_flow(z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
    """Apply flows one after another.

    Args:
        z: Where to start, (..., L).
        parameters: u, w and b of each flow, (..., steps (2 L + 1)).

    Returns:
        Where they lead, (..., L), and the sum of log |det|, (...).
    """
    total = torch.zeros_like(z[..., 0])
    for u, w, b, rise in _flows(parameters, z.shape[-1]):
        bent = torch.tanh((w * z).sum(-1, keepdim=True) + b)
        total = total + torch.log(_slope(bent, rise))[..., 0]
        z = z + u * bent
    return z, total


def planar_inverse(z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
    """Find where `planar_flow` started, and its sum of log |det|; the arguments are as there, best in float64.

    With k = w.u' and a = w.f^-1(z) there is one equation, a + k tanh(a + b) = w.z, whose left side rises
    since k > -1, and whose root is no farther from w.z than |k|: found by halving, then Newton's method.
    """
    total = torch.zeros_like(z[..., 0])
    for u, w, b, rise in reversed(list(_flows(parameters, z.shape[-1]))):
        k, aim = rise - 1, (w * z).sum(-1, keepdim=True)
        root, reach = aim, k.abs()
        for _ in range(_HALVINGS):
            reach = reach / 2
            root = root - reach * torch.sign(root + k * torch.tanh(root + b) - aim)
        low, high = root - reach, root + reach
        for _ in range(_NEWTON):
            bent = torch.tanh(root + b)
            root = root - (root + k * bent - aim) / _slope(bent, rise)
            root = torch.minimum(torch.maximum(root, low), high)
        bent = torch.tanh(root + b)
        z = z - u * bent
        total = total + torch.log(_slope(bent, rise))[..., 0]
    return z, total


def moved_divergence(start: Tensor, end: Tensor, log_det: Tensor) -> Tensor:
    """Return by how much flows change the KL from N(0, 1), a draw at a time, nats, (...).

    |end|^2 / 2 - |start|^2 / 2 - log_det. Its mean, and the closed KL of the Gaussian before the flows, is
    KL(q(z | x) || N(0, 1)), since log q(z | x) = log N(start) - log_det.

    Args:
        start: Draws before the flows, (..., L).
        end: The same behind them, (..., L).
        log_det: Sum of log |det|, (...).
    """
    return 0.5 * (end.square() - start.square()).sum(-1) - log_det


def _flows(parameters: Tensor, latent: int) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Yield u', w (..., L), b and r (..., 1) of each flow."""
    for part in torch.split(parameters, 2 * latent + 1, dim=-1):
        u, w, b = torch.split(part, [latent, latent, 1], dim=-1)
        inner = (w * u).sum(-1, keepdim=True)
        rise = functional.softplus(inner).clamp_min(torch.finfo(inner.dtype).tiny)  # log r stays finite
        size = w.square().sum(-1, keepdim=True)
        moved = (rise - 1 - inner) / size.clamp_min(_LEAST)
        yield u + moved * w, w, b, torch.where(size < _LEAST, 1 + inner + moved * size, rise)


def _slope(bent: Tensor, rise: Tensor) -> Tensor:
    """Return |det df/dz| from tanh(w.z + b) and r."""
    square = bent.square()
    return square + (1 - square) * rise
