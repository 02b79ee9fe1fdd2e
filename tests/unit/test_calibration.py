"""What calibration says the layers are fed, against torch's own layers run sentence by sentence."""

import numpy as np
import pytest
import torch
from making import make_checkpoint, random_sentences

from hvae_mnn.model.calibration import Calibration, calibrate
from hvae_mnn.model.text.corpus import EOS, SOS

EVEN = {"encoder1": {"x": 10, "h": 6}, "encoder2": {"x": 6, "h": 6}, "decoder": {"x": 10, "h": 6, "z": 4}}
UNEVEN = {"encoder1": {"x": 10, "h": 7}, "encoder2": {"x": 7, "h": 5}, "decoder": {"x": 10, "h": 9, "z": 4}}
Hidden = int | tuple[int, int, int]


def calibration(samples: int, hidden: Hidden = 6) -> Calibration:
    model = make_checkpoint(hidden=hidden).build_model()
    return calibrate(model, random_sentences(30, 5, 9), seed=3, samples=samples)


@pytest.mark.parametrize(("hidden", "sizes"), [(6, EVEN), ((7, 5, 9), UNEVEN)])
def test_a_range_is_the_largest_magnitude_of_its_own_columns(hidden: Hidden, sizes: dict[str, dict[str, int]]) -> None:
    """With room for every step the samples are all there was, so their columns hold the ranges."""
    found = calibration(samples=10_000, hidden=hidden)
    for layer, groups in sizes.items():
        edges = np.cumsum([0, *groups.values()])
        assert found.samples[layer].shape[1] == edges[-1]
        for name, start, stop in zip(groups, edges[:-1], edges[1:], strict=True):
            largest = np.abs(found.samples[layer][:, start:stop]).max()
            assert found.ranges[layer][name] == pytest.approx(largest, rel=1e-6)
    every = [value for groups in found.ranges.values() for value in groups.values()]
    assert len(set(every)) >= len(every) - 1  # encoder 2 reads what encoder 1 says, the rest differ


@pytest.mark.parametrize("hidden", [6, (7, 5, 9)])
@torch.no_grad()
def test_the_encoders_inputs_are_those_of_torch_s_layers(hidden: Hidden) -> None:
    """[x, h before] at every step of every sentence, in no particular order."""
    model = make_checkpoint(hidden=hidden).build_model()
    expected: dict[str, list[np.ndarray]] = {"encoder1": [], "encoder2": []}
    for ids in random_sentences(30, 5, 9):
        given = model.encoder_embedding(torch.tensor([[SOS, *ids, EOS]]))
        for name in expected:
            said = getattr(model, name)(given)[0]
            before = torch.cat([torch.zeros_like(said[:, :1]), said[:, :-1]], dim=1)
            expected[name].append(torch.cat([given, before], dim=2)[0].numpy())
            given = said
    found = calibration(samples=10_000, hidden=hidden).samples
    for name, parts in expected.items():
        vectors = np.concatenate(parts)
        assert found[name].shape == vectors.shape
        np.testing.assert_allclose(np.sort(found[name], axis=0), np.sort(vectors, axis=0), rtol=0, atol=1e-6)


def test_samples_are_steps_drawn_from_all_of_them() -> None:
    every, few = calibration(samples=10_000), calibration(samples=20)
    for layer, vectors in few.samples.items():
        assert len(vectors) == 20
        assert {row.tobytes() for row in vectors} <= {row.tobytes() for row in every.samples[layer]}
    assert few.ranges == every.ranges
