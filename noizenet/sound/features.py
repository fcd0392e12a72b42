"""What a sound is like: arrays in, arrays out. The judge and the pictures are made of these.

The filters are librosa's, the frames and spectra are taken here: training waits for all of this,
and ``librosa.feature`` takes longer to import than a minute of music to analyse. torchaudio gives
the same mel bands and is no faster.
"""

import numpy as np
import scipy.fft
import scipy.signal

from noizenet.errors import ParameterError
from noizenet.units import SAMPLE_RATE_HZ, amplitude_to_db

MEL_FLOOR_DB = -100.0
SILENT_FRAME_DB = -80.0  # RMS below which a frame has neither harmony nor colour

CHROMA_FRAME_SAMPLES = 8192  # 0.37 s: 2.7 Hz between bins, a semitone apart down to about 45 Hz
CHROMA_HOP_SAMPLES = 2205  # exactly 10 frames per second
CHROMA_FRAMES_PER_S = SAMPLE_RATE_HZ // CHROMA_HOP_SAMPLES

FLATNESS_FRAME_SAMPLES = 2048
FLATNESS_HOP_SAMPLES = 1024
LEAST_POWER = 1e-10  # of a bin, so that it has a logarithm


def log_mel(
    samples: np.ndarray, n_mels: int = 64, frame_samples: int = 1024, hop_samples: int = 256
) -> np.ndarray:
    """Power in mel bands, in decibels.

    Parameters
    ----------
    samples
        (n_samples,), at least one.

    Returns
    -------
    np.ndarray
        float32 (1 + n_samples // hop_samples, n_mels). Frame k is centred on sample
        k * hop_samples, with zeros beyond the ends. 0 dB is a power of 1 of the unnormalised
        Hann-windowed FFT, weighted by Slaney's mel filters of equal area; never below -100 dB,
        and quiet bands are not cut off relative to loud ones.
    """
    from librosa.filters import mel

    frames = _frames(_check_samples(samples), frame_samples, hop_samples)
    bands = mel(sr=SAMPLE_RATE_HZ, n_fft=frame_samples, n_mels=n_mels)
    power = np.maximum(_power(frames) @ bands.T, 10 ** (MEL_FLOOR_DB / 10))
    # single precision rounds to a little below it
    return np.maximum(10 * np.log10(power), MEL_FLOOR_DB).astype(np.float32)


def chroma(samples: np.ndarray) -> np.ndarray:
    """How much of each of the 12 pitch classes sounds, from C to B, ten times a second.

    For A4 = 440 Hz as it stands: the tuning is not estimated, so a detuned sound is spread over
    two classes, and equal sounds have equal chroma whatever surrounds them.

    Parameters
    ----------
    samples
        (n_samples,), at least one.

    Returns
    -------
    np.ndarray
        float32 (1 + n_samples // CHROMA_HOP_SAMPLES, 12). Frame k is centred on sample
        k * CHROMA_HOP_SAMPLES and has unit length, so that a dot product is a cosine; where
        the sound is below -80 dBFS it is zero.
    """
    from librosa.filters import chroma as chroma_filters

    frames = _frames(_check_samples(samples), CHROMA_FRAME_SAMPLES, CHROMA_HOP_SAMPLES)
    filters = chroma_filters(sr=SAMPLE_RATE_HZ, n_fft=CHROMA_FRAME_SAMPLES, tuning=0.0)
    classes = np.zeros((len(frames), len(filters)), np.float32)
    sounds = _sounding(frames)
    classes[sounds] = _power(frames[sounds]) @ filters.T
    return classes / np.maximum(
        np.linalg.norm(classes, axis=1, keepdims=True), np.finfo(np.float32).tiny
    )


def envelope(samples: np.ndarray, hop_samples: int) -> np.ndarray:
    """RMS of consecutive stretches.

    Parameters
    ----------
    samples
        (n_samples,), at least one.
    hop_samples
        The length of a stretch; the last one may be shorter, and is averaged over its own.

    Returns
    -------
    np.ndarray
        float32 (ceil(n_samples / hop_samples),).
    """
    if hop_samples < 1:
        raise ParameterError(f"hop_samples {hop_samples} must be a whole number above 0")
    power = _check_samples(samples).astype(np.float64) ** 2
    starts = np.arange(0, len(power), hop_samples)
    lengths = np.diff(starts, append=len(power))
    return np.sqrt(np.add.reduceat(power, starts) / lengths).astype(np.float32)


def spectral_flatness(samples: np.ndarray) -> float:
    """How much like white noise a sound is: the geometric over the arithmetic mean of its power.

    Averaged over frames of 0.09 s that are above -80 dBFS.

    Parameters
    ----------
    samples
        (n_samples,), at least one.

    Returns
    -------
    float
        0 for a pure tone and for silence; for white noise exp(-0.5772) = 0.56, because the
        bins of a noise's spectrum are not equal, but exponentially distributed.
    """
    samples = _check_samples(samples)
    # with zeros at the end: as many frames around a short sound as around a frame
    samples = np.pad(samples, (0, max(0, FLATNESS_FRAME_SAMPLES - len(samples))))
    frames = _frames(samples, FLATNESS_FRAME_SAMPLES, FLATNESS_HOP_SAMPLES)
    sounds = _sounding(frames)
    if not sounds.any():
        return 0.0
    power = np.maximum(_power(frames[sounds]), LEAST_POWER)
    flatness = np.exp(np.log(power).mean(1)) / power.mean(1)
    # Single precision can round the ratio to a little above 1.
    return min(1.0, float(flatness.mean()))


def _check_samples(samples: np.ndarray) -> np.ndarray:
    samples = np.asarray(samples, dtype=np.float32)
    if samples.ndim != 1 or not len(samples):
        raise ParameterError(f"samples of shape {samples.shape} must be (n_samples,)")
    if not np.isfinite(samples).all():
        raise ParameterError("NaN or infinite samples cannot be analysed")
    return samples


def _frames(samples: np.ndarray, frame_samples: int, hop_samples: int) -> np.ndarray:
    """Frames (n_frames, frame_samples) centred on every hop, with zeros beyond the ends; a view."""
    padded = np.pad(samples, frame_samples // 2)
    return np.lib.stride_tricks.sliding_window_view(padded, frame_samples)[::hop_samples]


def _power(frames: np.ndarray) -> np.ndarray:
    """The power of each frame's Hann-windowed FFT, (n_frames, 1 + frame_samples // 2)."""
    window = scipy.signal.get_window("hann", frames.shape[1]).astype(frames.dtype)
    spectrum = scipy.fft.rfft(frames * window)
    return spectrum.real**2 + spectrum.imag**2


def _sounding(frames: np.ndarray) -> np.ndarray:
    """Whether each frame is above ``SILENT_FRAME_DB``, bool (n_frames,)."""
    rms = np.sqrt(np.square(frames).mean(1))
    return amplitude_to_db(rms) > SILENT_FRAME_DB
