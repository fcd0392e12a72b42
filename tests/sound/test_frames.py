import numpy as np
import pytest
import scipy.signal

from noizenet.errors import ParameterError
from noizenet.sound.frames import FrameTransform

SHAPES = [(1024, 512), (1024, 256), (512, 128), (12, 4), (2, 1)]


def noise(n_samples, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, n_samples).astype(np.float32)


@pytest.mark.parametrize(("frame", "hop"), SHAPES)
@pytest.mark.parametrize("n_samples", [1, 2, 31, 511, 512, 513, 4097, 22_050])
def test_overlap_add_returns_every_sample(frame, hop, n_samples):
    transform = FrameTransform(frame, hop)
    samples = noise(n_samples)
    frames = transform.to_frames(samples)
    assert frames.shape == (transform.n_frames(n_samples), frame)
    assert frames.dtype == np.float32
    returned = transform.to_samples(frames, n_samples)
    assert returned.shape == samples.shape
    assert returned.dtype == np.float32
    np.testing.assert_allclose(returned, samples, rtol=0, atol=1e-6)
    # What lies between the end of the sound and the end of its last block is silence.
    np.testing.assert_allclose(transform.to_samples(frames)[n_samples:], 0, atol=1e-6)


def test_frames_agree_with_scipy():
    transform = FrameTransform(1024, 256)
    samples = noise(5000)
    window = np.sqrt(scipy.signal.get_window("hann", 1024))
    np.testing.assert_allclose(transform.window, window, atol=1e-15)
    stft = scipy.signal.ShortTimeFFT(window, hop=256, fs=1, phase_shift=None)
    frames = transform.to_frames(samples)
    for k in (0, 3, 7, len(frames) - 1):
        # scipy's slice p is centred on sample 256 p: frame k, on 256 k - 768 + 512
        expected = stft.stft(samples, p0=k - 1, p1=k)[:, 0]
        np.testing.assert_allclose(frames[k, :513], expected.real, atol=1e-4)
        np.testing.assert_allclose(frames[k, 513:], expected.imag[1:-1], atol=1e-4)


@pytest.mark.parametrize(("frame", "hop"), SHAPES)
def test_each_frame_covers_exactly_the_samples_it_says(frame, hop):
    transform = FrameTransform(frame, hop)
    n_samples = 5 * frame + 1
    silence = transform.to_frames(np.zeros(n_samples))
    for index in (0, hop - 1, hop, 2 * frame, 2 * frame + 1, n_samples - 1):
        impulse = np.zeros(n_samples)
        impulse[index] = 1
        changed = np.flatnonzero((transform.to_frames(impulse) != silence).any(axis=1))
        first = [k * hop - (frame - hop) for k in range(len(silence))]
        # w(0) is 0: the very first sample of a frame leaves no trace.
        expected = [k for k, start in enumerate(first) if start < index <= start + frame - 1]
        assert changed.tolist() == expected


def test_a_later_frame_changes_no_earlier_sample():
    transform = FrameTransform(64, 16)
    frames = noise(20 * 64).reshape(20, 64)
    before = transform.to_samples(frames)
    frames[10] += 1
    changed = np.flatnonzero(transform.to_samples(frames) != before)
    # Frame 10 covers 10*16 - 48 … 11*16 - 1.
    assert changed.min() == 113  # w(0) is 0
    assert changed.max() == 175


@pytest.mark.parametrize(("frame", "hop"), SHAPES)
def test_the_synthesis_matrix_gives_the_windowed_segment(frame, hop):
    transform = FrameTransform(frame, hop)
    samples = noise(4 * frame)
    frames = transform.to_frames(samples)
    matrix = transform.synthesis_matrix()
    assert (matrix.shape, matrix.dtype) == ((frame, frame), np.float64)
    k = 2 * frame // hop
    start = k * hop - (frame - hop)
    expected = transform.window * samples[start : start + frame]
    np.testing.assert_allclose(frames[k].astype(float) @ matrix, expected, atol=1e-6)


def test_a_tone_on_a_bin_is_found_there():
    n = np.arange(8192)
    frames = FrameTransform().to_frames(np.cos(2 * np.pi * 40 * n / 1024))
    power = frames[5, 1:512] ** 2 + frames[5, 513:] ** 2
    assert power.argmax() + 1 == 40


@pytest.mark.parametrize(
    ("frame", "hop"), [(0, 0), (7, 1), (-4, 2), (1024, 0), (1024, 1024), (1024, 300), (1024, -512)]
)
def test_frames_that_cannot_be_undone_are_refused(frame, hop):
    with pytest.raises(ParameterError, match=r"(frame|hop)_samples -?\d+ must"):
        FrameTransform(frame, hop)


def test_bad_shapes_are_refused():
    transform = FrameTransform(64, 16)
    with pytest.raises(ParameterError, match=r"must be \(n_samples,\)"):
        transform.to_frames(np.zeros(0))
    with pytest.raises(ParameterError, match=r"must be \(n_samples,\)"):
        transform.to_frames(np.zeros((3, 3)))
    with pytest.raises(ParameterError, match=r"must be \(n_frames, 64\)"):
        transform.to_samples(np.zeros((9, 63)))
    with pytest.raises(ParameterError, match="3 frames are too few: 4 make sound"):
        transform.to_samples(np.zeros((3, 64)))
    with pytest.raises(ParameterError, match="n_samples 33 must be 0 to 32"):
        transform.to_samples(np.zeros((5, 64)), 33)
