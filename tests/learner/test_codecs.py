import numpy as np
import pytest
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from noizenet.errors import RunError
from noizenet.learner.codecs import (
    CLIP_DEVIATIONS,
    PEAK,
    CodeCodec,
    FrameCodec,
    Level,
    WaveCodec,
    fit_codec,
    restore_codec,
)
from noizenet.units import mu_law_decode, mu_law_edges, mu_law_encode

SCALINGS = ["zscore", "minmax", "log", "clip"]
EVERY_CODEC = {
    **{scaling: ("waveform", "mixture", scaling, 1024) for scaling in SCALINGS},
    "codes": ("waveform", "mulaw", "zscore", 1024),
    "frames": ("fft", "mixture", "zscore", 64),
}


def levelled(songs, level):
    """All songs in a row, as the level makes them, (n, 1) float64, by plain arithmetic."""
    return ((np.concatenate(songs).astype(np.float64) - level.dc) * level.gain)[:, None]


# --- level ---------------------------------------------------------------------------------------


def test_level_is_of_the_library_and_not_of_a_song(songs):
    level = Level.measure(songs)
    everything = np.concatenate([level.apply(song) for song in songs])
    assert everything.mean(dtype=np.float64) == pytest.approx(0, abs=1e-6)
    assert np.abs(everything).max() == pytest.approx(PEAK, abs=1e-6)
    for song in songs:  # one gain for all: what was quiet stays as quiet beside the others
        ratio = level.apply(song).std() / song.std()
        assert ratio == pytest.approx(level.gain, rel=1e-5)
    assert np.abs(level.apply(songs[0])).max() < 0.2 * PEAK


def test_level_is_undone(songs):
    level = Level.measure(songs)
    louder = 3 * songs[1]  # an unseen song may be
    for samples in (*songs, louder):
        returned = level.undo(level.apply(samples))
        assert returned.dtype == np.float32
        np.testing.assert_allclose(returned, samples, atol=2e-7)


# --- waveform ------------------------------------------------------------------------------------


@pytest.mark.parametrize("scaling", ["zscore", "minmax", "log"])
def test_waveform_round_trip(scaling, songs):
    codec = WaveCodec.fit(songs, scaling)
    for samples in (*songs, 2 * songs[1]):  # also louder than anything in the library
        numbers = codec.encode(samples)
        assert numbers.shape == (len(samples), 1)
        assert numbers.dtype == np.float32
        returned = codec.decode(numbers)
        assert returned.dtype == np.float32
        np.testing.assert_allclose(returned, samples, atol=2e-6)


def test_clip_loses_only_what_is_beyond_its_bound(songs):
    codec = WaveCodec.fit(songs, "clip")
    together = levelled(songs, codec.level)
    deviations = StandardScaler().fit_transform(together)[:, 0]
    within = np.abs(deviations) <= CLIP_DEVIATIONS
    assert 0 < (~within).sum() < len(within) / 20  # the songs try both sides
    samples = np.concatenate(songs)
    numbers = codec.encode(samples)
    returned = codec.decode(numbers)
    assert np.abs(numbers).max() == CLIP_DEVIATIONS
    np.testing.assert_allclose(returned[within], samples[within], atol=2e-6)
    bound = samples.mean(dtype=np.float64) + np.sign(deviations[~within]) * (
        CLIP_DEVIATIONS * samples.std(dtype=np.float64)
    )
    np.testing.assert_allclose(returned[~within], bound, atol=2e-6)


def test_zscore_agrees_with_scikit_learn_over_all_songs(songs):
    codec = WaveCodec.fit(songs, "zscore")
    expected = StandardScaler().fit_transform(levelled(songs, codec.level))
    np.testing.assert_allclose(codec.encode(np.concatenate(songs)), expected, atol=2e-6)


def test_minmax_agrees_with_scikit_learn_over_all_songs(songs):
    codec = WaveCodec.fit(songs, "minmax")
    expected = MinMaxScaler((-1, 1)).fit_transform(levelled(songs, codec.level))
    numbers = codec.encode(np.concatenate(songs))
    np.testing.assert_allclose(numbers, expected, atol=2e-6)
    assert numbers.min() == pytest.approx(-1, abs=1e-6)
    assert numbers.max() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("scaling", SCALINGS)
def test_code_intervals_are_the_codes_of_the_samples(scaling, songs):
    codec = WaveCodec.fit(songs, scaling)
    samples = np.concatenate((*songs, 2 * songs[1]))
    lower, upper = codec.code_interval(samples)
    assert lower.shape == upper.shape == (len(samples), 1)
    # the clipped numbers aside, each number lies in its own interval
    scaled = codec.scaled(codec.level.apply(samples)).astype(np.float32)[:, None]
    assert (lower <= scaled + 1e-6).all()
    assert (scaled <= upper + 1e-6).all()
    # ... which is that of the 8-bit code of the levelled sample, whatever the scaling
    codes = mu_law_encode(codec.level.apply(samples)).astype(int)
    edges = codec.scaled(mu_law_edges())
    np.testing.assert_allclose(lower[:, 0], edges[codes], rtol=1e-6)
    np.testing.assert_allclose(upper[:, 0], edges[codes + 1], rtol=1e-6)
    assert np.isinf(upper).any()  # the loud song reaches the outermost code


# --- codes ---------------------------------------------------------------------------------------


def test_codes_round_trip(songs):
    codec = CodeCodec.fit(songs)
    for song in songs:
        codes = codec.encode(song)
        assert codes.dtype == np.int64
        assert codes.shape == song.shape
        # a sample is off by no more than the interval of its code is wide
        inner = mu_law_edges()[1:-1]
        widths = np.concatenate(([inner[1] - inner[0]], np.diff(inner), [inner[1] - inner[0]]))
        error = np.abs(codec.level.apply(codec.decode(codes)) - codec.level.apply(song))
        assert (error <= widths[codes]).all()
        np.testing.assert_array_equal(codec.encode(codec.decode(codes)), codes)


def test_all_codes_come_back_through_the_level(songs):
    codec = CodeCodec.fit(songs)
    np.testing.assert_array_equal(codec.encode(codec.decode(np.arange(256))), np.arange(256))


# --- frames --------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_samples", [1, 31, 32, 33, 1500])
@pytest.mark.parametrize("frame_samples", [4, 64, 1024])
def test_frames_round_trip(frame_samples, n_samples, songs):
    codec = FrameCodec.fit(songs, frame_samples)
    samples = songs[1][:n_samples]
    numbers = codec.encode(samples)
    assert numbers.shape == (codec.n_steps(n_samples), codec.n_features)
    assert numbers.dtype == np.float32
    returned = codec.decode(numbers)
    assert len(returned) >= n_samples
    np.testing.assert_allclose(returned[:n_samples], samples, atol=1e-5)


def test_each_bin_is_scored_as_by_scikit_learn(songs):
    codec = FrameCodec.fit(songs, 64)
    frames = [
        codec.transform.to_frames(levelled([song], codec.level)[:, 0]).astype(np.float64)
        for song in songs
    ]
    expected = StandardScaler().fit_transform(np.concatenate(frames))
    numbers = np.concatenate([codec.encode(song) for song in songs])
    np.testing.assert_allclose(numbers, expected, atol=1e-4)
    np.testing.assert_allclose(numbers.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(numbers.std(0), 1, atol=1e-5)


@pytest.mark.parametrize("n_samples", [1, 20, 32, 40, 64, 100, 129])
def test_a_primed_seed_is_whole_and_knows_nothing_of_the_future(n_samples, songs):
    codec = FrameCodec.fit(songs, 64)
    known, future = songs[1][:n_samples], songs[0][:640]
    primed = codec.prime(known)
    assert len(primed) == -(-n_samples // codec.hop_samples)
    # the same frames as when the sound goes on, on the grid that ends with the seed
    lead = -n_samples % codec.hop_samples
    silence = np.full(lead, codec.level.dc, np.float32)
    going_on = codec.encode(np.concatenate((silence, known, future)))
    np.testing.assert_array_equal(primed, going_on[: len(primed)])
    # ... and the last of them hears the last sample
    changed = known.copy()
    changed[-1] += 0.1
    assert np.abs(codec.prime(changed)[-1] - primed[-1]).max() > 0.01


def test_what_is_played_begins_where_the_seed_ended(songs):
    """A perfect network's frames, decoded alone, are the samples after the seed."""
    codec = FrameCodec.fit(songs, 64)
    sound, n_seed = songs[1], 100
    n_primed = len(codec.prime(sound[:n_seed]))
    lead = -n_seed % codec.hop_samples
    frames = codec.encode(np.concatenate((np.full(lead, codec.level.dc, np.float32), sound)))
    played = frames[n_primed : n_primed + codec.n_steps(200)]
    np.testing.assert_allclose(codec.decode(played)[:200], sound[n_seed:][:200], atol=1e-5)


# --- what all share ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY_CODEC)
def test_start_is_silence(name, songs):
    codec = fit_codec(songs, *EVERY_CODEC[name])
    start = codec.start()
    assert len(start) == 1
    assert start.dtype == codec.encode(songs[0]).dtype
    if name == "frames":
        silent = np.zeros(codec.n_features)  # a bin of silence is 0 before its z-score
        np.testing.assert_allclose(start[0] * codec.scale + codec.mean, silent, atol=1e-5)
    else:
        # the codes have no exact zero, they lie to either side of it
        step = mu_law_decode(128).item() / codec.level.gain if name == "codes" else 0
        assert codec.decode(start).item() == pytest.approx(codec.level.dc, abs=step + 1e-7)


@pytest.mark.parametrize("name", EVERY_CODEC)
def test_a_restored_codec_is_the_same(name, songs):
    codec = fit_codec(songs, *EVERY_CODEC[name])
    again = restore_codec(codec.arrays(), *EVERY_CODEC[name])
    assert type(again) is type(codec)
    numbers = codec.encode(songs[1])
    np.testing.assert_array_equal(again.encode(songs[1]), numbers)
    np.testing.assert_array_equal(again.decode(numbers), codec.decode(numbers))
    for key, array in codec.arrays().items():
        np.testing.assert_array_equal(again.arrays()[key], array)


@pytest.mark.parametrize("name", ["zscore", "frames"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda arrays: arrays.clear(),
        lambda arrays: arrays.update(fit=np.zeros(1)),
        lambda arrays: arrays.update(fit=np.array([])),
    ],
)
def test_arrays_that_do_not_fit_the_config(name, damage, songs):
    arrays = fit_codec(songs, *EVERY_CODEC[name]).arrays()
    damage(arrays)
    with pytest.raises(RunError, match="does not fit its config"):
        restore_codec(arrays, *EVERY_CODEC[name])


def test_frames_of_another_length_than_the_config_says(songs):
    arrays = FrameCodec.fit(songs, 64).arrays()
    with pytest.raises(RunError, match="does not fit its config"):
        restore_codec(arrays, "fft", "mixture", "zscore", 128)


def test_settings_choose_the_codec(songs):
    kinds = {name: type(fit_codec(songs, *settings)) for name, settings in EVERY_CODEC.items()}
    assert kinds == {**dict.fromkeys(SCALINGS, WaveCodec), "codes": CodeCodec, "frames": FrameCodec}
