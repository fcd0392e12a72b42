"""Levinson's recursion against scipy and the plain twin, and stable whatever comes in."""

import numpy as np
import pytest
import scipy.linalg
import scipy.signal

from noizenet.kernels import levinson as kernel
from noizenet.kernels import reference
from noizenet.kernels.levinson import levinson

ORDERS = (0, 1, 2, 3, 8, 31, 320)
IMPULSE_SAMPLES = 200_000  # by then 0.9999ⁿ has come down to 2e-9


def lags_of(sounds, order):
    """Autocorrelations of sounds, (n, order + 1)."""
    sounds = np.asarray(sounds, np.float64)
    n_samples = sounds.shape[1]
    power = np.abs(np.fft.rfft(sounds, 2 * n_samples)) ** 2
    return np.fft.irfft(power)[:, : order + 1] / n_samples


def coloured_noise(n, order):
    """Autocorrelations of noise through a resonance, each of its own."""
    draw = np.random.default_rng(order + 7 * n)
    sounds = [
        scipy.signal.lfilter([1], [1, -1.9 * np.cos(angle), 0.9], draw.standard_normal(2000))
        for angle in draw.uniform(0, np.pi, n)
    ]
    return lags_of(sounds, order)


def nasty_lags(order):
    """What is hardly an autocorrelation, or none at all; name -> (order + 1,)."""
    t = np.arange(4096)
    window, draw = np.hanning(4096), np.random.default_rng(0)
    sounds = {
        "rumble": np.sin(1e-4 * t) * window,
        "hum": np.sin(0.01 * t) * window,
        "two tones": (np.sin(0.02 * t) + 0.5 * np.sin(1.3 * t)) * window,
        "offset": np.ones(4096) * window,
        "Nyquist": (-1.0) ** t * window,
        "loud": 1e6 * np.sin(0.3 * t) * window,
        "quiet": 1e-6 * np.sin(0.3 * t) * window,
        "click": 1.0 * (t == 7),
    }
    found = dict(zip(sounds, lags_of(list(sounds.values()), order), strict=True))
    for i in range(4):  # spectra as a network might draw them
        power = np.exp(6 * draw.standard_normal(2049) - i * np.arange(2049) / 100)
        found[f"drawn {i}"] = np.fft.irfft(power)[: order + 1]
    one = np.ones(order + 1)
    random = 0.3 * draw.standard_normal(order + 1)
    random[0] = 1
    too_large = 2 * one
    too_large[0] = 1
    return found | {
        "constant": one,
        "alternating": (-1.0) ** np.arange(order + 1),
        "huge": 1e300 * np.cos(0.1 * np.arange(order + 1)),
        "no autocorrelation": random,
        "far from one": too_large,
        "negative": -one,
        "silence": 0 * one,
        "not a number": np.nan * one,
        "infinite": np.inf * one,
    }


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("n", [1, 3, 4, 9])
def test_equals_plain(n, order):
    lags = coloured_noise(n, order)
    coefficients, error = levinson(lags)
    plain_coefficients, plain_error = reference.levinson(lags)
    assert coefficients.shape == (n, order)
    assert coefficients.dtype == np.float32
    np.testing.assert_allclose(coefficients, plain_coefficients, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(error, plain_error, rtol=1e-11)


@pytest.mark.parametrize("order", ORDERS[1:])
@pytest.mark.parametrize("bandwidth", [1.0, 0.999])
def test_solves_the_normal_equations(order, bandwidth):
    lags = coloured_noise(5, order)
    coefficients, error = levinson(lags, noise_share=1e-6, bandwidth=bandwidth)
    for row, newest_first, left in zip(lags, coefficients[:, ::-1], error, strict=True):
        row = row.copy()
        row[0] = row[0] * (1 + 1e-6) + kernel.NOISE_POWER
        solution = scipy.linalg.solve_toeplitz(row[:-1], row[1:])
        expected = solution * bandwidth ** np.arange(1, order + 1)
        np.testing.assert_allclose(newest_first, expected, rtol=1e-6, atol=2e-7)
        np.testing.assert_allclose(left, row[0] - solution @ row[1:], rtol=1e-9)


def test_finds_the_process_that_made_the_sound():
    true = np.array([1.2, -0.8, 0.3])
    draw = np.random.default_rng(0).standard_normal(200_000)
    sound = scipy.signal.lfilter([0.5], np.concatenate(([1], -true)), draw)
    coefficients, error = levinson(lags_of([sound], 3), bandwidth=1.0)
    np.testing.assert_allclose(coefficients[0, ::-1], true, rtol=0, atol=0.01)
    np.testing.assert_allclose(error, 0.25, rtol=0.01)


@pytest.mark.parametrize("order", [1, 2, 3, 4, 8, 32, 320])
def test_is_stable_whatever_comes_in(order):
    """The impulse response of 1/A(z), in the float32 coefficients that are played, dies away."""
    lags = nasty_lags(order)
    coefficients, error = levinson(np.stack(list(lags.values())))
    assert np.isfinite(coefficients).all()
    assert np.isfinite(error).all()
    assert (error > 0).all()
    impulse = np.zeros(IMPULSE_SAMPLES)
    impulse[0] = 1
    for name, row in zip(lags, coefficients, strict=True):
        denominator = np.concatenate(([1.0], -row[::-1].astype(np.float64)))
        response = np.abs(scipy.signal.lfilter([1.0], denominator, impulse))
        assert response[-1000:].max() < 1e-7, name
        assert response.max() < 1e4, name
        assert np.abs(np.roots(denominator)).max(initial=0) < 1, name


@pytest.mark.parametrize("name", ["silence", "negative", "not a number", "infinite"])
def test_silence_predicts_nothing(name):
    coefficients, error = levinson(nasty_lags(20)[name][None])
    np.testing.assert_array_equal(coefficients, np.zeros((1, 20)))
    np.testing.assert_allclose(error, kernel.NOISE_POWER)


def test_ends_with_the_highest_order_that_is_sound():
    lags = np.array([[1.0, 0.5, 5.0, 0.1]])  # after lag 1 no autocorrelation
    coefficients, error = levinson(lags, bandwidth=1.0)
    np.testing.assert_allclose(coefficients, [[0, 0, 0.5]], rtol=1e-6)
    np.testing.assert_allclose(error, 0.75, rtol=1e-6)


def test_a_row_is_the_same_in_any_company(monkeypatch):
    lags = np.concatenate((coloured_noise(7, 40), np.stack(list(nasty_lags(40).values()))))
    together, errors = levinson(lags)
    for i in range(len(lags)):
        alone, error = levinson(lags[i : i + 1])
        np.testing.assert_array_equal(alone[0], together[i])
        assert error[0] == errors[i]
    monkeypatch.setattr(kernel, "DEALT_ROWS", 5)
    for n_threads in (1, 2, 3):
        dealt, dealt_errors = levinson(lags, n_threads=n_threads)
        np.testing.assert_array_equal(dealt, together)
        np.testing.assert_array_equal(dealt_errors, errors)


def test_nothing_at_all():
    coefficients, error = levinson(np.zeros((0, 5)))
    assert coefficients.shape == (0, 4)
    assert error.shape == (0,)


@pytest.mark.parametrize("shape", [(5,), (2, 0), (1, 2, 3)])
def test_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match="must be"):
        levinson(np.ones(shape))


def test_what_it_was_given_is_left_alone():
    lags = coloured_noise(3, 10)
    before = lags.copy()
    levinson(lags)
    np.testing.assert_array_equal(lags, before)
