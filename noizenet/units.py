"""Units and the conversions between them: seconds, samples, hertz, MIDI, decibels, mu-law.

Every sound inside NoizeNet is mono, float32, at ``SAMPLE_RATE_HZ``, nominally in [-1, 1].
"""

import numpy as np

SAMPLE_RATE_HZ = 22_050
A4_HZ = 440.0
A4_MIDI = 69
NOTE_NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")

MU = 255  # 8-bit mu-law, ITU-T G.711 in its continuous form
N_CODES = MU + 1
SILENCE_DB = -120.0  # what 20 log10(0) is drawn and printed as


def seconds_to_samples(duration_s: float, sample_rate_hz: int = SAMPLE_RATE_HZ) -> int:
    """The whole number of samples nearest to a duration."""
    return round(duration_s * sample_rate_hz)


def samples_to_seconds(n_samples: int, sample_rate_hz: int = SAMPLE_RATE_HZ) -> float:
    """The duration of a number of samples."""
    return n_samples / sample_rate_hz


def hz_to_midi(frequency_hz: float) -> float:
    """MIDI note number, fractional between the keys; 69 is A4 = 440 Hz."""
    return A4_MIDI + 12 * float(np.log2(frequency_hz / A4_HZ))


def midi_to_hz(note: float) -> float:
    """Frequency of a (possibly fractional) MIDI note number."""
    return A4_HZ * 2 ** ((note - A4_MIDI) / 12)


def midi_to_name(note: int) -> str:
    """``60 -> 'C4'``, ``61 -> 'C#4'``."""
    octave, degree = divmod(note, 12)
    return f"{NOTE_NAMES[degree]}{octave - 1}"


def amplitude_to_db(amplitude, floor_db: float = SILENCE_DB):
    """20 log10 of an amplitude (scalar or array), never below ``floor_db``."""
    return 20 * np.log10(np.maximum(np.abs(amplitude), 10 ** (floor_db / 20)))


def db_to_amplitude(level_db):
    """The inverse of :func:`amplitude_to_db` above its floor."""
    return 10 ** (np.asarray(level_db) / 20)


def mu_law_compress(samples):
    """F(x) = sign(x) ln(1 + mu |x|) / ln(1 + mu): [-1, 1] onto [-1, 1], finer near zero."""
    samples = np.asarray(samples)
    return np.sign(samples) * np.log1p(MU * np.abs(samples)) / np.log1p(MU)


def mu_law_expand(compressed):
    """The inverse of :func:`mu_law_compress`."""
    compressed = np.asarray(compressed)
    return np.sign(compressed) * np.expm1(np.abs(compressed) * np.log1p(MU)) / MU


def mu_law_encode(samples) -> np.ndarray:
    """8-bit mu-law codes 0…255 of samples in [-1, 1]; louder ones get the outermost code."""
    compressed = mu_law_compress(np.clip(samples, -1, 1))
    return np.floor((compressed + 1) / 2 * MU + 0.5).astype(np.uint8)


def mu_law_decode(codes) -> np.ndarray:
    """The sample that each mu-law code stands for, float32 in [-1, 1]."""
    return mu_law_expand(np.asarray(codes, dtype=np.float64) / MU * 2 - 1).astype(np.float32)


def mu_law_edges() -> np.ndarray:
    """The 257 amplitudes between which the codes lie, float64: code k is [edges[k], edges[k+1]).

    The outermost edges are infinite, so the 256 intervals cover every amplitude.
    """
    inner = mu_law_expand((np.arange(1, N_CODES) - 0.5) / MU * 2 - 1)
    return np.concatenate(([-np.inf], inner, [np.inf]))
