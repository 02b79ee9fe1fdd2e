"""Emitted decks in a stock `ngspice -b`, against eq. 12 and the trained weights written out by hand.

Expected values come from conductance.npz, manifest.json and model.safetensors read with json, numpy and
safetensors alone; the input is the one the decks replay, read from their own text.
"""

import json
import math
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from making import make_build
from safetensors.numpy import load_file
from support import complaints, run_ngspice, run_ngspice_batch

from hvae_mnn.engines.nodal import NodalEngine
from hvae_mnn.engines.spice import SpiceEngine

pytestmark = pytest.mark.ngspice

TILED = ("array.tile_rows=8", "array.tile_columns=4")
REFERENCE = "array.scheme=reference-column"
CASES = {
    "ideal, paired": ("ideal", TILED, {"cells": ("rnn", "gru"), "decoder": "rnn"}),
    "ideal, reference column": ("ideal", (*TILED, REFERENCE), {"cells": ("gru", "rnn"), "decoder": "rnn"}),
    "default, paired": ("default", TILED, {"cells": ("rnn", "gru"), "decoder": "rnn"}),
    "default, reference column": ("default", (*TILED, REFERENCE), {"cells": ("lstm", "rnn"), "decoder": "rnn"}),
}
_SOURCE = re.compile(r"^Vcode_(\d+) \S+ 0 (\S+)$", re.MULTILINE)


@pytest.fixture(scope="module", params=CASES.values(), ids=CASES.keys())
def build(request, tmp_path_factory):
    preset, overrides, checkpoint = request.param
    return make_build(tmp_path_factory.mktemp("decks") / "build", preset, overrides, **checkpoint)


def test_columns_are_equation_12(build):
    """v_k = sum_j (1/R_s - G_jk) x_j k/scale: the column as a fraction of full scale."""
    manifest = json.loads((build.folder / "manifest.json").read_text())
    conductances = np.load(build.folder / "conductance.npz")
    hardware = manifest["hardware"]
    exact = hardware["amplifier"]["gain"] is None
    codes, expected_codes = [], []
    for tile in _tiles(manifest):
        vectors = _run(build.folder / tile["deck"])
        g, inputs = conductances[f"{tile['name']}/programmed"], _row_fractions(build.folder, manifest, tile)
        assert g.shape[0] == len(inputs)
        for k, column in enumerate(g.T.tolist()):
            where = (tile["name"], k)
            held = vectors[f"v(hold{k})"][0] / hardware["adc"]["v_full_scale"]
            current = sum((1 / tile["r_s"] - one) * x for one, x in zip(column, inputs, strict=True))
            eq_12 = tile["weight_per_siemens"] * current / tile["scale"]
            assert held == pytest.approx(eq_12, abs=1e-9 if exact else 1e-3), where
            volts = _column_by_hand(tile, column, inputs, hardware)
            assert held == pytest.approx(volts / hardware["adc"]["v_full_scale"], abs=1e-7), where
            codes.append(vectors[f"v(adc{k})"][0])
            expected_codes.append(_code_by_hand(volts, hardware["adc"]))
    np.testing.assert_allclose(codes, expected_codes, rtol=0, atol=1e-7)


def _column_by_hand(tile, column, inputs, hardware):
    """Kirchhoff at the bit line, volt: an amplifier of gain A gives -R_f I / (1 + (1 + R_f G_tot)/A)."""
    gain = hardware["amplifier"]["gain"] or float("inf")
    volts = [hardware["drive"]["v_read"] * x for x in inputs]
    r_s, r_f, r_reference = tile["r_s"], tile["r_f"], tile["r_reference"]
    if r_reference is None:
        current = sum(v / r_s - v * g for v, g in zip(volts, column, strict=True))
        total = sum(1 / r_s + g for g in column)
    else:
        reference = -r_reference * sum(volts) / r_s / (1 + (1 + r_reference * len(volts) / r_s) / gain)
        current = sum(v * g for v, g in zip(volts, column, strict=True)) + reference / r_reference
        total = sum(column) + 1 / r_reference
    return -r_f * current / (1 + (1 + r_f * total) / gain)


def _code_by_hand(volts, adc):
    fraction = volts / adc["v_full_scale"]
    if adc["bits"] is None:
        return fraction
    code_max = 2 ** (adc["bits"] - 1) - 1
    return min(max(math.floor(fraction * code_max + 0.5), -code_max), code_max)


def test_tiles_add_up_to_the_trained_weights(build):
    """The tiles of a gate, times their scales, are W_x x + W_h h + b with the weights of model.safetensors."""
    manifest = json.loads((build.folder / "manifest.json").read_text())
    stored = load_file(build.folder / "model.safetensors")
    weights = {name.removeprefix("weights/"): value.astype(float) for name, value in stored.items()}
    bits = manifest["hardware"]["adc"]["bits"]
    layers = [layer for layer in manifest["layers"] if layer["cell"] == "rnn"]
    assert layers
    for layer in layers:
        found, step = np.zeros(layer["hidden"]), 0.0
        for tile in layer["tiles"]:
            vectors = _run(build.folder / tile["deck"])
            codes = np.array([vectors[f"v(adc{k})"][0] for k in range(tile["column_stop"] - tile["column_start"])])
            unit = tile["scale"] / (1 if bits is None else 2 ** (bits - 1) - 1)
            found[tile["column_start"] : tile["column_stop"]] += unit * codes
            step += 0 if bits is None else abs(unit)
        values = _layer_values(build.folder, manifest, layer)
        name = layer["name"]
        x_h = _torch_rows(weights, name, layer)
        bias = weights[f"{name}.bias_ih_l0"] + weights[f"{name}.bias_hh_l0"]
        np.testing.assert_allclose(found, x_h @ values + bias, rtol=0, atol=1e-6 + step)


def test_engines_give_the_codes_of_the_bare_run(build):
    manifest = json.loads((build.folder / "manifest.json").read_text())
    nodal = NodalEngine(build)
    with SpiceEngine(build, workers=1) as spice:
        for layer in manifest["layers"]:
            codes = _layer_codes(build.folder, layer)[None]
            columns = [
                (vectors[f"v(adc{k})"][0], vectors[f"v(hold{k})"][0])
                for tile in layer["tiles"]
                for vectors in [_run(build.folder / tile["deck"])]
                for k in range(tile["column_stop"] - tile["column_start"])
            ]
            expected, held = np.array(columns).T
            for engine in (spice, nodal):
                reading = engine.step({layer["name"]: codes})[layer["name"]]
                np.testing.assert_allclose(reading.codes[0], expected, rtol=0, atol=1e-9)
                volts = reading.analog[0] * manifest["hardware"]["adc"]["v_full_scale"]
                np.testing.assert_allclose(volts, held, rtol=0, atol=1e-6)


def test_a_bare_run_prints_no_complaint(build):
    manifest = json.loads((build.folder / "manifest.json").read_text())
    for layer in manifest["layers"]:
        deck = build.folder / layer["tiles"][-1]["deck"]
        assert complaints(run_ngspice([str(deck)], deck.parent)) == []


def test_read_noise_is_added_to_what_is_held(tmp_path):
    """A bare run is without noise; a source of 3 mV is 3 mV more."""
    small = {"cells": ("rnn", "rnn"), "decoder": "rnn"}
    quiet, noisy = (
        make_build(tmp_path / name, "default", (*TILED, *more), **small)
        for name, more in (("quiet", ()), ("noisy", ("device.read_sigma=0.01",)))
    )
    deck = quiet.manifest.layers[0].tiles[0].deck
    before, path = _run(quiet.folder / deck), noisy.folder / deck
    assert complaints(run_ngspice([str(path)], path.parent)) == []
    assert _run(path)["v(hold1)"] == pytest.approx(before["v(hold1)"], abs=1e-9)
    text = path.read_text()
    assert text.count("Vread_1 noisy1 out1 0\n") == 1
    path.write_text(text.replace("Vread_1 noisy1 out1 0\n", "Vread_1 noisy1 out1 3m\n"))
    found = run_ngspice_batch(path)
    for k in range(3):
        assert found[f"v(hold{k})"] == pytest.approx(before[f"v(hold{k})"] + (3e-3 if k == 1 else 0), abs=1e-7)


def _tiles(manifest: dict) -> list[dict]:
    return [tile for layer in manifest["layers"] for tile in layer["tiles"]]


@cache
def _run(deck: Path) -> dict[str, np.ndarray]:
    return run_ngspice_batch(deck)


def _row_codes(folder: Path, tile: dict) -> np.ndarray:
    """Return the code that each row of a deck replays, (rows,)."""
    found = _SOURCE.findall((folder / tile["deck"]).read_text())
    assert [int(row) for row, _ in found] == list(range(len(tile["inputs"])))
    return np.array([float(value) for _, value in found])


def _row_fractions(folder: Path, manifest: dict, tile: dict) -> np.ndarray:
    bits = manifest["hardware"]["dac"]["bits"]
    return _row_codes(folder, tile) / (1 if bits is None else 2 ** (bits - 1) - 1)


def _layer_codes(folder: Path, layer: dict) -> np.ndarray:
    """Return the codes that all decks of a layer replay, (inputs,); the tiles must agree on them."""
    codes = np.full(sum(group["size"] for group in layer["groups"]), np.nan)
    for tile in layer["tiles"]:
        for place, code in zip(tile["inputs"], _row_codes(folder, tile), strict=True):
            if place >= 0:
                assert np.isnan(codes[place]) or codes[place] == code
                codes[place] = code
    assert not np.isnan(codes).any()
    assert np.count_nonzero(codes) > len(codes) / 2
    return codes


def _layer_values(folder: Path, manifest: dict, layer: dict) -> np.ndarray:
    """Return the numbers that the replayed codes stand for, (inputs,)."""
    bits = manifest["hardware"]["dac"]["bits"]
    x_max = np.concatenate([np.full(group["size"], group["x_max"]) for group in layer["groups"]])
    return _layer_codes(folder, layer) * x_max / (1 if bits is None else 2 ** (bits - 1) - 1)


def _torch_rows(weights: dict[str, np.ndarray], name: str, layer: dict) -> np.ndarray:
    """Return torch's matrix for the layer's inputs in order x, h, (z), (hidden, inputs)."""
    own, given = weights[f"{name}.weight_hh_l0"], weights[f"{name}.weight_ih_l0"]
    x_size = layer["groups"][0]["size"]
    return np.concatenate([given[:, :x_size], own, given[:, x_size:]], axis=1)
