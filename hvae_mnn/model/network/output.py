"""The layer that scores the words. Shapes: `P` places, `H` the decoder's width, `V` words."""

from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn
from torch.nn import functional

from hvae_mnn.model.network.threads import torch_threads

_CACHED = 2**20  # word scores that a thread holds at once: they stay in the processor's cache. Chosen


class OutputLayer(nn.Linear):
    """Scores of every word, (..., V), from the decoder's output, (..., H).

    Over 10,000 words this is most of what a training step costs. On processors with instructions for bfloat16 its
    products take half the time in that format.

    Attributes:
        training_dtype: What the products are computed in while the layer is in training mode; scores and gradients
            are float32 outside. Elsewhere products are in the weights' own format.
    """

    training_dtype = torch.float32

    def forward(self, input: Tensor) -> Tensor:
        """Return the scores."""
        if not self.training or self.training_dtype == torch.float32:
            return super().forward(input)
        given = (value.to(self.training_dtype) for value in (input, self.weight, self.bias))
        return functional.linear(*given).to(input.dtype)

    @torch.no_grad()
    def costs(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Return -log p of each target (P,) given the decoder's output (P, H), nats, (P,), float64.

        As many words' scores as stay in cache are worked out at once, on as many threads as torch has: no figure
        depends on how many. 32-bit products are oneDNN's, which is faster than what torch takes for dense tensors
        (`benchmarks/word_costs.py`).
        """
        quick = self.weight.dtype == torch.float32 and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        weight, bias = (self.weight.to_mkldnn(), self.bias.to_mkldnn()) if quick else (self.weight, self.bias)

        def costs_of(part: tuple[Tensor, Tensor]) -> Tensor:
            with torch.no_grad():  # a setting of each thread
                rows = part[0].to_mkldnn() if quick else part[0]
                scores = functional.linear(rows, weight, bias)
                return functional.cross_entropy(scores.to_dense() if quick else scores, part[1], reduction="none")

        rows, threads = max(1, _CACHED // self.out_features), torch.get_num_threads()
        parts = zip(torch.split(hidden, rows), torch.split(targets, rows), strict=True)
        with torch_threads(1), ThreadPoolExecutor(threads) as pool:
            return torch.cat(list(pool.map(costs_of, parts))).double()
