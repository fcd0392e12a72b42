"""Codecs: the real thing <-> the model's numbers.

A codec is fitted once on the training songs, is saved with the checkpoint and is inverted for
listening. Level (the library's DC and gain) belongs to it: measured over *all* songs together,
since songs normalised one by one teach the network a level that jumps between them.

``encode`` gives ``(time, features)`` float32, or ``(time,)`` int64 for codes from a vocabulary.
"""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from noizenet.errors import RunError
from noizenet.sound.frames import FrameTransform
from noizenet.units import (
    N_CODES,
    mu_law_compress,
    mu_law_decode,
    mu_law_edges,
    mu_law_encode,
    mu_law_expand,
)

CLIP_DEVIATIONS = 3.0  # where --scaling clip cuts, in standard deviations
PEAK = 0.98  # what the loudest training sample is brought to; leaves room for an unseen song


class Level:
    """DC and gain of the whole library: ``(samples - dc) * gain`` peaks at ``PEAK``."""

    def __init__(self, dc: float, gain: float):
        self.dc = dc
        self.gain = gain

    @classmethod
    def measure(cls, songs: Sequence[np.ndarray]) -> "Level":
        n_samples = sum(len(song) for song in songs)
        dc = sum(float(song.sum(dtype=np.float64)) for song in songs) / n_samples
        peak = max(float(np.abs(song - dc).max()) for song in songs)
        return cls(dc, PEAK / peak)

    def apply(self, samples: np.ndarray) -> np.ndarray:
        return ((np.asarray(samples) - self.dc) * self.gain).astype(np.float32)

    def undo(self, levelled: np.ndarray) -> np.ndarray:
        return (np.asarray(levelled) / self.gain + self.dc).astype(np.float32)


class Codec:
    """What every codec shares; see the subclasses."""

    name: ClassVar[str]
    hop_samples = 1  # samples of sound in one step of the sequence
    n_features = 1  # numbers in one step
    n_codes: int | None = None  # size of the vocabulary, for codes

    def encode(self, samples: np.ndarray) -> np.ndarray:
        raise TypeError(f"{type(self).__name__} does not say how sound becomes numbers")

    def decode(self, numbers: np.ndarray) -> np.ndarray:
        raise TypeError(f"{type(self).__name__} does not say how numbers become sound")

    def start(self) -> np.ndarray:
        """The step before the first: silence."""
        return self.encode(np.full(self.hop_samples, self.level.dc, np.float32))[:1]

    def prime(self, samples: np.ndarray) -> np.ndarray:
        """A seed as numbers: ``encode`` without steps that know what comes after it."""
        return self.encode(samples)

    def n_steps(self, n_samples: int) -> int:
        """Steps to play for a sound of ``n_samples``."""
        return n_samples

    def arrays(self) -> dict[str, np.ndarray]:
        """All that was fitted, for the checkpoint."""
        raise TypeError(f"{type(self).__name__} does not say what it learned")


class WaveCodec(Codec):
    """The waveform, one sample a step, scaled.

    Parameters
    ----------
    scaling : {'zscore', 'minmax', 'log', 'clip'}
        ``zscore`` and ``clip`` use the library's mean and deviation, ``minmax`` its extremes, and
        ``log`` the mu-law curve without its rounding. ``clip`` loses what lies beyond
        ``CLIP_DEVIATIONS``; the others are inverted exactly.
    """

    name = "waveform"

    def __init__(self, scaling: str, level: Level, offset: float, scale: float):
        self.scaling = scaling
        self.level = level
        self.offset = offset
        self.scale = scale

    @classmethod
    def fit(cls, songs: Sequence[np.ndarray], scaling: str) -> "WaveCodec":
        level = Level.measure(songs)
        if scaling == "log":
            return cls(scaling, level, 0.0, 1.0)
        scaler = MinMaxScaler((-1, 1)) if scaling == "minmax" else StandardScaler()
        for song in songs:
            scaler.partial_fit(level.apply(song).astype(np.float64)[:, None])
        if scaling == "minmax":
            scale = float(1 / scaler.scale_[0])
            return cls(scaling, level, float(-scaler.min_[0] * scale), scale)
        return cls(scaling, level, float(scaler.mean_[0]), float(scaler.scale_[0]))

    def scaled(self, levelled: np.ndarray) -> np.ndarray:
        """Levelled amplitudes onto the model's axis, float64; monotonic, infinities stay."""
        if self.scaling == "log":
            return mu_law_compress(levelled)
        return (np.asarray(levelled, np.float64) - self.offset) / self.scale

    def encode(self, samples: np.ndarray) -> np.ndarray:
        scaled = self.scaled(self.level.apply(samples))
        if self.scaling == "clip":
            scaled = np.clip(scaled, -CLIP_DEVIATIONS, CLIP_DEVIATIONS)
        return scaled.astype(np.float32)[:, None]

    def decode(self, numbers: np.ndarray) -> np.ndarray:
        scaled = np.asarray(numbers, np.float64)[:, 0]
        levelled = (
            mu_law_expand(scaled) if self.scaling == "log" else scaled * self.scale + self.offset
        )
        return self.level.undo(levelled)

    def code_interval(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where the mu-law code of each sample begins and ends on the model's axis, float32."""
        codes = mu_law_encode(self.level.apply(samples)).astype(np.int64)
        edges = self.scaled(mu_law_edges()).astype(np.float32)
        return edges[codes][:, None], edges[codes + 1][:, None]

    def arrays(self) -> dict[str, np.ndarray]:
        return {"fit": np.array([self.level.dc, self.level.gain, self.offset, self.scale])}


class CodeCodec(Codec):
    """The waveform as 8-bit mu-law codes, one of 256 a step."""

    name = "codes"
    n_codes = N_CODES

    def __init__(self, level: Level):
        self.level = level

    @classmethod
    def fit(cls, songs: Sequence[np.ndarray]) -> "CodeCodec":
        return cls(Level.measure(songs))

    def encode(self, samples: np.ndarray) -> np.ndarray:
        return mu_law_encode(self.level.apply(samples)).astype(np.int64)

    def decode(self, numbers: np.ndarray) -> np.ndarray:
        return self.level.undo(mu_law_decode(numbers))

    def arrays(self) -> dict[str, np.ndarray]:
        return {"fit": np.array([self.level.dc, self.level.gain])}


class FrameCodec(Codec):
    """FFT frames, real and imaginary parts side by side, each bin z-scored on its own."""

    name = "frames"

    def __init__(
        self, transform: FrameTransform, level: Level, mean: np.ndarray, scale: np.ndarray
    ):
        self.transform = transform
        self.level = level
        self.mean = mean
        self.scale = scale
        self.hop_samples = transform.hop_samples
        self.n_features = transform.frame_samples

    @classmethod
    def fit(cls, songs: Sequence[np.ndarray], frame_samples: int) -> "FrameCodec":
        transform = FrameTransform(frame_samples, frame_samples // 2)
        level = Level.measure(songs)
        scaler = StandardScaler()
        for song in songs:
            scaler.partial_fit(transform.to_frames(level.apply(song)).astype(np.float64))
        return cls(transform, level, scaler.mean_, scaler.scale_)

    def encode(self, samples: np.ndarray) -> np.ndarray:
        frames = self.transform.to_frames(self.level.apply(samples))
        return ((frames - self.mean) / self.scale).astype(np.float32)

    def prime(self, samples: np.ndarray) -> np.ndarray:
        # Filled up in front, so that the last block ends with the seed; the frames after it
        # reach past the end, where encode sees silence.
        lead = np.full(-len(samples) % self.hop_samples, self.level.dc, np.float32)
        return self.encode(np.concatenate((lead, samples)))[: 1 - self.transform.overlap]

    def n_steps(self, n_samples: int) -> int:
        return self.transform.n_frames(n_samples)

    def decode(self, numbers: np.ndarray) -> np.ndarray:
        frames = np.asarray(numbers, np.float64) * self.scale + self.mean
        return self.level.undo(self.transform.to_samples(frames))

    def arrays(self) -> dict[str, np.ndarray]:
        return {
            "fit": np.array([self.level.dc, self.level.gain]),
            "mean": self.mean,
            "scale": self.scale,
        }


def fit_codec(
    songs: Sequence[np.ndarray], representation: str, loss: str, scaling: str, frame_samples: int
) -> Codec:
    """The codec that the settings ask for, fitted on the training songs."""
    if representation == "fft":
        return FrameCodec.fit(songs, frame_samples)
    return CodeCodec.fit(songs) if loss == "mulaw" else WaveCodec.fit(songs, scaling)


def restore_codec(
    arrays: dict[str, np.ndarray], representation: str, loss: str, scaling: str, frame_samples: int
) -> Codec:
    """The codec again, from the arrays of a checkpoint."""
    try:
        dc, gain, *rest = (float(value) for value in arrays["fit"])
        level = Level(dc, gain)
        if representation == "fft":
            transform = FrameTransform(frame_samples, frame_samples // 2)
            mean, scale = (arrays[name].reshape(frame_samples) for name in ("mean", "scale"))
            return FrameCodec(transform, level, mean, scale)
        if loss == "mulaw":
            return CodeCodec(level)
        return WaveCodec(scaling, level, *rest)
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"the checkpoint's codec does not fit its config ({error})") from None
