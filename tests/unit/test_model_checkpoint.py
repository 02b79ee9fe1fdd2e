import errno
import hashlib
import itertools
import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from numpy.typing import NDArray

from hvae_mnn.compiler.ir_drop import measure_ir_drop
from hvae_mnn.compiler.pipeline import compile_model
from hvae_mnn.errors import CheckpointError
from hvae_mnn.hardware.files import load_hardware
from hvae_mnn.model.calibration import calibrate
from hvae_mnn.model.checkpoint import Checkpoint, LayerWeights, load_checkpoint, save_checkpoint
from hvae_mnn.model.network.vae import CELLS, ModelConfig, TextVae
from hvae_mnn.model.text.corpus import SPECIALS, Vocabulary

WORDS = Vocabulary((*SPECIALS, *"abcdef"))
CELL_CLASSES = {"lstm": torch.nn.LSTMCell, "gru": torch.nn.GRUCell, "rnn": torch.nn.RNNCell}


def small_checkpoint(seed: int = 0, **changes: Any) -> Checkpoint:
    torch.manual_seed(seed)
    config = ModelConfig(**{"vocabulary_size": 10, "embedding": 5, "hidden": 6, "latent": 3} | changes)
    weights = {name: value.numpy() for name, value in TextVae(config).state_dict().items()}
    rng = np.random.default_rng(seed)
    return Checkpoint(
        config=config,
        vocabulary=WORDS,
        weights=weights,
        calibration={"encoder1": rng.standard_normal((4, 11)).astype(np.float16).astype(np.float32)},
        ranges={"encoder1": {"x": 2.5, "h": 0.75}},
        metrics={"elbo_nll": 17.25},
        provenance={"corpus": "letters"},
    )


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "model.pt"
    save_checkpoint(small_checkpoint(), path)
    return path


def tamper(path: Path, **changes: Any) -> None:
    payload = torch.load(path, weights_only=True)
    torch.save(payload | changes, path)


def test_what_was_saved_comes_back(saved: Path) -> None:
    before, after = small_checkpoint(), load_checkpoint(saved)

    assert after.config == before.config
    assert after.vocabulary == before.vocabulary
    assert (after.metrics, after.provenance, after.ranges) == (before.metrics, before.provenance, before.ranges)
    np.testing.assert_array_equal(after.calibration["encoder1"], before.calibration["encoder1"])
    for name, value in before.weights.items():
        np.testing.assert_array_equal(after.weights[name], value)
        assert after.weights[name].dtype == np.float32
    assert after.content_hash() == before.content_hash()


def test_a_loaded_model_reconstructs_as_the_saved_one(saved: Path) -> None:
    eps = np.random.default_rng(0).standard_normal(3)
    before, after = (c.build_model().double() for c in (small_checkpoint(), load_checkpoint(saved)))

    first, second = before.reconstruct((4, 7, 5), eps), after.reconstruct((4, 7, 5), eps)

    assert first.tokens == second.tokens
    np.testing.assert_array_equal(first.z, second.z)


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_both_formats_hold_the_same(tmp_path: Path, precision: str) -> None:
    for suffix in ("pt", "safetensors"):
        save_checkpoint(small_checkpoint(hidden=(6, 4, 7)), tmp_path / f"model.{suffix}", precision=precision)
    ours, torchs = (load_checkpoint(tmp_path / f"model.{suffix}") for suffix in ("safetensors", "pt"))
    assert (tmp_path / "model.safetensors").read_bytes()[8:9] == b"{"
    assert ours.content_hash() == torchs.content_hash()
    assert ours.compiled_hash() == torchs.compiled_hash()
    assert (ours.metrics, ours.provenance, ours.ranges) == (torchs.metrics, torchs.provenance, torchs.ranges)


def test_a_safetensors_file_is_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    save_checkpoint(small_checkpoint(), tmp_path / "model.safetensors")
    code = "from hvae_mnn.model.checkpoint import *; "
    code += "save_checkpoint(load_checkpoint('model.safetensors'), 'again.safetensors')"
    for _ in range(3):
        subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
        assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "model.safetensors").read_bytes()


@pytest.mark.parametrize("change", ["cut", "length", "text", "other", "torch"])
def test_a_damaged_safetensors_file_is_refused(tmp_path: Path, change: str) -> None:
    path = tmp_path / "model.safetensors"
    save_checkpoint(small_checkpoint(), path)
    content = path.read_bytes()
    if change == "other":
        safetensors.numpy.save_file({"a": np.ones(3)}, path, {"made by": "a stranger"})
    elif change == "torch":
        torch.save({"a": 1}, path)
    else:
        damaged = {"cut": content[:-20], "length": b"\xff" * 8 + content[8:], "text": b"hello"}
        path.write_bytes(damaged[change])
    with pytest.raises(CheckpointError, match=r"model.safetensors' is not a checkpoint or is damaged"):
        load_checkpoint(path)


def test_the_folder_is_made(tmp_path: Path) -> None:
    save_checkpoint(small_checkpoint(), tmp_path / "new" / "deep" / "model.pt")

    assert load_checkpoint(tmp_path / "new" / "deep" / "model.pt").config == small_checkpoint().config


@pytest.mark.parametrize("change", ["weight", "word", "config"])
def test_the_hash_sees_weights_words_and_config(change: str) -> None:
    before = small_checkpoint()
    after = small_checkpoint()
    if change == "weight":
        after.weights["mu.bias"][0] += 1e-3  # type: ignore[index]
    elif change == "word":
        after = replace(after, vocabulary=Vocabulary((*SPECIALS, *"abcdeg")))
    else:
        after = replace(after, config=replace(after.config, max_length=99))

    assert after.content_hash() != before.content_hash()
    assert small_checkpoint().content_hash() == before.content_hash()
    assert replace(before, metrics={}).content_hash() == before.content_hash()


def test_the_hash_of_the_first_models_stays() -> None:
    """What a config has got since is no part of the hash unless it is used."""
    checkpoint = small_checkpoint()
    config = {
        "vocabulary_size": 10, "embedding": 5, "hidden": 6, "latent": 3, "encoder": ["lstm", "lstm"], "decoder": "lstm",
        "latent_mode": "last", "embedding_dropout": 0.0, "word_dropout": 0.0, "max_length": 100,
    }  # fmt: skip
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode() + "\n".join(WORDS.words).encode())
    for name, value in sorted(checkpoint.weights.items()):
        digest.update(name.encode() + value.tobytes())

    assert checkpoint.content_hash() == digest.hexdigest()
    assert small_checkpoint(peepholes=True).config.stored() == checkpoint.config.stored() | {"peepholes": True}


@pytest.mark.parametrize("as_list", [False, True])
def test_three_widths_come_back_and_decide_the_hash(tmp_path: Path, as_list: bool) -> None:
    checkpoint, path = small_checkpoint(hidden=(6, 4, 7)), tmp_path / "model.pt"
    save_checkpoint(checkpoint, path)
    if as_list:
        tamper(path, config=torch.load(path, weights_only=True)["config"] | {"hidden": [6, 4, 7]})

    loaded = load_checkpoint(path)

    assert loaded.config == checkpoint.config
    assert loaded.config.hidden == loaded.config.hidden_sizes == (6, 4, 7)
    assert loaded.content_hash() == checkpoint.content_hash()
    assert small_checkpoint(hidden=(6, 6, 6)).config.hidden == 6
    assert small_checkpoint(hidden=(6, 6, 6)).content_hash() == small_checkpoint().content_hash()


@pytest.mark.parametrize("peepholes", [False, True])
def test_a_config_is_stored_as_the_first_models_were(tmp_path: Path, peepholes: bool) -> None:
    save_checkpoint(small_checkpoint(peepholes=peepholes), tmp_path / "model.pt")

    stored = torch.load(tmp_path / "model.pt", weights_only=True)["config"]

    assert ("peepholes" in stored) == peepholes
    loaded = load_checkpoint(tmp_path / "model.pt")
    assert loaded.config == small_checkpoint(peepholes=peepholes).config
    assert sorted(loaded.software_parts().peepholes) == (["decoder", "encoder1", "encoder2"] if peepholes else [])


def test_a_full_disk_leaves_the_old_file_and_nothing_else(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"model.pt' could not be written \(No space left on device\)"):
        save_checkpoint(small_checkpoint(1), saved)

    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(CheckpointError, match=r"could not be written .* choose another path"):
        save_checkpoint(small_checkpoint(), tmp_path / "file" / "model.pt")


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none.pt' does not exist; expected a file written by"):
        load_checkpoint(tmp_path / "none.pt")


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", b"can I\nread this\n?", b"PK\x03\x04 torn", pickle.dumps({"a": 1}), b"\x80\x02." * 50],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.pt").write_bytes(content)

    with pytest.raises(CheckpointError, match=r"model.pt' is not a checkpoint or is damaged"):
        load_checkpoint(tmp_path / "model.pt")


def test_a_torn_checkpoint_is_refused(saved: Path) -> None:
    content = saved.read_bytes()
    saved.write_bytes(content[: len(content) // 2])

    with pytest.raises(CheckpointError, match="is not a checkpoint or is damaged"):
        load_checkpoint(saved)


@pytest.mark.parametrize("payload", [{"weights": {}}, [1, 2], {"format": "something else", "version": 1}])
def test_a_torch_file_of_another_program_is_refused(tmp_path: Path, payload: Any) -> None:
    torch.save(payload, tmp_path / "model.pt")

    with pytest.raises(CheckpointError, match="is not a checkpoint or is damaged"):
        load_checkpoint(tmp_path / "model.pt")


class Bomb:
    """Leaves a file behind if anything ever unpickles it."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.trace),))


@pytest.mark.parametrize("as_torch_file", [True, False])
def test_a_checkpoint_that_would_run_code_is_refused_unopened(tmp_path: Path, as_torch_file: bool) -> None:
    path, trace = tmp_path / "model.pt", tmp_path / "trace"
    if as_torch_file:
        torch.save({"format": Bomb(trace)}, path)
    else:
        path.write_bytes(pickle.dumps(Bomb(trace)))

    with pytest.raises(CheckpointError, match=r"wants to run code when it is opened; .*It was not opened"):
        load_checkpoint(path)

    assert not trace.exists()
    pickle.loads(pickle.dumps(Bomb(trace)))
    assert trace.exists()  # the bomb itself works


def test_another_version_is_refused(saved: Path) -> None:
    tamper(saved, version=4)

    with pytest.raises(CheckpointError, match=r"has format version 4; this program reads versions 1 to 3"):
        load_checkpoint(saved)


def test_a_missing_part_is_named(saved: Path) -> None:
    payload = torch.load(saved, weights_only=True)
    del payload["ranges"]
    torch.save(payload, saved)

    with pytest.raises(CheckpointError, match=r"lacks ranges; expected config, vocabulary, weights"):
        load_checkpoint(saved)


@pytest.mark.parametrize(
    "changes", [{"weights": {"mu.bias": 3}}, {"metrics": {"nll": "low"}}, {"vocabulary": 5}, {"config": [1]}]
)
def test_parts_of_the_wrong_kind_are_refused(saved: Path, changes: dict[str, Any]) -> None:
    tamper(saved, **changes)

    with pytest.raises(CheckpointError, match=r"model.pt'.*(malformed|config has unknown or missing keys)"):
        load_checkpoint(saved)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": torch.ones(2)}, "is not a checkpoint"),
        ({"version": torch.ones(2)}, "has format version"),
        ({"metrics": {"nll": 10**400}}, "malformed"),
        ({"vocabulary": "\ud800"}, "malformed"),
        ({"calibration": {"third": torch.ones(2, 2)}}, "calibration is of third; expected encoder1"),
    ],
)
def test_odd_values_are_refused_in_one_line(saved: Path, changes: dict[str, Any], message: str) -> None:
    tamper(saved, **changes)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(saved)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(saved: Path, value: float) -> None:
    weights = torch.load(saved, weights_only=True)["weights"]
    weights["encoder2.weight_hh_l0"][3, 2] = value
    tamper(saved, weights=weights)

    with pytest.raises(CheckpointError, match=r"model.pt': weight encoder2.weight_hh_l0 holds NaN or infinite"):
        load_checkpoint(saved)


def test_shapes_that_disagree_with_the_config_are_refused(saved: Path) -> None:
    weights = torch.load(saved, weights_only=True)["weights"]
    weights["initial.weight"] = weights["initial.weight"].T.contiguous()
    tamper(saved, weights=weights)

    with pytest.raises(CheckpointError, match=r"weight initial.weight has shape \(3, 6\); config says \(6, 3\)"):
        load_checkpoint(saved)


def test_weights_of_other_cells_are_refused(saved: Path) -> None:
    weights = torch.load(saved, weights_only=True)["weights"]
    weights["peephole"] = weights.pop("mu.bias")
    tamper(saved, weights=weights)

    with pytest.raises(CheckpointError, match=r"weights and config disagree on mu.bias, peephole"):
        load_checkpoint(saved)


def test_a_vocabulary_of_another_size_is_refused(saved: Path) -> None:
    tamper(saved, vocabulary="\n".join((*SPECIALS, "a")))

    with pytest.raises(CheckpointError, match=r"has 5 words but config.vocabulary_size is 10"):
        load_checkpoint(saved)


def test_an_impossible_config_is_refused(saved: Path) -> None:
    config = torch.load(saved, weights_only=True)["config"]
    tamper(saved, config=config | {"decoder": "transformer"})
    with pytest.raises(CheckpointError, match=r"model.pt': model.decoder has the cell 'transformer'"):
        load_checkpoint(saved)

    tamper(saved, config=config | {"heads": 8})
    with pytest.raises(CheckpointError, match=r"config has unknown or missing keys \(heads\)"):
        load_checkpoint(saved)


def sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-x))


def step_by_hand(
    layer: LayerWeights, inputs: dict[str, NDArray[np.float64]], c: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """One step from the gate tables alone, each gate summed group by group; returns h', c'."""
    sums = {}
    for gate in layer.gates:
        joined = np.concatenate([inputs[name] for name in gate.groups])
        sums[gate.gate] = joined @ gate.weight + gate.bias
    if layer.cell == "lstm":
        c = sigmoid(sums["f"]) * c + sigmoid(sums["i"]) * np.tanh(sums["g"])
        return sigmoid(sums["o"]) * np.tanh(c), c
    if layer.cell == "gru":
        update, new = sigmoid(sums["z"]), np.tanh(sums["n_x"] + sigmoid(sums["r"]) * sums["n_h"])
        return (1 - update) * new + update * inputs["h"], c
    return np.tanh(sums["h"]), c


def step_by_torch(
    checkpoint: Checkpoint, layer: LayerWeights, inputs: dict[str, NDArray[np.float64]], c: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    joined = np.concatenate([inputs["x"], *([inputs["z"]] if "z" in inputs else [])])
    cell = CELL_CLASSES[layer.cell](len(joined), layer.hidden).double()
    prefix = f"{layer.name}."
    cell.load_state_dict(
        {
            name.removeprefix(prefix).removesuffix("_l0"): torch.from_numpy(value).double()
            for name, value in checkpoint.weights.items()
            if name.startswith(prefix)
        }
    )
    x, h, memory = (torch.from_numpy(value)[None] for value in (joined, inputs["h"], c))
    with torch.no_grad():
        if layer.cell == "lstm":
            new_h, new_c = cell(x, (h, memory))
            return new_h[0].numpy(), new_c[0].numpy()
        return cell(x, h)[0].numpy(), c


@pytest.mark.parametrize("hidden", [6, (6, 4, 7)])
@pytest.mark.parametrize(("first", "second"), list(itertools.product(CELLS, CELLS)))
@pytest.mark.parametrize("decoder", CELLS)
def test_the_gate_tables_are_the_cells_of_torch(
    first: str, second: str, decoder: str, hidden: int | tuple[int, int, int]
) -> None:
    checkpoint = small_checkpoint(encoder=(first, second), decoder=decoder, hidden=hidden)
    layers = checkpoint.layer_weights()
    rng = np.random.default_rng(3)

    assert [(layer.name, layer.cell) for layer in layers] == [
        ("encoder1", first),
        ("encoder2", second),
        ("decoder", decoder),
    ]
    for layer in layers:
        inputs = {group.name: rng.standard_normal(group.size) for group in layer.groups}
        c = rng.standard_normal(layer.hidden)
        found, expected = step_by_hand(layer, inputs, c), step_by_torch(checkpoint, layer, inputs, c)
        np.testing.assert_allclose(found[0], expected[0], rtol=0, atol=1e-12)
        np.testing.assert_allclose(found[1], expected[1], rtol=0, atol=1e-12)


def test_the_shapes_and_the_order_of_groups() -> None:
    first, second, decoder = small_checkpoint(encoder=("gru", "rnn"), decoder="gru").layer_weights()

    assert [(group.name, group.size) for group in first.groups] == [("x", 5), ("h", 6)]
    assert [(group.name, group.size) for group in second.groups] == [("x", 6), ("h", 6)]
    assert [(group.name, group.size) for group in decoder.groups] == [("x", 5), ("h", 6), ("z", 3)]
    assert [(gate.gate, gate.groups, gate.weight.shape) for gate in decoder.gates] == [
        ("r", ("x", "h", "z"), (14, 6)),
        ("z", ("x", "h", "z"), (14, 6)),
        ("n_x", ("x", "z"), (8, 6)),
        ("n_h", ("h",), (6, 6)),
    ]
    assert [gate.gate for gate in second.gates] == ["h"]
    uneven = small_checkpoint(hidden=(6, 4, 7)).layer_weights()
    assert [(layer.hidden, *(group.size for group in layer.groups)) for layer in uneven] == [
        (6, 5, 6),
        (4, 6, 4),
        (7, 5, 7, 3),
    ]
    assert all(gate.weight.dtype == gate.bias.dtype == np.float64 for gate in decoder.gates)


def test_a_plain_language_model_is_kept_but_has_nothing_to_compile(tmp_path: Path) -> None:
    save_checkpoint(small_checkpoint(latent_mode="none"), tmp_path / "model.pt")
    checkpoint = load_checkpoint(tmp_path / "model.pt")

    assert checkpoint.content_hash() == small_checkpoint(latent_mode="none").content_hash()
    for use in (
        checkpoint.layer_weights,
        checkpoint.software_parts,
        lambda: compile_model(checkpoint, load_hardware("ideal"), "ideal"),
        lambda: measure_ir_drop(checkpoint, load_hardware("realistic")),
        lambda: calibrate(checkpoint.build_model(), [(4, 5)], seed=0),
    ):
        with pytest.raises(CheckpointError, match=r"plain language model .* expected latent_mode last or per-step"):
            use()


def test_the_software_parts_are_the_models_own() -> None:
    checkpoint = small_checkpoint()
    parts, model = checkpoint.software_parts(), checkpoint.build_model().double()
    rng = np.random.default_rng(0)
    h, z = rng.standard_normal(6), rng.standard_normal(3)

    with torch.no_grad():
        mu, logvar, logits = (f(torch.from_numpy(h)).numpy() for f in (model.mu, model.logvar, model.output))
        first = model.initial(torch.from_numpy(z)).numpy()
        words = model.encoder_embedding.weight.numpy(), model.decoder_embedding.weight.numpy()

    np.testing.assert_allclose(parts.mu_weight @ h + parts.mu_bias, mu, atol=1e-14)
    np.testing.assert_allclose(parts.logvar_weight @ h + parts.logvar_bias, logvar, atol=1e-14)
    np.testing.assert_allclose(parts.output_weight @ h + parts.output_bias, logits, atol=1e-14)
    np.testing.assert_allclose(parts.initial_weight @ z, first, atol=1e-14)
    np.testing.assert_array_equal(parts.encoder_embedding, words[0])
    np.testing.assert_array_equal(parts.decoder_embedding, words[1])
