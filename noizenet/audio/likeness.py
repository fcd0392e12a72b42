"""How near a sound is to songs: the distance of its spectra, and how much its harmony moves."""

import statistics
from collections.abc import Sequence

import numpy as np

from noizenet.sound.features import CHROMA_FRAMES_PER_S, chroma, log_mel

MEL_HOP_SAMPLES = 256
MAX_EXCERPTS = 60  # the median of ten times as many differs by 5 %, and takes half a second
SMALLEST_DISTANCE = 1.0  # dB²: songs as alike as that would make any ratio infinite


class SpectralLikeness:
    """The Fréchet distance of spectra to songs, in units of that of real excerpts.

    A sound becomes a Gaussian over its frames of 128 numbers: 64 log-mel bands in dB and their
    deltas. The distance between two of them (Fréchet 1957; Heusel et al. 2017, FID) is

        d² = |m1 - m2|² + tr(S1) + tr(S2) - 2 tr((S1^½ S2 S1^½)^½)        [dB²]

    The ratio is d² of the sound to all songs, divided by the median d² of real excerpts: pieces
    of the songs, as long as the sound, each against the songs *without that piece*. With the
    piece left in, an excerpt is compared to itself in part: with one song of 30 s, excerpts of
    10 s come out half as far as they are. With its whole song left out, other songs of the same
    collection came out nearer than "real" (in three collections of game and chamber music
    their median ratio was 0.66 to 0.96, here it is 0.76 to 1.18), and one song alone would
    have no excerpts. White noise at the songs' level scores 3.4 to 10.8 this way.

    Levels count: a sound 10 dB quieter than the songs is not like them.

    A distance depends on length (few frames make a poor Gaussian), so a sound is compared in
    pieces of the excerpts' length, and the median taken, if it is longer than that. That length
    is at most what half of the songs have, and at most half of all the music. No regularisation
    is needed for short pieces, whose covariance is singular: the square roots are taken by
    eigendecomposition, where a vanishing eigenvalue is harmless.

    Parameters
    ----------
    songs
        At least one; (n_samples,) each.
    """

    def __init__(self, songs: Sequence[np.ndarray]):
        self._songs = [spectral_frames(song) for song in songs]
        frames = np.concatenate(self._songs)
        self._n_frames = len(frames)
        self._sum = frames.sum(axis=0)
        self._products = frames.T @ frames
        self._mean, self._covariance = self._gaussian_without(None)
        self._root = _root(self._covariance)
        self._excerpt_distance: dict[int, float] = {}  # by length in frames

    def ratio(self, samples: np.ndarray) -> float:
        """1 is a real excerpt of the songs, more is farther."""
        frames = spectral_frames(samples)
        n_common = self._common_length(len(frames))
        # Pieces overlap so that all of the sound is in them, to its last frame.
        n_pieces = -(-len(frames) // n_common)
        starts = np.linspace(0, len(frames) - n_common, n_pieces).astype(int)
        distances = [self._distance(frames[start : start + n_common]) for start in starts]
        return float(np.median(distances)) / self._real_distance(n_common)

    def _common_length(self, n_frames: int) -> int:
        half_have = statistics.median_high(len(song) for song in self._songs)
        return max(1, min(n_frames, half_have, self._n_frames // 2))

    def _distance(self, frames: np.ndarray) -> float:
        mean, covariance = _gaussian(frames)
        return frechet_distance(self._mean, self._covariance, mean, covariance, self._root)

    def _real_distance(self, n_frames: int) -> float:
        """The median distance of excerpts of a length to the rest of the songs."""
        if n_frames not in self._excerpt_distance:
            excerpts = [
                song[start : start + n_frames]
                for song in self._songs
                for start in range(0, len(song) - n_frames + 1, max(1, n_frames // 2))
            ]
            chosen = np.linspace(0, len(excerpts) - 1, min(len(excerpts), MAX_EXCERPTS))
            distances = [
                frechet_distance(*_gaussian(excerpts[i]), *self._gaussian_without(excerpts[i]))
                for i in chosen.astype(int)
            ]
            self._excerpt_distance[n_frames] = max(np.median(distances), SMALLEST_DISTANCE)
        return float(self._excerpt_distance[n_frames])

    def _gaussian_without(self, frames: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Mean and covariance of all the songs' frames but these."""
        n, total, products = self._n_frames, self._sum, self._products
        if frames is not None and len(frames) < n:
            n -= len(frames)
            total = total - frames.sum(axis=0)
            products = products - frames.T @ frames
        mean = total / n
        return mean, products / n - np.outer(mean, mean)


def spectral_frames(samples: np.ndarray) -> np.ndarray:
    """Log-mel frames and their deltas.

    Returns
    -------
    np.ndarray
        float64 (n_frames, 128): levels of 64 bands in dB, then by how many dB each rises per
        frame of 11.6 ms, the slope of a line through five frames.
    """
    levels = log_mel(samples, hop_samples=MEL_HOP_SAMPLES).astype(np.float64)
    padded = np.pad(levels, ((2, 2), (0, 0)), mode="edge")
    slopes = (2 * (padded[4:] - padded[:-4]) + padded[3:-1] - padded[1:-3]) / 10
    return np.concatenate((levels, slopes), axis=1)


def frechet_distance(
    mean1: np.ndarray,
    covariance1: np.ndarray,
    mean2: np.ndarray,
    covariance2: np.ndarray,
    root1: np.ndarray | None = None,
) -> float:
    """The squared Fréchet (2-Wasserstein) distance between two Gaussians.

    Parameters
    ----------
    mean1, mean2
        (n,).
    covariance1, covariance2
        (n, n), symmetric and positive semidefinite; they may be singular.
    root1
        The square root of ``covariance1``, if it is known.
    """
    root1 = _root(covariance1) if root1 is None else root1
    eigenvalues = np.linalg.eigvalsh(root1 @ covariance2 @ root1)
    overlap = np.sqrt(np.maximum(eigenvalues, 0)).sum()  # below 0 only by rounding
    spread = np.trace(covariance1) + np.trace(covariance2) - 2 * overlap
    return float(np.sum((mean1 - mean2) ** 2) + max(spread, 0.0))


def _gaussian(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean = frames.mean(axis=0)
    centred = frames - mean
    return mean, centred.T @ centred / len(frames)


def _root(covariance: np.ndarray) -> np.ndarray:
    """The symmetric square root."""
    eigenvalues, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(np.maximum(eigenvalues, 0))) @ vectors.T


def harmonic_distances(samples: np.ndarray, lag_s: int) -> np.ndarray:
    """Cosine distances between chroma vectors ``lag_s`` apart, where both sound.

    Returns
    -------
    np.ndarray
        (n_pairs,), 0 (the same pitch classes) to 1 (none in common); empty if the sound is
        shorter than ``lag_s`` or silent.
    """
    classes = chroma(samples).astype(np.float64)
    lag = lag_s * CHROMA_FRAMES_PER_S
    before, after = classes[:-lag], classes[lag:]
    both_sound = before.any(axis=1) & after.any(axis=1)
    return np.maximum(1 - (before * after).sum(axis=1)[both_sound], 0)
