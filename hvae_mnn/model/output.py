"""The layer that scores the words."""

import torch
from torch import Tensor, nn
from torch.nn import functional


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
