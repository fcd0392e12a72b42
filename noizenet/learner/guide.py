"""What a network follows: for each block of steps a linear prediction, a level and conditions.

Spectra of a song become a guide (:class:`SpectralGuide`). What the network *listens* to has the
spectra of what came before each block, so that nothing is known early; what it *plays* has the
spectra of what is to sound in each block, which another network draws. It learns both.

Shapes: B sequences, N blocks, P past samples of the prediction, C conditions, T steps.
"""

from collections.abc import Sequence
from typing import NamedTuple

import librosa
import numpy as np
import torch
from torch import Tensor

from noizenet.config import GUIDE_ORDER
from noizenet.kernels.levinson import levinson
from noizenet.sound.spectra import (
    HOP_SAMPLES,
    WINDOW_SAMPLES,
    autocorrelation,
    spectra_around,
    spectra_before,
)
from noizenet.units import SAMPLE_RATE_HZ

ENDLESS = 1 << 62  # steps of a block that no sequence outlasts
N_BANDS = 24  # mel bands among the conditions
N_CONDITIONS = N_BANDS + 2  # and the level, and whether it is heard or to be played
LEAST_POWER = 1e-8  # -80 dB, of a sound at full scale
# Of a unit, where the songs' size is 1. What follows silence is told in the unit of the silence:
# were that much smaller than a code is wide, one block would outweigh the rest of a song.
LEAST_UNIT, LEAST_HEARD_UNIT = 1e-5, 3e-4
CONDITION_LIMIT = 4.0  # deviations; beyond is what no training song was


class Guide(NamedTuple):
    """The step that speaks of number t follows block t // hop, or the last one after the end."""

    prediction: Tensor  # (B, N, P) the oldest sample's coefficient first
    unit: Tensor  # (B, N) size of what is left unpredicted: the unit of the head's axis
    scale: Tensor  # (B, N) size of the sound: the unit of what the network reads
    conditions: Tensor  # (B, N, C) read at every step
    hop: int

    def block_of_each(self, n_steps: int) -> Tensor:
        """(T,) which block each of the first steps follows."""
        n_blocks = self.unit.shape[1]
        steps = torch.arange(n_steps, device=self.unit.device)
        return torch.div(steps, self.hop, rounding_mode="floor").clamp(max=n_blocks - 1)

    def part(self, start: int, stop: int) -> "Guide":
        """The guide of the steps from ``start`` to ``stop``; a block must begin at ``start``."""
        if self.hop == ENDLESS:
            return self
        if start % self.hop:
            raise ValueError(f"no block of {self.hop} steps begins at step {start}")
        last = self.unit.shape[1] - 1
        blocks = slice(min(start // self.hop, last), -(-stop // self.hop))
        return Guide(*(t[:, blocks] for t in self[:4]), self.hop)

    def block_at(self, step: int) -> "Guide":
        """The one block that a step follows."""
        block = min(step // self.hop, self.unit.shape[1] - 1)
        return Guide(*(t[:, block : block + 1] for t in self[:4]), self.hop)

    def damped(self, past: Tensor, overshoot: float) -> "Guide":
        """One block, so that what is louder than ``overshoot`` times its scale rings down to that.

        See :mod:`noizenet.kernels.guide`; ``past`` (B, P) are the newest samples.
        """
        own = past.square().mean(1).sqrt()
        share = (overshoot * self.scale[:, 0] / own).clamp(max=1)
        lags = torch.arange(past.shape[1], 0, -1, device=past.device)
        damping = share[:, None] ** (lags / self.hop)
        return self._replace(prediction=self.prediction * damping[:, None])

    def to(self, device: torch.device | str) -> "Guide":
        return Guide(*(t.to(device) for t in self[:4]), self.hop)


def no_guide(batch: int, order: int, n_conditions: int) -> Guide:
    """One that says nothing, for trials."""
    one = torch.ones(batch, 1)
    conditions = torch.zeros(batch, 1, n_conditions)
    return Guide(torch.zeros(batch, 1, order), one, one, conditions, ENDLESS)


def joined(guides: Sequence[Guide]) -> Guide:
    """One guide after the other."""
    parts = zip(*(guide[:4] for guide in guides), strict=True)
    return Guide(*(torch.cat(part, 1) for part in parts), guides[0].hop)


def side_by_side(guides: Sequence[Guide]) -> Guide:
    """Guides of sequences read together; shorter ones hold their last block."""
    n_blocks = max(guide.unit.shape[1] for guide in guides)
    index = torch.arange(n_blocks)
    held = [[t[:, index.clamp(max=t.shape[1] - 1)] for t in guide[:4]] for guide in guides]
    return Guide(*(torch.cat(part) for part in zip(*held, strict=True)), guides[0].hop)


class SpectralGuide:
    """Makes guides from sounds or spectra.

    Parameters
    ----------
    mean, deviation : (N_BANDS + 1,) of the conditions of the training songs
    """

    def __init__(self, mean: np.ndarray, deviation: np.ndarray):
        self.mean = mean
        self.deviation = deviation

    @classmethod
    def fit(cls, songs: Sequence[np.ndarray]) -> "SpectralGuide":
        """Measure the conditions of all songs (scaled samples)."""
        levels = np.concatenate([np.log(band_powers(spectra_around(song))) for song in songs])
        # a tenth of a neper keeps what never changes from being blown up
        return cls(levels.mean(0), levels.std(0) + 0.1)

    def listening(self, numbers: np.ndarray) -> Guide:
        """What is known of a sound before each of its blocks."""
        return self.of_spectra(spectra_before(numbers), heard=True)

    def playing(self, numbers: np.ndarray) -> Guide:
        """What a sound is to be in each of its blocks."""
        return self.of_spectra(spectra_around(numbers), heard=False)

    def of_spectra(self, spectra: np.ndarray, heard: bool) -> Guide:
        """The guide of one sequence from the spectra (N, n_bins) of its blocks."""
        return self.of_powers(autocorrelation(spectra, GUIDE_ORDER), band_powers(spectra), heard)

    def of_powers(self, lags: np.ndarray, powers: np.ndarray, heard: bool) -> Guide:
        """The guide of one sequence from what is needed of its spectra.

        Parameters
        ----------
        lags : (N, GUIDE_ORDER + 1) autocorrelation
        powers : (N, N_BANDS + 1), see :func:`band_powers`
        """
        prediction, error = levinson(lags)
        levels = (np.log(powers) - self.mean) / self.deviation
        levels = np.clip(levels, -CONDITION_LIMIT, CONDITION_LIMIT)
        kind = np.full((len(levels), 1), 1.0 if heard else 0.0)
        parts = (
            prediction,
            np.maximum(np.sqrt(error), LEAST_HEARD_UNIT if heard else LEAST_UNIT),
            np.sqrt(lags[:, 0] + LEAST_POWER),
            np.concatenate((levels, kind), 1),
        )
        tensors = (torch.from_numpy(np.asarray(part, np.float32))[None] for part in parts)
        return Guide(*tensors, HOP_SAMPLES)

    def arrays(self) -> dict[str, np.ndarray]:
        """For the checkpoint."""
        return {"guide_mean": self.mean, "guide_deviation": self.deviation}

    @classmethod
    def restore(cls, arrays: dict[str, np.ndarray]) -> "SpectralGuide":
        """As it was saved."""
        return cls(arrays["guide_mean"], arrays["guide_deviation"])


def mel_filters(n_bands: int, lowest_hz: float = 0.0) -> np.ndarray:
    """Mean power in each mel band, as a matrix (n_bands, n_bins)."""
    filters = librosa.filters.mel(
        sr=SAMPLE_RATE_HZ, n_fft=2 * WINDOW_SAMPLES, n_mels=n_bands, fmin=lowest_hz, norm=None
    )
    return filters / filters.sum(1, keepdims=True)


def band_powers(spectra: np.ndarray) -> np.ndarray:
    """Power of the bands and of the whole, (N, N_BANDS + 1) float64, above 0."""
    bands = spectra @ mel_filters(N_BANDS).T
    # a spectrum's bins but the first and last stand for two frequencies each
    whole = (2 * spectra.sum(1) - spectra[:, 0] - spectra[:, -1]) / (2 * WINDOW_SAMPLES)
    powers = np.concatenate((bands, whole[:, None]), 1)
    return powers.astype(np.float64) + LEAST_POWER
