"""The compiled draws follow the head's distribution, and know the edges."""

import numpy as np
import pytest
import scipy.stats
from numba import njit

from noizenet.kernels import draws

N_DRAWS = 20_000
SIGNIFICANCE = 1e-3  # of a test that passes or fails for good: the draws are fixed


@njit
def exp_each(x, y):
    for i in range(len(x)):
        y[i] = draws.exp(x[i])


@njit
def draw_each(head, outputs, choices, noises, temperature, sharpness, drawn):
    scratch = draws.scratch_for(head)
    for i in range(len(drawn)):
        drawn[i] = draws.draw(
            head, outputs, 0, choices[i], noises[i], temperature, sharpness, scratch
        )


@njit
def all_finite(numbers, n):
    return draws.all_finite(numbers, 0, n)


def draw(kind, outputs, uniforms, temperature, scale=1.0, floor=0.0):
    """Draw with each row of ``uniforms`` from a head that says ``outputs`` in torch's order."""
    places, n_outputs, n_choices = draws.layout(kind, len(outputs))
    laid_out = np.full(n_outputs + 16, draws.NEVER)
    laid_out[places] = outputs
    head = draws.Head(kind, n_choices, n_outputs, np.float32(scale), np.float32(floor))
    drawn = np.empty(len(uniforms), np.float32)
    draw_each(
        head, laid_out, np.ascontiguousarray(uniforms[:, 0]),
        draws.logistic_quantiles(np.ascontiguousarray(uniforms[:, -1])),
        np.float32(temperature), np.float32(1 / max(temperature, 1e-30)), drawn,
    )  # fmt: skip
    return drawn


def uniforms(n=N_DRAWS, rng=0):
    tiny = np.float32(2**-24)
    return np.random.default_rng(rng).random((n, 2), np.float32).clip(tiny, 1 - tiny)


def softmax(x):
    weights = np.exp(np.asarray(x, np.float64) - np.max(x))
    return weights / weights.sum()


# --- functions -----------------------------------------------------------------------------------


def test_exp():
    x = np.linspace(draws.LOWEST_EXP, draws.HIGHEST_EXP, 200_001).astype(np.float32)
    y = np.empty_like(x)
    exp_each(x, y)
    assert np.max(np.abs(y / np.exp(x.astype(np.float64)) - 1)) < draws.EXP_ERROR
    edges = np.array([-1e30, -np.inf, 0, 1e30, np.inf], np.float32)
    y = np.empty_like(edges)
    exp_each(edges, y)
    assert np.all(y[:2] < 2e-38)
    assert y[2] == 1
    assert np.all(np.isfinite(y[3:]) & (y[3:] > 1e38))


def test_logistic_quantiles():
    u = np.concatenate([uniforms()[:, 0], [2**-24, 0.5, 1 - 2**-24]]).astype(np.float32)
    expected = scipy.stats.logistic.ppf(u.astype(np.float64))
    np.testing.assert_allclose(draws.logistic_quantiles(u), expected, rtol=3e-7, atol=3e-7)


@pytest.mark.parametrize("n", [1, 7, 8, 9, 16, 31])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_whatever_is_not_finite_is_noticed(n, bad):
    numbers = np.linspace(-1e38, 1e38, 64).astype(np.float32)
    assert all_finite(numbers, n)
    for at in range(n):
        spoilt = numbers.copy()
        spoilt[at] = bad
        assert not all_finite(spoilt, n)


# --- distributions -------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 0.6, 1.5])
@pytest.mark.parametrize("n", [1, 3, 10, 17])
def test_mixture(n, temperature):
    """Weights are sharpened by the temperature, scales shrink with it."""
    rng = np.random.default_rng(n)
    log_weights, means = rng.normal(size=n), rng.normal(size=n, scale=3)
    raw = rng.uniform(-3, 0, n)
    floor = 0.02
    drawn = draw(
        draws.MIXTURE, np.concatenate((log_weights, means, raw)), uniforms(), temperature,
        floor=floor,
    )  # fmt: skip
    weights = softmax(log_weights / temperature)
    scales = temperature * (floor + np.exp(raw))

    def distribution(x):
        return scipy.stats.logistic.cdf(np.asarray(x)[:, None], means, scales) @ weights

    assert scipy.stats.kstest(drawn, distribution).pvalue > SIGNIFICANCE
    # and not that of another temperature
    wrong = draw(
        draws.MIXTURE, np.concatenate((log_weights, means, raw)), uniforms(), 3 * temperature,
        floor=floor,
    )  # fmt: skip
    assert scipy.stats.kstest(wrong, distribution).pvalue < 1e-9


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("n", [2, 16, 40, 256])
def test_codes(n, temperature):
    log_weights = np.random.default_rng(n).normal(size=n)
    drawn = draw(draws.CODES, log_weights, uniforms(), temperature)
    counts = np.bincount(drawn.astype(int), minlength=n)
    assert len(counts) == n
    expected = N_DRAWS * softmax(log_weights / temperature)
    assert scipy.stats.chisquare(counts, expected).pvalue > SIGNIFICANCE
    assert scipy.stats.chisquare(counts, np.full(n, N_DRAWS / n)).pvalue < 1e-9


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_value(temperature):
    drawn = draw(draws.VALUE, np.array([0.3]), uniforms(), temperature, scale=0.2)
    distribution = scipy.stats.logistic(0.3, 0.2 * temperature).cdf
    assert scipy.stats.kstest(drawn, distribution).pvalue > SIGNIFICANCE


@pytest.mark.parametrize("n", [1, 2, 15, 16, 17, 32, 33, 256, 300])
def test_a_choice_is_where_the_running_sum_reaches_the_uniform(n):
    log_weights = np.random.default_rng(n).normal(size=n).astype(np.float32) * 3
    u = uniforms(3000)
    drawn = draw(draws.CODES, log_weights, u, 1.0).astype(int)
    reached = np.cumsum(softmax(log_weights))
    expected = np.searchsorted(reached, u[:, 0].astype(np.float64)).clip(max=n - 1)
    near_an_edge = np.abs(reached[:, None] - u[:, 0]).min(0) < 1e-6
    assert near_an_edge.mean() < 0.01 if n > 1 else True
    np.testing.assert_array_equal(drawn[~near_an_edge], expected[~near_an_edge])


@pytest.mark.parametrize("n", [1, 5, 16, 20, 256])
def test_no_choice_is_made_up(n):
    """The largest uniform takes the last choice, never one of those that fill up a block."""
    u = np.array([[2**-24], [1 - 2**-24]], np.float32)
    drawn = draw(draws.CODES, np.zeros(n), u, 1.0)
    assert drawn.tolist() == [0, n - 1]


def test_what_is_next_to_impossible_is_not_drawn():
    log_weights = np.full(64, -1e4)
    log_weights[[3, 40]] = 0.0
    drawn = draw(draws.CODES, log_weights, uniforms(), 1.0)
    assert set(drawn) == {3, 40}
    # large log weights are no trouble either, nor is a hot or a cold temperature
    assert set(draw(draws.CODES, log_weights + 1e5, uniforms(), 1.0)) == {3, 40}
    assert set(draw(draws.CODES, np.array([0.0, 1e-3]), uniforms(), 1e-6)) == {1}
    assert set(draw(draws.CODES, np.array([0.0, 1e-3]), uniforms(), 1e-38)) == {1}
    assert set(draw(draws.CODES, np.array([0.0, 5.0]), uniforms(), 1e9)) == {0, 1}


@pytest.mark.parametrize("kind", [draws.VALUE, draws.MIXTURE, draws.CODES])
def test_without_temperature_it_is_the_likeliest(kind):
    outputs = {
        draws.VALUE: np.array([0.25]),
        draws.MIXTURE: np.array([0, 2, 2, 1, 0.5, 0.25, 0.75, 9, 0, 0, 0, 0]),  # the first of two
        draws.CODES: np.array([0, 3, -1, 3, 2]),
    }[kind]
    expected = {draws.VALUE: 0.25, draws.MIXTURE: 0.25, draws.CODES: 1}[kind]
    assert set(draw(kind, outputs, uniforms(100), 0.0)) == {expected}
