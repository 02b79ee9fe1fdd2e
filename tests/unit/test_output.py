"""The layer that scores the words."""

import numpy as np
import pytest
import torch

from hvae_mnn.model.network import output
from hvae_mnn.model.network.output import OutputLayer
from hvae_mnn.model.network.threads import torch_threads


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_costs_of_words_are_those_of_a_softmax_on_any_number_of_threads(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    layer = OutputLayer(16, 40).to(dtype)
    rows, targets = 20 * torch.randn(101, 16, dtype=dtype), torch.randint(0, 40, (101,))
    scores = rows.double().numpy() @ layer.weight.detach().double().numpy().T + layer.bias.detach().double().numpy()
    expected = np.log(np.exp(scores).sum(1)) - scores[np.arange(101), targets.numpy()]
    monkeypatch.setattr(output, "_CACHED", 7 * 40)  # 15 parts

    found = []
    for threads in (1, 3):
        with torch_threads(threads):
            found.append(layer.costs(rows, targets))
            assert torch.get_num_threads() == threads

    assert found[0].dtype == torch.float64 and not found[0].requires_grad
    assert torch.equal(found[0], found[1])
    np.testing.assert_allclose(found[0].numpy(), expected, rtol=1e-5 if dtype == torch.float32 else 1e-13, atol=1e-5)
