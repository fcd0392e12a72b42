import numpy as np
import pytest
from scipy.linalg import sqrtm

from noizenet.audio.likeness import SpectralLikeness, frechet_distance, harmonic_distances
from noizenet.units import SAMPLE_RATE_HZ

SECOND = SAMPLE_RATE_HZ


def random_covariance(rng: int, n: int, rank: int) -> np.ndarray:
    factor = np.random.default_rng(rng).standard_normal((n, rank))
    return factor @ factor.T


def test_frechet_distance_equals_its_textbook_form():
    covariance1, covariance2 = random_covariance(1, 6, 9), random_covariance(2, 6, 9)
    mean1, mean2 = np.arange(6.0), np.ones(6)
    root = sqrtm(covariance1 @ covariance2).real
    expected = np.sum((mean1 - mean2) ** 2) + np.trace(covariance1 + covariance2 - 2 * root)
    assert frechet_distance(mean1, covariance1, mean2, covariance2) == pytest.approx(
        expected, rel=1e-9
    )


def test_frechet_distance_of_gaussians_in_line():
    # For diagonal covariances it is the distance of the means and of the deviations.
    deviations1, deviations2 = np.array([1.0, 2, 0]), np.array([3.0, 1, 0])
    distance = frechet_distance(
        np.zeros(3), np.diag(deviations1**2), np.array([0, 0, 2.0]), np.diag(deviations2**2)
    )
    assert distance == pytest.approx(4 + 1 + 4, rel=1e-12)


def test_frechet_distance_is_symmetric_and_zero_of_equals_though_singular():
    covariance1, covariance2 = random_covariance(1, 40, 5), random_covariance(2, 40, 7)
    zero = np.zeros(40)
    there = frechet_distance(zero, covariance1, zero, covariance2)
    back = frechet_distance(zero, covariance2, zero, covariance1)
    assert there == pytest.approx(back, rel=1e-6)
    assert there > 1
    assert frechet_distance(zero, covariance1, zero, covariance1) < 1e-5 * np.trace(covariance1)


def coloured(rng: int, duration_s: float, colour: float) -> np.ndarray:
    """Noise through a one-pole filter, in bursts of random level: a stand-in for music."""
    from scipy.signal import lfilter

    generator = np.random.default_rng(rng)
    n = round(duration_s * SECOND)
    levels = np.repeat(10 ** generator.uniform(-2, 0, n // 2205 + 1), 2205)[:n]
    return (0.1 * levels * lfilter([1], [1, -colour], generator.standard_normal(n))).astype("f4")


@pytest.fixture(scope="module")
def likeness() -> SpectralLikeness:
    return SpectralLikeness([coloured(rng, 6, 0.9) for rng in range(3)])


def test_one_is_a_real_excerpt(likeness):
    ratios = [likeness.ratio(coloured(rng, 3, 0.9)) for rng in range(10, 25)]
    assert np.median(ratios) == pytest.approx(1, abs=0.25)


def test_other_colours_levels_and_silence_are_farther(likeness):
    excerpt = coloured(10, 3, 0.9)
    near = likeness.ratio(excerpt)
    assert likeness.ratio(coloured(10, 3, 0.0)) > 2 * near
    assert likeness.ratio(0.1 * excerpt) > 2 * near
    assert likeness.ratio(np.zeros(3 * SECOND)) > 10 * near


@pytest.mark.parametrize("duration_s", [1e-4, 0.05, 1, 6, 15])
def test_a_sound_of_any_length_can_be_compared(likeness, duration_s):
    ratio = likeness.ratio(coloured(10, duration_s, 0.9))
    assert np.isfinite(ratio)
    if duration_s >= 1:
        assert 0.5 < ratio < 2


def test_one_song_and_very_short_songs_are_enough():
    song = coloured(0, 6, 0.9)
    assert SpectralLikeness([song]).ratio(song[:SECOND]) == pytest.approx(1, abs=0.7)
    assert np.isfinite(SpectralLikeness([song[:1]]).ratio(song))


def test_harmony_that_changes_every_second():
    time_s = np.arange(SECOND) / SECOND
    c, f_sharp = (np.sin(2 * np.pi * hz * time_s) for hz in (261.63, 369.99))
    changing = np.tile(np.concatenate((c, f_sharp)), 4)
    assert np.median(harmonic_distances(changing, 1)) > 0.9
    assert np.median(harmonic_distances(changing, 4)) < 0.05


def test_harmony_of_silence_and_of_short_sounds_is_unknown():
    assert len(harmonic_distances(np.zeros(3 * SECOND), 1)) == 0
    assert len(harmonic_distances(np.ones(100), 4)) == 0
