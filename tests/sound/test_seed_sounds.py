import noise
import numpy as np
import pytest
import soundfile

from noizenet.errors import DataError, FormatError, ParameterError
from noizenet.sound.seeds import LATTICE_PERIOD, make_seed, match_level, perlin_noise, random_noise
from noizenet.sound.song import Song
from noizenet.units import SAMPLE_RATE_HZ


def rms(samples):
    return np.sqrt(np.mean(np.asarray(samples, dtype=np.float64) ** 2))


def similarity(samples, lag):
    """The correlation of a sound with itself ``lag`` samples later."""
    return np.corrcoef(samples[:-lag], samples[lag:])[0, 1]


def music(duration_s=2.0, seed=0):
    n_samples = round(duration_s * SAMPLE_RATE_HZ)
    return np.random.default_rng(seed).normal(0, 0.1, n_samples).astype(np.float32)


@pytest.mark.parametrize("make_noise", [perlin_noise, random_noise])
def test_noises_are_standardised_and_drawn_by_rng(make_noise):
    samples = make_noise(10_000, 7)
    assert (samples.shape, samples.dtype) == ((10_000,), np.float32)
    assert samples.mean(dtype=np.float64) == pytest.approx(0, abs=1e-6)
    assert rms(samples) == pytest.approx(1, abs=1e-6)
    np.testing.assert_array_equal(samples, make_noise(10_000, 7))
    for other in (0, 6, 8, 263, 1031):
        assert abs(np.corrcoef(samples, make_noise(10_000, other))[0, 1]) < 0.3


def test_random_noise_is_gaussian_and_white():
    samples = random_noise(200_000, 0)
    assert np.mean(samples**4) == pytest.approx(3, abs=0.05)
    assert all(abs(similarity(samples, lag)) < 0.01 for lag in (1, 2, 100))


def test_the_package_repeats_where_the_perlin_seed_does_not():
    """The reason for the slanted line: ``repeat`` does not lengthen the package's period."""
    n_samples = 4 * SAMPLE_RATE_HZ
    x = np.arange(n_samples) * 256 / 11_025  # a period of 11 025 samples
    naive = np.array([noise.pnoise1(v, octaves=6, repeat=1 << 20) for v in x])
    assert similarity(naive, 11_025) > 0.999
    samples = perlin_noise(n_samples, 3, frequency_hz=256 / 11_025 * SAMPLE_RATE_HZ)
    lags = range(SAMPLE_RATE_HZ // 4, 3 * SAMPLE_RATE_HZ, 97)
    assert max(similarity(samples, lag) for lag in [11_025, *lags]) < 0.2


def test_wrapping_the_lattice_does_not_change_the_noise():
    for x, y in np.random.default_rng(0).uniform(0, LATTICE_PERIOD, (20, 2)):
        value = noise.pnoise2(x, y, octaves=6)
        assert noise.pnoise2(x + LATTICE_PERIOD, y, octaves=6) == pytest.approx(value, abs=1e-3)
        assert noise.pnoise2(x, y + LATTICE_PERIOD, octaves=6) == pytest.approx(value, abs=1e-3)


def power_below(samples, frequency_hz):
    power = np.abs(np.fft.rfft(samples)) ** 2
    bin_hz = SAMPLE_RATE_HZ / len(samples)
    return power[: round(frequency_hz / bin_hz)].sum() / power.sum()


def test_perlin_noise_is_lively_and_follows_its_parameters():
    samples = perlin_noise(10 * SAMPLE_RATE_HZ, 0)
    assert power_below(samples, 20) < 0.08
    assert 0.4 < power_below(samples, 190) < 0.6
    assert 0.85 < power_below(samples, 480) < 0.95
    assert 0.4 < power_below(perlin_noise(10 * SAMPLE_RATE_HZ, 0, frequency_hz=880), 380) < 0.6
    hum = perlin_noise(SAMPLE_RATE_HZ, 0, octaves=1)
    hiss = perlin_noise(SAMPLE_RATE_HZ, 0, octaves=6)
    assert 1 - power_below(hum, 2000) < 1e-4
    assert 1 - power_below(hiss, 2000) > 1e-3
    seconds = samples.reshape(10, -1)
    assert min(rms(second) for second in seconds) > 0.8  # it does not fade anywhere


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1, 0), "1 samples is too short"),
        ((100, -1), "--rng -1 must be a whole number of 0 or more"),
        ((100, 0, 0.0), r"--perlin-hz 0\.0 must be a number of hertz above 0"),
        ((100, 0, float("inf")), "--perlin-hz inf must"),
        ((100, 0, 1e-9), "--perlin-hz 1e-09 is too low"),
        ((100, 0, 440, 0), "--perlin-octaves 0 must be 1 to 12"),
        ((100, 0, 440, 13), "--perlin-octaves 13 must be 1 to 12"),
        ((100, 0, 440, 6, 0), "persistence 0 must be a number above 0"),
    ],
)
def test_perlin_values_that_are_not_allowed(arguments, message):
    with pytest.raises(ParameterError, match=message):
        perlin_noise(*arguments)


def test_match_level():
    samples = match_level(music(), 0.25)
    assert samples.dtype == np.float32
    assert rms(samples) == pytest.approx(0.25, abs=1e-6)
    with pytest.raises(DataError, match="silence"):
        match_level(np.zeros(5), 0.1)
    with pytest.raises(ParameterError, match="an RMS of 0 must be"):
        match_level(music(), 0)


@pytest.mark.parametrize("kind", ["perlin", "random"])
def test_noise_seeds_have_the_level_of_the_music(kind):
    seed = make_seed(kind, 5000, 1, 0.07, [])
    assert (seed.name, seed.samples.dtype, len(seed.samples)) == (kind, np.float32, 5000)
    assert rms(seed.samples) == pytest.approx(0.07, abs=1e-6)
    np.testing.assert_array_equal(seed.samples, make_seed(kind, 5000, 1, 0.07, []).samples)


def test_perlin_parameters_reach_the_noise():
    seed = make_seed("perlin", 5000, 1, 1.0, [], frequency_hz=100.0, octaves=2)
    np.testing.assert_allclose(seed.samples, perlin_noise(5000, 1, 100.0, 2), atol=1e-6)


def test_a_song_seed_is_an_excerpt_whose_place_rng_draws():
    songs = [Song("a", music(2.0, 1)), Song("b", music(2.0, 2))]
    windows = {
        song.name: np.lib.stride_tricks.sliding_window_view(song.samples, 3000) for song in songs
    }
    starts = set()
    for rng in range(12):
        seed = make_seed("song", 3000, rng, 99.0, songs)
        name, at_s = seed.name.removesuffix(" s").split(" from ")
        (start,) = np.flatnonzero((windows[name] == seed.samples).all(axis=1))
        assert start / SAMPLE_RATE_HZ == pytest.approx(float(at_s), abs=0.005)
        starts.add((name, start))
        np.testing.assert_array_equal(
            seed.samples, make_seed("song", 3000, rng, 0.1, songs).samples
        )
    assert len(starts) == 12
    assert {name for name, _ in starts} == {"a", "b"}


def test_a_song_seed_is_not_silent():
    samples = music(20.0, 1) / 10_000  # a tape's hiss
    samples[SAMPLE_RATE_HZ : 2 * SAMPLE_RATE_HZ] = music(1.0)
    silent = Song("silent", np.zeros(9999, dtype=np.float32))
    whole = rms(samples)
    for rng in range(20):
        seed = make_seed("song", 4000, rng, 0.1, [silent, Song("a", samples)])
        assert rms(seed.samples) > 0.1 * whole


def test_a_short_song_is_taken_as_it_is(tmp_path):
    samples = music(0.1)
    np.testing.assert_array_equal(
        make_seed("song", 99_999, 0, 0.1, [Song("a", samples)]).samples, samples
    )
    path = tmp_path / "a.wav"
    soundfile.write(path, samples, SAMPLE_RATE_HZ, subtype="FLOAT")
    np.testing.assert_array_equal(make_seed(str(path), 99_999, 0, 0.1, []).samples, samples)


@pytest.mark.parametrize("n_samples", [1, 17, 12_345, 22_049])
def test_a_file_seed_is_its_beginning(tmp_path, n_samples):
    samples = music(1.0)
    soundfile.write(tmp_path / "my seed.wav", samples, SAMPLE_RATE_HZ, subtype="FLOAT")
    if n_samples == 1:  # a constant cannot be heard
        with pytest.raises(DataError, match="silent"):
            make_seed(str(tmp_path / "my seed.wav"), n_samples, 0, 0.1, [])
        return
    seed = make_seed(str(tmp_path / "my seed.wav"), n_samples, 0, 0.1, [])
    assert seed.name == "my seed"
    np.testing.assert_array_equal(seed.samples, samples[:n_samples])


def test_seeds_that_are_not_there(tmp_path):
    silent = [Song("a", np.zeros(9999, dtype=np.float32))]
    for unseen in ([], silent):
        with pytest.raises(DataError, match=r"no unseen song .*--valid-fraction above 0"):
            make_seed("song", 100, 0, 0.1, unseen)
    for unknown in ("perlim", str(tmp_path / "none.wav"), ""):
        with pytest.raises(ParameterError, match="must be perlin, random, song, or the path"):
            make_seed(unknown, 100, 0, 0.1, [])
    with pytest.raises(DataError, match="is a folder"):
        make_seed(str(tmp_path), 100, 0, 0.1, [])
    (tmp_path / "a.wav").write_text("la la la")
    with pytest.raises(FormatError, match="not decodable"):
        make_seed(str(tmp_path / "a.wav"), 100, 0, 0.1, [])
    with pytest.raises(ParameterError, match="--seed-seconds must be"):
        make_seed("song", 0, 0, 0.1, silent)
    with pytest.raises(ParameterError, match="--rng -5 must be"):
        make_seed("song", 100, -5, 0.1, silent)
