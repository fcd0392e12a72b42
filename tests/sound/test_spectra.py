"""Spectra of blocks: what they are of, to what accuracy, and that nothing later is in them."""

import numpy as np
import pytest

from noizenet.errors import ParameterError
from noizenet.sound import spectra as module
from noizenet.sound.spectra import (
    HOP_SAMPLES,
    N_BINS,
    WINDOW_AROUND,
    WINDOW_BEFORE,
    WINDOW_SAMPLES,
    autocorrelation,
    n_blocks_of,
    spectra_around,
    spectra_before,
)
from noizenet.units import SAMPLE_RATE_HZ

BOTH = pytest.mark.parametrize("spectra_of", [spectra_before, spectra_around])
FIRST = {spectra_before: -WINDOW_SAMPLES, spectra_around: (HOP_SAMPLES - WINDOW_SAMPLES) // 2}
WINDOWS = {spectra_before: WINDOW_BEFORE, spectra_around: WINDOW_AROUND}
TOLERANCE = 1e-6  # of a bin, relative to the loudest of its spectrum (float32)


def noise(n_samples, seed=0):
    return np.random.default_rng(seed).uniform(-0.5, 0.5, n_samples).astype(np.float32)


def windowed(spectra_of, samples, block):
    """The windowed stretch that a block's spectrum is of, straight from the definition."""
    first = block * HOP_SAMPLES + FIRST[spectra_of]
    stretch = np.zeros(WINDOW_SAMPLES)
    for i in range(WINDOW_SAMPLES):
        if 0 <= first + i < len(samples):
            stretch[i] = samples[first + i]
    return stretch * WINDOWS[spectra_of]


@BOTH
@pytest.mark.parametrize("n_samples", [1, 255, 256, 257, 5000])
def test_is_the_spectrum_of_its_stretch(spectra_of, n_samples):
    samples = noise(n_samples)
    found = spectra_of(samples)
    assert found.shape == (-(-n_samples // HOP_SAMPLES), N_BINS)
    assert found.dtype == np.float32
    for block, spectrum in enumerate(found):
        stretch = windowed(spectra_of, samples, block)
        power = np.abs(np.fft.rfft(stretch, 2 * WINDOW_SAMPLES)) ** 2
        power /= np.square(WINDOWS[spectra_of]).sum()
        np.testing.assert_allclose(spectrum, power, rtol=0, atol=TOLERANCE * power.max())


@BOTH
def test_its_inverse_is_the_autocorrelation_of_one_sample(spectra_of):
    samples, order = noise(9000), 320
    lags = autocorrelation(spectra_of(samples), order)
    assert lags.shape == (n_blocks_of(9000), order + 1)
    assert lags.dtype == np.float64
    for block in (5, 10, 20):
        stretch = windowed(spectra_of, samples, block)
        expected = np.correlate(stretch, stretch, "full")[WINDOW_SAMPLES - 1 :][: order + 1]
        expected /= np.square(WINDOWS[spectra_of]).sum()
        np.testing.assert_allclose(lags[block], expected, rtol=0, atol=1e-7 * expected[0])


@BOTH
def test_lag_zero_is_the_mean_square(spectra_of):
    phase = 2 * np.pi * 441 / SAMPLE_RATE_HZ * np.arange(20_000)
    lags = autocorrelation(spectra_of(0.6 * np.sin(phase)), 0)[10:-10, 0]
    np.testing.assert_allclose(lags, 0.18, rtol=1e-4)


@pytest.mark.parametrize("order", [0, 1, WINDOW_SAMPLES])
def test_every_order_is_the_inverse_transform(order):
    spectra = spectra_before(noise(3000))
    expected = np.fft.irfft(spectra.astype(np.float64))[:, : order + 1]
    np.testing.assert_allclose(autocorrelation(spectra, order), expected, rtol=0, atol=1e-15)


def test_windows_rise_and_fall():
    assert len(WINDOW_BEFORE) == len(WINDOW_AROUND) == WINDOW_SAMPLES
    np.testing.assert_array_equal(WINDOW_AROUND, WINDOW_AROUND[::-1])
    for window, n_rising in ((WINDOW_BEFORE, WINDOW_SAMPLES - 128), (WINDOW_AROUND, 1024)):
        assert (np.diff(window[:n_rising]) > 0).all()
        assert (np.diff(window[n_rising:]) < 0).all()
        assert window.min() > 0
        assert window.max() <= 1


@pytest.mark.parametrize("frequency_hz", [55, 440])
def test_quiet_overtones_are_not_drowned_in_rounding(frequency_hz):
    """Beside a loud bass the upper half of the spectrum is as good as empty."""
    phase = 2 * np.pi * frequency_hz / SAMPLE_RATE_HZ * np.arange(20_000)
    spectra = spectra_around((0.9 * np.sin(phase)).astype(np.float32))[10:-10].astype(np.float64)
    share = spectra[:, N_BINS // 2 :].mean() / spectra.mean()
    assert 10 * np.log10(share) < -130


# --- causality -----------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [0, 1, 7, 130, 131])
def test_nothing_later_is_in_what_comes_before(block):
    samples = noise(40_000)
    changed = samples.copy()
    changed[block * HOP_SAMPLES :] = noise(len(samples), 1)[block * HOP_SAMPLES :]
    before, after = spectra_before(samples), spectra_before(changed)
    np.testing.assert_array_equal(after[: block + 1], before[: block + 1])
    assert not np.array_equal(after[block + 1], before[block + 1])


def test_a_sound_cut_off_is_the_same_until_then():
    samples = noise(40_000)
    whole = spectra_before(samples)
    for n in (1, 2, 3, 7, 128, 129, 131):
        np.testing.assert_array_equal(spectra_before(samples[: n * HOP_SAMPLES]), whole[:n])


def test_before_the_first_block_is_silence():
    np.testing.assert_array_equal(spectra_before(noise(1000))[0], np.zeros(N_BINS))


def test_around_sees_nothing_beyond_its_window():
    samples, block = noise(20_000), 40
    changed = noise(20_000, 1)
    first = block * HOP_SAMPLES + FIRST[spectra_around]
    changed[first : first + WINDOW_SAMPLES] = samples[first : first + WINDOW_SAMPLES]
    before, after = spectra_around(samples), spectra_around(changed)
    np.testing.assert_array_equal(after[block], before[block])
    assert (after[[block - 1, block + 1]] != before[[block - 1, block + 1]]).all()


# --- parts ---------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(
    "blocks", [slice(0, 1), slice(5, 9), slice(100, 140), slice(-3, None), slice(150, 999)], ids=str
)
def test_some_blocks_are_those_of_the_whole_to_the_bit(spectra_of, blocks, monkeypatch):
    samples = noise(40_000)
    whole = spectra_of(samples)
    np.testing.assert_array_equal(spectra_of(samples, blocks), whole[blocks])
    monkeypatch.setattr(module, "SLAB_BLOCKS", 3)
    np.testing.assert_array_equal(spectra_of(samples, blocks), whole[blocks])
    lags = autocorrelation(whole, 5)
    np.testing.assert_array_equal(autocorrelation(whole[blocks], 5), lags[blocks])


@BOTH
def test_no_samples_no_spectra(spectra_of):
    assert spectra_of(np.zeros(0, np.float32)).shape == (0, N_BINS)
    assert autocorrelation(np.zeros((0, N_BINS), np.float32), 3).shape == (0, 4)


# --- bad input -----------------------------------------------------------------------------------


@BOTH
def test_samples_must_be_mono(spectra_of):
    with pytest.raises(ParameterError, match=r"\(10, 2\) must be mono"):
        spectra_of(np.zeros((10, 2)))


@pytest.mark.parametrize("order", [-1, WINDOW_SAMPLES + 1])
def test_order_must_fit_the_window(order):
    with pytest.raises(ParameterError, match=f"order {order} must be from 0 to 2048"):
        autocorrelation(np.zeros((1, N_BINS)), order)


@pytest.mark.parametrize("shape", [(N_BINS,), (3, N_BINS - 1)])
def test_spectra_must_have_their_bins(shape):
    with pytest.raises(ParameterError, match=r"must be \(n, 2049\)"):
        autocorrelation(np.zeros(shape), 3)
