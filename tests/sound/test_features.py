import warnings

import librosa
import numpy as np
import pytest
import scipy.signal

from noizenet.errors import ParameterError
from noizenet.sound.features import (
    CHROMA_FRAMES_PER_S,
    CHROMA_HOP_SAMPLES,
    chroma,
    envelope,
    log_mel,
    spectral_flatness,
)
from noizenet.units import NOTE_NAMES, SAMPLE_RATE_HZ, midi_to_hz


def sine(frequency_hz, duration_s=1.0, amplitude=0.5):
    n = np.arange(round(duration_s * SAMPLE_RATE_HZ))
    return (amplitude * np.sin(2 * np.pi * frequency_hz * n / SAMPLE_RATE_HZ)).astype(np.float32)


def white_noise(n_samples, seed=0):
    return np.random.default_rng(seed).normal(0, 0.1, n_samples).astype(np.float32)


def test_log_mel_agrees_with_torchaudio():
    torch = pytest.importorskip("torch")
    torchaudio = pytest.importorskip("torchaudio")
    samples = white_noise(10_000) * np.linspace(0, 1, 10_000, dtype=np.float32) ** 4
    oracle = torchaudio.transforms.MelSpectrogram(
        SAMPLE_RATE_HZ,
        1024,
        hop_length=256,
        n_mels=64,
        norm="slaney",
        mel_scale="slaney",
        pad_mode="constant",
    )
    power = oracle(torch.from_numpy(samples)).numpy().T
    levels = log_mel(samples)
    assert (levels.shape, levels.dtype) == ((1 + 10_000 // 256, 64), np.float32)
    np.testing.assert_allclose(levels, 10 * np.log10(np.maximum(power, 1e-10)), atol=1e-3)


def test_log_mel_is_in_decibels_down_to_its_floor():
    tone = sine(1000)
    np.testing.assert_allclose(log_mel(tone).max() - log_mel(tone / 10).max(), 20, atol=1e-3)
    assert (log_mel(np.zeros(5000)) == -100).all()
    assert log_mel(tone).argmax(axis=1)[40] == log_mel(sine(1020)).argmax(axis=1)[40]
    assert log_mel(sine(4000)).argmax(axis=1)[40] > log_mel(tone).argmax(axis=1)[40]


@pytest.mark.parametrize("note", [*range(45, 57), 60, 69, 81, 96])
def test_each_note_is_in_its_pitch_class(note):
    frames = chroma(sine(midi_to_hz(note), 2.0))
    assert (frames.shape, frames.dtype) == ((21, 12), np.float32)
    inner = frames[3:-3]
    assert (inner.argmax(axis=1) == note % 12).all()
    np.testing.assert_allclose(np.linalg.norm(inner, axis=1), 1, atol=1e-5)
    assert (np.sort(inner, axis=1)[:, -2] < 0.3).all()


def test_a_chord_is_its_three_notes():
    a_major = sum(sine(midi_to_hz(note), 2.0, 0.2) for note in (57, 61, 64))
    loudest = np.argsort(chroma(a_major)[10])[-3:]
    assert {NOTE_NAMES[index] for index in loudest} == {"A", "C#", "E"}


def test_chroma_is_taken_ten_times_a_second():
    assert (CHROMA_FRAMES_PER_S, SAMPLE_RATE_HZ % CHROMA_HOP_SAMPLES) == (10, 0)
    change = np.concatenate([sine(440, 2.0), sine(midi_to_hz(72), 2.0)])
    loudest = chroma(change).argmax(axis=1)
    assert (loudest[2:19] == 9).all()
    assert (loudest[22:39] == 0).all()


def test_silence_has_no_chroma_and_detuning_is_not_hidden():
    assert (chroma(np.zeros(50_000)) == 0).all()
    assert (chroma(white_noise(50_000) * 1e-5) == 0).all()
    quarter_tone = chroma(sine(midi_to_hz(69.5), 2.0))[10]
    assert set(np.argsort(quarter_tone)[-2:]) == {9, 10}
    assert quarter_tone[9] == pytest.approx(quarter_tone[10], abs=0.1)


def test_envelope_is_the_rms_of_each_stretch():
    samples = np.concatenate([np.full(100, 0.5), np.full(100, -0.25), [0.125, 0.25]])
    expected = [0.5, 0.25, np.sqrt((0.125**2 + 0.25**2) / 2)]
    np.testing.assert_allclose(envelope(samples, 100), expected, rtol=1e-6)
    np.testing.assert_allclose(envelope(samples, 1), np.abs(samples), rtol=1e-6)
    np.testing.assert_allclose(envelope(samples, 1000), [np.sqrt(np.mean(samples**2))], rtol=1e-6)
    with pytest.raises(ParameterError, match="hop_samples 0 must be"):
        envelope(samples, 0)


def test_flatness_of_white_noise_and_of_a_tone():
    # exp(-Euler's constant): the geometric mean of exponentially distributed bins, mean 1
    assert spectral_flatness(white_noise(300_000)) == pytest.approx(0.5615, abs=0.01)
    assert spectral_flatness(sine(440)) < 1e-3


def test_flatness_does_not_depend_on_level_or_on_silence_around():
    samples = white_noise(100_000)
    reference = spectral_flatness(samples)
    assert spectral_flatness(samples / 100) == pytest.approx(reference, abs=1e-4)
    assert spectral_flatness(np.pad(samples, 200_000)) == pytest.approx(reference, abs=0.01)
    assert spectral_flatness(np.zeros(10_000)) == 0.0


def test_flatness_of_coloured_noise_is_that_of_its_filter():
    """Of a spectrum S the flatness is white noise's times exp(mean ln S) / mean S."""
    b, a = [1.0], [1.0, -0.6]
    samples = scipy.signal.lfilter(b, a, white_noise(300_000))
    power = np.abs(scipy.signal.freqz(b, a, 4096)[1]) ** 2
    expected = np.exp(-np.euler_gamma) * np.exp(np.log(power).mean()) / power.mean()
    assert spectral_flatness(samples) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("n_samples", [1, 2, 500, 8191])
def test_very_short_sounds_are_analysed_without_complaint(n_samples):
    samples = white_noise(n_samples)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert log_mel(samples).shape == (1 + n_samples // 256, 64)
        assert chroma(samples).shape == (1 + n_samples // CHROMA_HOP_SAMPLES, 12)
        assert 0 <= spectral_flatness(samples) <= 1


@pytest.mark.parametrize("analyse", [log_mel, chroma, spectral_flatness])
@pytest.mark.parametrize("samples", [[], [[0.1]], [0.1, np.nan], [np.inf]])
def test_what_is_no_sound_is_refused(analyse, samples):
    with pytest.raises(ParameterError, match=r"must be \(n_samples,\)|cannot be analysed"):
        analyse(np.array(samples))


@pytest.mark.parametrize("n_samples", [1, 2048, 3000, 50_000])
def test_as_by_librosa(n_samples):
    samples = white_noise(n_samples) + sine(440, 3.0)[:n_samples]
    long = np.pad(samples, (0, max(0, 8192 - n_samples)))
    expected = librosa.feature.chroma_stft(
        y=long, sr=SAMPLE_RATE_HZ, n_fft=8192, hop_length=CHROMA_HOP_SAMPLES, tuning=0.0, norm=2
    ).T[: 1 + n_samples // CHROMA_HOP_SAMPLES]
    np.testing.assert_allclose(chroma(samples), expected, atol=1e-5)
    long = long[: max(2048, n_samples)]
    flatness = librosa.feature.spectral_flatness(y=long, n_fft=2048, hop_length=1024)[0]
    assert spectral_flatness(samples) == pytest.approx(flatness.mean(), rel=1e-4)
