"""Reading models without torch, against torch: its files, its shapes, and what it says of sentences."""

import itertools
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from making import make_build, random_sentences

from hvae_mnn.model.config import CELLS, ModelConfig
from hvae_mnn.model.network.vae import TextVae
from hvae_mnn.model.shapes import weight_shapes
from hvae_mnn.model.storage.torch_file import CodeError, read_torch_file
from hvae_mnn.runtime.resources import models_folder
from hvae_mnn.simulation.orchestrator import DigitalHalf
from hvae_mnn.simulation.sentence import draw_noise, reference_sides

KINDS = (
    torch.float64, torch.float32, torch.float16, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8,
    torch.bool,
)  # fmt: skip


def equal(ours: Any, theirs: Any) -> None:
    """Both are the same plain values, with arrays for tensors."""
    if isinstance(theirs, torch.Tensor):
        np.testing.assert_array_equal(ours, theirs.numpy())
        assert ours.dtype == theirs.numpy().dtype
    elif isinstance(theirs, dict):
        assert list(ours) == list(theirs)
        for key, value in theirs.items():
            equal(ours[key], value)
    elif isinstance(theirs, list | tuple):
        assert type(ours) is type(theirs)
        for pair in zip(ours, theirs, strict=True):
            equal(*pair)
    else:
        assert ours == theirs
        assert type(ours) is type(theirs)


@pytest.mark.parametrize("name", ["grammar", "ptb", "paper"])
def test_a_shipped_model_is_what_torch_reads(name: str) -> None:
    path = models_folder() / f"{name}.pt"
    equal(read_torch_file(path), torch.load(path, weights_only=True))


def test_every_kind_of_number_and_plain_value(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = [(torch.randn((3, 5), generator=generator) * 3).to(kind) for kind in KINDS]
    large = torch.arange(24.0).reshape(2, 3, 4)
    payload = {
        "tensors": tensors,
        "views": (large[:, 1:, ::2], large.transpose(0, 2), large[1, 2, 3], large, torch.zeros(0, 3)),
        "ordered": OrderedDict(weight=torch.ones(2), bias=torch.zeros(1)),
        "plain": [None, True, False, -1, 255, 70000, 2**40, -(2**80), 1.5, "word", "wörd", (), (1,), (1, 2, 3), [], {}],
        "long": list(range(3000)),
        7: "number",
    }
    torch.save(payload, tmp_path / "file.pt")
    equal(read_torch_file(tmp_path / "file.pt"), torch.load(tmp_path / "file.pt", weights_only=True))


@pytest.mark.parametrize("what", [TextVae(ModelConfig(vocabulary_size=9, embedding=3, hidden=2, latent=2)), print])
def test_what_would_run_code_is_refused(tmp_path: Path, what: object) -> None:
    torch.save({"what": what}, tmp_path / "file.pt")
    with pytest.raises(CodeError):
        read_torch_file(tmp_path / "file.pt")


def rewrite(path: Path, part: str, content: bytes) -> None:
    """Put another content in the place of one part of a file."""
    with zipfile.ZipFile(path) as archive:
        parts = {info.filename: archive.read(info) for info in archive.infolist()}
    (name,) = (each for each in parts if each.endswith(f"/{part}"))
    with zipfile.ZipFile(path, "w") as archive:
        for each, old in parts.items():
            archive.writestr(each, content if each == name else old)


@pytest.mark.parametrize(
    "pickled",
    [
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nX\x01\x00\x00\x00aX\x01\x00\x00\x00b\x86b.",  # sets an attribute
        b"\x80\x02}r\xff\xff\xff\x7f.",  # would make the unpickler's memo two thousand million entries long
        b"\x80\x02ctorch\nFloatStorage\n)R.",  # calls what is no function
        b"\x80\x02}q\x00",  # has no end
        b"",
    ],
)
def test_a_pickle_that_does_anything_else_is_refused(tmp_path: Path, pickled: bytes) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "file.pt")
    rewrite(tmp_path / "file.pt", "data.pkl", pickled)
    with pytest.raises(ValueError, match=r"\S"):
        read_torch_file(tmp_path / "file.pt")


@pytest.mark.parametrize("share", [0, 0.5, 0.9])
def test_a_storage_that_is_too_short_is_refused(tmp_path: Path, share: float) -> None:
    torch.save({"a": torch.ones(10, 10)}, tmp_path / "file.pt")
    rewrite(tmp_path / "file.pt", "data/0", bytes(int(400 * share)))
    with pytest.raises(ValueError, match=r"\S"):
        read_torch_file(tmp_path / "file.pt")


def test_a_tensor_that_repeats_one_entry_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1).expand(1000)}, tmp_path / "file.pt")
    with pytest.raises(ValueError, match="an array of 4000 bytes has 4 in the file"):
        read_torch_file(tmp_path / "file.pt")


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (torch._neg_view(torch.ones(3)), "changes its numbers"),  # type: ignore[attr-defined]
        (torch.ones(3, dtype=torch.bfloat16), "BFloat16Storage, no plain tensor"),
        (torch.nn.Parameter(torch.ones(3)), "_rebuild_parameter, no plain tensor"),
        (torch.ones(3, dtype=torch.complex64), "no plain tensor"),
    ],
    ids=["negative view", "bfloat16", "parameter", "complex"],
)
def test_tensors_that_are_more_than_numbers_in_a_row_are_refused(tmp_path: Path, payload: Any, message: str) -> None:
    torch.save({"a": payload}, tmp_path / "file.pt")
    with pytest.raises(ValueError, match=message) as refused:
        read_torch_file(tmp_path / "file.pt")
    assert not isinstance(refused.value, CodeError)


def test_what_would_end_the_process_or_fill_its_memory_is_refused(tmp_path: Path) -> None:
    """Python hashes a deep tuple by recursion without a limit; operations are looked at one by one."""
    deep = b"\x80\x02}K\x01" + b"\x85" * 300_000 + b"K\x01s."
    for pickled in (deep, b"\x80\x02" + b"N0" * 2**24 + b"N."):
        torch.save({"a": torch.ones(2)}, tmp_path / "file.pt")
        rewrite(tmp_path / "file.pt", "data.pkl", pickled)
        with pytest.raises(ValueError, match=r"no plain ones|more than 16777216 bytes"):
            read_torch_file(tmp_path / "file.pt")


@pytest.mark.parametrize("order", [b"weird", b"big\n"])
def test_an_unknown_byte_order_is_refused(tmp_path: Path, order: bytes) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "file.pt")
    rewrite(tmp_path / "file.pt", "byteorder", order)
    with pytest.raises(ValueError, match="its byte order is"):
        read_torch_file(tmp_path / "file.pt")


WIRINGS: list[dict[str, Any]] = [
    {"latent_mode": mode, "peepholes": peepholes}
    for mode, peepholes in itertools.product(("last", "per-step", "none"), (False, True))
]
WIRINGS += [
    {"posterior": "flow", "posterior_steps": 3},
    {"posterior": "svi", "posterior_steps": 3, "posterior_rate": 0.1},
    {"posterior": "langevin", "posterior_steps": 3, "posterior_rate": 0.1},
    {"prior": "learned", "latent_mode": "per-step"},
]


@pytest.mark.parametrize("wiring", WIRINGS, ids=str)
@pytest.mark.parametrize("encoder", [("lstm", "gru"), ("rnn", "lstm"), ("lstm",)])
@pytest.mark.parametrize("decoder", CELLS)
def test_shapes_are_those_of_the_network(wiring: dict[str, Any], encoder: tuple[str, ...], decoder: str) -> None:
    if wiring.get("peepholes") and wiring["latent_mode"] == "none" and decoder != "lstm":
        pytest.skip("no layer that could have peepholes")
    widths = (6, 7, 8)[-len(encoder) - 1 :]
    config = ModelConfig(
        vocabulary_size=11, embedding=5, hidden=widths, latent=3, encoder=encoder, decoder=decoder, **wiring
    )
    assert weight_shapes(config) == {name: tuple(value.shape) for name, value in TextVae(config).state_dict().items()}


@pytest.mark.parametrize("cells", [("lstm", "lstm"), ("gru", "rnn"), ("rnn", "gru")])
@pytest.mark.parametrize("latent_mode", ["last", "per-step"])
@pytest.mark.parametrize("overrides", [(), ("periphery.state_bits=4", "periphery.gate_bits=4", "array.tile_rows=5")])
def test_the_reference_of_a_run_is_torchs_model(
    cells: tuple[str, str], latent_mode: str, overrides: tuple[str, ...]
) -> None:
    """What hardware is compared with, in numpy, is what the trained network says in torch, whatever the hardware."""
    build = make_build(None, "default", overrides, cells=cells, decoder=cells[0], latent_mode=latent_mode)
    sentences = random_sentences(12, 5, len(build.checkpoint.vocabulary))
    noises = [draw_noise(build, ids, seed) for seed, ids in enumerate(sentences)]
    found = reference_sides(build, DigitalHalf.of_build(build), sentences, noises)
    wanted = build.checkpoint.build_model().double().reconstruct_all(sentences, noises)
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.tokens == build.checkpoint.vocabulary.tokens(theirs.tokens)
        for name in ("mu", "logvar", "z"):
            np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=0, atol=1e-12)


def test_the_reference_with_peepholes_is_torchs_model() -> None:
    build = make_build(None, "default", (), peepholes=True)
    sentences = random_sentences(12, 6, len(build.checkpoint.vocabulary))
    noises = [draw_noise(build, ids, seed) for seed, ids in enumerate(sentences)]
    found = reference_sides(build, DigitalHalf.of_build(build), sentences, noises)
    for ours, theirs in zip(
        found, build.checkpoint.build_model().double().reconstruct_all(sentences, noises), strict=True
    ):
        assert ours.tokens == build.checkpoint.vocabulary.tokens(theirs.tokens)
        np.testing.assert_allclose(ours.mu, theirs.mu, rtol=0, atol=1e-12)
