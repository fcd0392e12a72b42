"""The opponent's bits: near what theory says of known processes, and blind to what follows."""

import numpy as np
import pytest
from scipy.signal import get_window, lfilter
from scipy.stats import logistic, norm

from noizenet.audio.adaptive import (
    HANN,
    _autocorrelation_before,
    _predicted,
    adaptive_bits,
    code_entropy_bits,
)
from noizenet.errors import ParameterError
from noizenet.units import mu_law_edges, mu_law_encode

N = 22_050
SETTLED = slice(4096, None)  # the first windows reach before the beginning
TWO_POLES = np.array([1, -1.8, 0.9])  # a damped tone


def bits_of(distribution, samples):
    """What the codes of samples cost one who knows the distribution of each; at most 40 bits."""
    codes = mu_law_encode(samples).astype(int)
    low, high = mu_law_edges()[codes], mu_law_edges()[codes + 1]
    mass = np.where(  # in either tail one of the two is exact
        low > distribution.median(),
        distribution.sf(low) - distribution.sf(high),
        distribution.cdf(high) - distribution.cdf(low),
    )
    return -np.log2(np.maximum(mass, 2.0**-40))


@pytest.fixture(scope="module")
def process():
    """An autoregressive process with logistic innovations, and what it costs one who knows it."""
    innovations = logistic.rvs(scale=0.01, size=N, random_state=3)
    samples = lfilter([1], TWO_POLES, innovations)
    known = samples - innovations  # the best prediction there is
    return samples, bits_of(logistic(known, 0.01), samples)


@pytest.mark.parametrize(("order", "most"), [(2, 0.02), (32, 0.06), (128, 0.2)])
def test_a_known_process_costs_little_more_than_to_one_who_knows_it(order, most, process):
    samples, known = process
    [bits] = adaptive_bits(samples, [order])
    excess = (bits - known)[SETTLED].mean()
    assert 0 < excess < most


def test_a_scale_that_changes_is_followed():
    """Ten times as loud for a second, and back: as cheap as if each second were alone."""
    loudness = np.repeat([0.002, 0.02, 0.002], N)
    samples = loudness * logistic.rvs(size=3 * N, random_state=1)
    [bits] = adaptive_bits(samples, [1])
    excess = bits - bits_of(logistic(0, loudness), samples)
    assert 0 < excess[SETTLED].mean() < 0.02
    # who knows only one loudness pays for the others
    assert (bits_of(logistic(0, 0.01), samples) - bits).mean() > 0.3


@pytest.mark.parametrize("order", [0, 1, 4])
def test_white_noise_is_not_predicted(order):
    samples = norm.rvs(scale=0.1, size=N, random_state=5)
    [bits] = adaptive_bits(samples, [order])
    # a logistic is not quite a normal distribution
    assert 0 < (bits - bits_of(norm(0, 0.1), samples))[SETTLED].mean() < 0.04


def test_a_factor_that_is_far_off_is_found():
    """Rare clicks in silence: most samples are far smaller than their mean size.

    All experts together cost at most their number's logarithm more than the best one alone.
    """
    rng = np.random.default_rng(2)
    n = 2 * N  # more than are at work at once
    samples = np.where(rng.random(n) < 0.02, 0.5 * rng.standard_normal(n), 1e-4)
    [bits] = adaptive_bits(samples, [0])
    decay = 1 - 1 / 200
    mean = lfilter([0, 1 - decay], [1, -decay], np.abs(samples), zi=[0.05])[0]
    of_factors = [
        bits_of(logistic(0, f * mean / (2 * np.log(2))), samples).sum()
        for f in (0.25, 0.5, 1, 2, 4)
    ]
    assert np.argmin(of_factors) == 0
    assert bits.sum() <= min(of_factors) + np.log2(9) + 1e-6


def test_the_first_sample_is_told_by_all_experts_alike():
    [bits] = adaptive_bits(np.array([0.07]), [32])
    scales = 2.0 ** np.arange(-2, 2.1, 0.5) * 0.05 / (2 * np.log(2))
    masses = 2 ** -bits_of(logistic(0, scales), np.full(9, 0.07))
    np.testing.assert_allclose(bits, -np.log2(masses.mean()), rtol=1e-9)


@pytest.mark.parametrize("value", [0.0, 0.3])
def test_a_constant_costs_next_to_nothing(value):
    """At 0, the edge between two codes, one bit says which side; elsewhere none is needed."""
    samples = np.full(N, value)
    for bits in adaptive_bits(samples, [1, 32]):
        assert np.isfinite(bits).all()
        # the first window knows of no constant, and later ones weigh the newest samples least
        assert bits[-4096:].mean() == pytest.approx(1 if value == 0 else 0, abs=0.01)


def test_full_scale_and_beyond_stay_finite():
    square = np.sign(np.sin(np.arange(9000) / 40)) * 1.5
    for bits in adaptive_bits(square, [0, 32]):
        assert np.isfinite(bits).all()
        assert bits.max() <= 40 + 1e-9


@pytest.mark.parametrize("changed_at", [255, 256, 3000, 8191])
def test_what_follows_changes_nothing(changed_at):
    """Exactly: each sample is told from those before it."""
    rng = np.random.default_rng(changed_at)
    samples = 0.1 * rng.standard_normal(8192)
    other = samples.copy()
    other[changed_at:] = 0.3 * rng.standard_normal(8192 - changed_at)
    for one, two in zip(
        adaptive_bits(samples, [4, 32]), adaptive_bits(other, [4, 32]), strict=True
    ):
        np.testing.assert_array_equal(one[:changed_at], two[:changed_at])
        assert one[changed_at] != two[changed_at]


def test_a_beginning_costs_what_it_costs_in_the_whole(process):
    """Whatever the blocks and slabs that it is computed in."""
    samples = np.tile(process[0], 3)
    [whole] = adaptive_bits(samples, [8])
    for n in (1, 255, 257, (1 << 15) + 1):
        [bits] = adaptive_bits(samples[:n], [8])
        np.testing.assert_allclose(bits, whole[:n], rtol=0, atol=1e-6)


def test_the_prediction_is_that_of_the_window_before(process):
    """Against normal equations that are solved plainly, in the middle of a block."""
    samples, order, t = process[0], 6, 5000
    start = t // 256 * 256
    heard = samples[start - 2048 : start] * get_window("hann", 2048)
    lags = np.correlate(heard, heard, "full")[2047 : 2048 + order]
    matrix = lags[np.abs(np.subtract.outer(range(order), range(order)))]
    coefficients = np.linalg.solve(matrix, lags[1:])  # of lag 1 first
    expected = coefficients @ samples[t - order : t][::-1]
    found = _predicted(samples, _autocorrelation_before(samples, order, HANN))
    assert found[t] == pytest.approx(expected, abs=1e-6)


def test_orders_are_told_each_alone(process):
    alone = [adaptive_bits(process[0][:5000], [order])[0] for order in (0, 3, 40)]
    together = adaptive_bits(process[0][:5000], (0, 3, 40))
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-9)


def test_entropy_of_the_codes():
    assert code_entropy_bits(np.zeros(100)) == 0
    assert code_entropy_bits(np.array([-0.5, 0.5])) == pytest.approx(1)
    assert code_entropy_bits(np.array([-0.5, 0.5, 0.5, 0.5])) == pytest.approx(0.8112781)


@pytest.mark.parametrize("bad", [np.zeros(0), np.zeros((3, 2)), np.array([0, np.nan])])
def test_what_is_no_sound_is_refused(bad):
    with pytest.raises(ParameterError, match="must be finite and mono"):
        adaptive_bits(bad, [2])


@pytest.mark.parametrize("order", [-1, 1025])
def test_an_order_beyond_the_window_is_refused(order):
    with pytest.raises(ParameterError, match=f"--orders {order} must be 0 to 1024"):
        adaptive_bits(np.zeros(500), [order])
