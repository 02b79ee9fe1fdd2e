"""Full scales of converters against brute force, against Max's Gaussian quantiser, and in a Build."""

import numpy as np
import pytest
from making import layer_inputs, make_build, make_checkpoint
from scipy.optimize import minimize_scalar
from scipy.stats import norm

from hvae_mnn.circuit.converters import Converter
from hvae_mnn.circuit.plan import LayerPlan, row_inputs
from hvae_mnn.compiler.build import Build
from hvae_mnn.compiler.ranges import choose_full_scale
from hvae_mnn.engines.nodal import NodalEngine
from hvae_mnn.engines.software import SoftwareEngine
from hvae_mnn.errors import HardwareError
from hvae_mnn.hardware.files import load_hardware

GAUSSIAN = norm.ppf((np.arange(40_000) + 0.5) / 40_000)


def converter_error(values: np.ndarray, full_scale: float, bits: int) -> float:
    converter = Converter(bits)
    back = full_scale * converter.decode(converter.encode(values / full_scale))
    return float(np.mean((back - values) ** 2))


def test_a_number_is_the_percentile_of_the_magnitudes() -> None:
    values = np.array([[-4.0, 1.0], [2.0, -3.0]])
    assert choose_full_scale(values, 100, 8) == 4.0
    assert choose_full_scale(values, 50, 8) == 2.5
    assert choose_full_scale(np.array([0.0, 0.0, 0.0, 5.0]), 50, 8) == 5.0  # half of them silent


def test_auto_without_bits_is_the_largest() -> None:
    assert choose_full_scale(np.array([0.5, -4.0, 1.0]), "auto", None) == 4.0


@pytest.mark.parametrize("bits", [None, 2, 8])
def test_silence_has_full_scale_1(bits: int | None) -> None:
    assert choose_full_scale(np.zeros((3, 2)), "auto", bits) == 1.0


def sources() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    outliers = np.where(rng.random(5000) < 0.04, 6.0, 0.3) * rng.standard_normal(5000)
    return {
        "normal": rng.standard_normal(5000),
        "laplace": rng.laplace(size=5000),
        "uniform": rng.uniform(-2, 2, 5000),
        "outliers": outliers,
        "one value": np.full(7, -3.0),
        "few": np.array([0.1, -0.2, 7.0]),
        "float32": rng.standard_normal(3000).astype(np.float32) * 1e-6,
    }


@pytest.mark.parametrize("bits", [2, 3, 5, 8, 24])
@pytest.mark.parametrize("source", sources())
def test_auto_is_as_good_as_brute_force(source: str, bits: int) -> None:
    """The converter's own arithmetic at 1500 full scales from a hundredth of the largest to the largest."""
    values = sources()[source].astype(np.float64)
    chosen = choose_full_scale(sources()[source], "auto", bits)
    largest = np.abs(values).max()
    assert 0 < chosen <= largest
    tried = [converter_error(values, full_scale, bits) for full_scale in np.geomspace(largest / 100, largest, 1500)]
    assert converter_error(values, chosen, bits) <= 1.01 * min(tried) + 1e-30


def gaussian_error(step: float, code_max: int) -> float:
    """Mean squared error of N(0, 1) rounded to multiples of step up to code_max, integrated in closed form."""

    def integral(a: float, b: float, level: float) -> float:
        mass = norm.cdf(b) - norm.cdf(a)
        first = norm.pdf(a) - norm.pdf(b)
        second = mass + a * norm.pdf(a) - (b * norm.pdf(b) if np.isfinite(b) else 0.0)
        return second - 2 * level * first + level**2 * mass

    edges = [*(step * (np.arange(code_max + 1) - 0.5)), np.inf]
    edges[0] = 0.0  # half of the cell around zero, doubled with all others
    return 2 * sum(integral(edges[i], edges[i + 1], step * i) for i in range(code_max + 1))


@pytest.mark.parametrize(("bits", "published"), [(3, 0.5860), (4, 0.3352), (5, 0.1881), (8, 0.0308)])
def test_the_optimum_for_a_gaussian(bits: int, published: float) -> None:
    """Max 1960 has 2^bits levels; with one fewer the step is up to 2^bits / (2^bits - 1) times as wide."""
    code_max = 2 ** (bits - 1) - 1
    exact = minimize_scalar(gaussian_error, (published, 1.3 * published), args=(code_max,), tol=1e-6).x
    step = choose_full_scale(GAUSSIAN, "auto", bits) / code_max
    assert step == pytest.approx(exact, rel=0.01)
    assert 0.995 * published < step < 1.01 * published * 2**bits / (2**bits - 1)


def test_the_published_step_of_7_levels() -> None:
    """Max 1960, table II: N = 7, step 0.6508, error 0.04686."""
    step = choose_full_scale(GAUSSIAN, "auto", 3) / 3
    assert step == pytest.approx(0.6508, rel=2e-3)
    assert gaussian_error(step, 3) == pytest.approx(0.04686, rel=1e-3)


def calibration_sums(build: Build, layer: LayerPlan) -> dict[str, np.ndarray]:
    """Each tile's column sums in calibration, weights read back from conductances."""
    x_max = np.repeat([group.x_max for group in layer.groups], [group.size for group in layer.groups])
    inputs = build.checkpoint.calibration[layer.name].astype(np.float64) / x_max
    return {
        plan.name: np.abs(
            row_inputs(plan.inputs, inputs, 1.0) @ (plan.weight_per_siemens * (1 / plan.r_s - build.tiles[plan.name].g))
        )
        for plan in layer.tiles
    }


@pytest.mark.parametrize("percentile", ["100", "97", "auto"])
@pytest.mark.parametrize("scope", ["tile", "layer"])
def test_full_scales_of_a_layer_s_tiles(scope: str, percentile: str) -> None:
    overrides = ["array.tile_rows=7", f"adc.range_scope={scope}", f"adc.range_percentile={percentile}", "adc.bits=4"]
    build = make_build(None, "ideal", overrides)
    wanted = percentile if percentile == "auto" else float(percentile)
    for layer in build.manifest.layers:
        sums = calibration_sums(build, layer)
        pooled = np.concatenate([each.ravel() for each in sums.values()])
        for plan in layer.tiles:
            values = sums[plan.name] if scope == "tile" else pooled
            assert plan.full_scale == pytest.approx(choose_full_scale(values, wanted, 4), rel=1e-6)
            assert abs(plan.scale) == plan.full_scale
        assert (len({plan.full_scale for plan in layer.tiles}) == 1) == (scope == "layer")


def test_a_shared_full_scale_changes_no_sum() -> None:
    build = make_build(None, "ideal", ["adc.range_scope=layer", "array.tile_rows=7"])
    for layer in build.manifest.layers:
        inputs = layer_inputs(build, layer.name)
        found = NodalEngine(build).step({layer.name: inputs})[layer.name].codes
        exact = SoftwareEngine(build).step({layer.name: inputs})[layer.name].analog
        np.testing.assert_allclose(found, exact, rtol=0, atol=1e-6)


def test_input_ranges_at_100_are_the_stored_ones() -> None:
    build = make_build(None, "default", ["dac.range_percentile=100"])
    assert x_max(build) == {layer: dict(groups) for layer, groups in build.checkpoint.ranges.items()}


@pytest.mark.parametrize("bits", ["4", "none"])
@pytest.mark.parametrize("percentile", ["90", "auto"])
def test_input_ranges_come_from_the_samples_and_never_exceed_the_largest(percentile: str, bits: str) -> None:
    build = make_build(None, "default", [f"dac.range_percentile={percentile}", f"dac.bits={bits}"])
    sizes = {"encoder1": (10, 6), "encoder2": (6, 6), "decoder": (10, 6, 4)}
    narrower = 0
    for layer, groups in x_max(build).items():
        edges = np.cumsum([0, *sizes[layer]])
        for (name, found), start, stop in zip(groups.items(), edges[:-1], edges[1:], strict=True):
            largest = build.checkpoint.ranges[layer][name]
            values = np.append(build.checkpoint.calibration[layer][:, start:stop], largest)
            if percentile == "90":
                expected = np.percentile(np.abs(values), 90)
            else:
                expected = choose_full_scale(values, "auto", None if bits == "none" else 4)
            assert found == pytest.approx(min(expected, largest), rel=1e-12)
            narrower += found < largest
    assert (narrower == 0) == (percentile == "auto" and bits == "none")


def x_max(build: Build) -> dict[str, dict[str, float]]:
    return {layer.name: {group.name: group.x_max for group in layer.groups} for layer in build.manifest.layers}


def test_inputs_beyond_full_scale_clip_with_bits_and_pass_without() -> None:
    """At percentile 50 half of what a row gets is beyond full scale."""
    for bits in (None, 8):
        overrides = [] if bits is None else ["dac.bits=8"]
        build = make_build(None, "ideal", ["dac.range_percentile=50", *overrides])
        engine, software = NodalEngine(build), SoftwareEngine(build)
        given = 3 * layer_inputs(build, "decoder")
        found = engine.step({"decoder": engine.dac.encode(given)})["decoder"].analog
        carried = given if bits is None else np.clip(np.floor(127 * given + 0.5) / 127, -1, 1)
        np.testing.assert_allclose(found, software.step({"decoder": carried})["decoder"].analog, rtol=0, atol=1e-5)
        assert engine.dac.count_clipped(given).sum() == (0 if bits is None else np.count_nonzero(np.abs(given) > 1.003))


def test_column_ranges_count_with_clipped_inputs() -> None:
    """The rows never carry more than full scale, so no column needs a range for more."""
    passing = make_build(None, "default", ["dac.range_percentile=50", "dac.bits=none"])
    clipping = make_build(None, "default", ["dac.range_percentile=50", "dac.bits=12"])
    for layer in ("encoder1", "decoder"):
        plans = zip(clipping.layer(layer).tiles, passing.layer(layer).tiles, strict=True)
        assert all(narrow.full_scale < wide.full_scale for narrow, wide in plans)


@pytest.mark.parametrize("key", ["dac.range_percentile", "adc.range_percentile"])
@pytest.mark.parametrize(("value", "shown"), [("foo", "'foo'"), ("0", "0"), ("100.5", "100.5"), ("true", "True")])
def test_a_wrong_percentile_is_named(key: str, value: str, shown: str) -> None:
    with pytest.raises(HardwareError) as caught:
        load_hardware("default", [f"{key}={value}"])
    expected = f"hardware default: {key} is {shown}; expected a percentile above 0 and up to 100, or auto"
    assert str(caught.value) == expected


def test_auto_survives_a_manifest() -> None:
    build = make_build(None, "default", ["adc.range_percentile=auto", "dac.range_percentile=auto"])
    again = type(build.manifest).model_validate_json(build.manifest.model_dump_json())
    assert again == build.manifest
    assert make_checkpoint().content_hash() == again.model_hash
