"""What a sound is like: arrays in, arrays out. The judge and the pictures are made of these.

librosa is imported inside the functions: that takes more than a second, and longer than any of
them. It is used for the mel bands too, where torchaudio gives the same and is no faster.
"""

import numpy as np

from noizenet.errors import ParameterError
from noizenet.units import SAMPLE_RATE_HZ, amplitude_to_db

MEL_FLOOR_DB = -100.0
SILENT_FRAME_DB = -80.0  # RMS below which a frame has neither harmony nor colour

CHROMA_FRAME_SAMPLES = 8192  # 0.37 s: 2.7 Hz between bins, a semitone apart down to about 45 Hz
CHROMA_HOP_SAMPLES = 2205  # exactly 10 frames per second
CHROMA_FRAMES_PER_S = SAMPLE_RATE_HZ // CHROMA_HOP_SAMPLES

FLATNESS_FRAME_SAMPLES = 2048
FLATNESS_HOP_SAMPLES = 1024


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
    import librosa

    samples = _check_samples(samples)
    power = librosa.feature.melspectrogram(
        y=_lengthened(samples, frame_samples),
        sr=SAMPLE_RATE_HZ,
        n_fft=frame_samples,
        hop_length=hop_samples,
        n_mels=n_mels,
    )
    floor = 10 ** (MEL_FLOOR_DB / 10)
    levels = librosa.power_to_db(power, ref=1.0, amin=floor, top_db=None)
    levels = np.maximum(levels, MEL_FLOOR_DB)  # single precision rounds to a little below it
    return levels.T[: 1 + len(samples) // hop_samples].astype(np.float32)


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
    import librosa

    samples = _check_samples(samples)
    n_frames = 1 + len(samples) // CHROMA_HOP_SAMPLES
    samples = _lengthened(samples, CHROMA_FRAME_SAMPLES)
    classes = librosa.feature.chroma_stft(
        y=samples,
        sr=SAMPLE_RATE_HZ,
        n_fft=CHROMA_FRAME_SAMPLES,
        hop_length=CHROMA_HOP_SAMPLES,
        tuning=0.0,
        norm=2,
    ).T
    sounds = _frame_sounds(samples, CHROMA_FRAME_SAMPLES, CHROMA_HOP_SAMPLES)
    return np.where(sounds[:, None], classes, 0)[:n_frames].astype(np.float32)


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
    import librosa

    samples = _lengthened(_check_samples(samples), FLATNESS_FRAME_SAMPLES)
    flatness = librosa.feature.spectral_flatness(
        y=samples, n_fft=FLATNESS_FRAME_SAMPLES, hop_length=FLATNESS_HOP_SAMPLES, power=2.0
    )[0]
    sounds = _frame_sounds(samples, FLATNESS_FRAME_SAMPLES, FLATNESS_HOP_SAMPLES)
    # Single precision can round the ratio to a little above 1.
    return min(1.0, float(flatness[sounds].mean())) if sounds.any() else 0.0


def _check_samples(samples: np.ndarray) -> np.ndarray:
    samples = np.asarray(samples, dtype=np.float32)
    if samples.ndim != 1 or not len(samples):
        raise ParameterError(f"samples of shape {samples.shape} must be (n_samples,)")
    if not np.isfinite(samples).all():
        raise ParameterError("NaN or infinite samples cannot be analysed")
    return samples


def _lengthened(samples: np.ndarray, frame_samples: int) -> np.ndarray:
    """With zeros at the end, so that it is at least as long as a frame: librosa warns if not."""
    return np.pad(samples, (0, max(0, frame_samples - len(samples))))


def _frame_sounds(samples: np.ndarray, frame_samples: int, hop_samples: int) -> np.ndarray:
    """Whether each centred frame is above ``SILENT_FRAME_DB``, bool (n_frames,)."""
    import librosa

    rms = librosa.feature.rms(y=samples, frame_length=frame_samples, hop_length=hop_samples)[0]
    return amplitude_to_db(rms) > SILENT_FRAME_DB
