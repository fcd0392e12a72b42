"""The opponent without a network: linear prediction that learns while it listens.

Every 256 samples a prediction is fitted to the 2 048 before (Hann window, autocorrelation method:
"backward-adaptive", nothing is known of what follows). Around what it says of the next sample lies
a logistic distribution as wide as the errors of late:

    mₜ = mₜ₋₁ + (|eₜ₋₁| - mₜ₋₁) / 200,    sₜ = f mₜ / (2 ln 2)

since 2 ln 2 is the mean of |e| of a logistic distribution of scale 1. Nobody chooses f: there is
one expert for each of some factors, and they are mixed by how well each has told the sound so far
(Bayes), which costs at most log2(number of experts) bits in all. So nothing is tuned to a sound,
and each sample is told from those before it alone, as by a network.
"""

import math
from collections.abc import Sequence

import numpy as np
import scipy.fft
import torch
from scipy.signal import get_window, lfilter

from noizenet.audio.score_command import HIGHEST_ORDER
from noizenet.errors import ParameterError
from noizenet.kernels.levinson import levinson
from noizenet.kernels.prediction import predict_blocks
from noizenet.learner.heads import logistic_log_mass
from noizenet.learner.score import LEAST_LOG_MASS
from noizenet.sound.spectra import HOP_SAMPLES, WINDOW_SAMPLES, n_blocks_of
from noizenet.units import N_CODES, mu_law_edges, mu_law_encode

HANN = get_window("hann", WINDOW_SAMPLES)
SLAB_BLOCKS = 128  # transformed at once: 4 MB, which stays in the cache

ERROR_MEMORY_SAMPLES = 200
FIRST_ERROR = 0.05  # what is expected before anything was heard
LEAST_SCALE = 1e-5  # a twentieth of the narrowest code
FACTORS = 2.0 ** np.arange(-2, 2.01, 0.5)
SLAB_SAMPLES = 1 << 15
MEAN_ERROR = 2 * math.log(2)  # of a logistic distribution of scale 1


def code_entropy_bits(levelled: np.ndarray) -> float:
    """Entropy of the 8-bit mu-law code, bits per sample: what it takes to know nothing of time."""
    share = np.bincount(mu_law_encode(levelled), minlength=N_CODES) / len(levelled)
    share = share[share > 0]
    return float(-(share * np.log2(share)).sum()) + 0.0  # not -0


def adaptive_bits(
    levelled: np.ndarray, orders: Sequence[int], window: np.ndarray = HANN
) -> list[np.ndarray]:
    """Bits of each sample's mu-law code by backward-adaptive linear prediction.

    Parameters
    ----------
    levelled : (n_samples,) nominally in [-1, 1], finite
    orders : how many past samples a prediction is made from, each 0 to ``HIGHEST_ORDER``
    window : (WINDOW_SAMPLES,) weights of the past, the newest sample's last

    Returns
    -------
    (n_samples,) float64 for each order; entry t depends on ``levelled[: t + 1]`` only.

    Raises
    ------
    ParameterError
        Samples that are not a mono sound, or an order beyond these.
    """
    levelled = np.asarray(levelled, np.float64)
    if levelled.ndim != 1 or not len(levelled) or not np.isfinite(levelled).all():
        raise ParameterError(
            f"samples of shape {levelled.shape} must be finite and mono, (n_samples,)"
        )
    for order in orders:
        if not 0 <= order <= HIGHEST_ORDER:
            raise ParameterError(f"--orders {order} must be 0 to {HIGHEST_ORDER}")
    lags = _autocorrelation_before(levelled, max(orders, default=0), window)
    return [_code_bits(levelled, _predicted(levelled, lags[:, : order + 1])) for order in orders]


def _autocorrelation_before(levelled: np.ndarray, order: int, window: np.ndarray) -> np.ndarray:
    """Of the window before each block, (n_blocks, order + 1); silence lies before the beginning.

    In double precision throughout: here there is no other noise floor that would hide rounding.
    """
    n_blocks = n_blocks_of(len(levelled))
    heard = np.concatenate((np.zeros(WINDOW_SAMPLES), levelled))
    windows = np.lib.stride_tricks.sliding_window_view(heard, WINDOW_SAMPLES)[::HOP_SAMPLES]
    lags = np.empty((n_blocks, order + 1))
    for slab in range(0, n_blocks, SLAB_BLOCKS):
        part = windows[slab : min(slab + SLAB_BLOCKS, n_blocks)] * window
        power = np.abs(scipy.fft.rfft(part, 2 * WINDOW_SAMPLES)) ** 2
        lags[slab : slab + len(part)] = scipy.fft.irfft(power)[:, : order + 1]
    return lags / np.square(window).sum()


def _predicted(levelled: np.ndarray, lags: np.ndarray) -> np.ndarray:
    """What each block's own prediction says of its samples, (n_samples,)."""
    coefficients = levinson(lags, bandwidth=1.0)[0].astype(np.float64)
    silence = np.zeros(lags.shape[1])  # one more than the order: the first sample is predicted too
    heard = np.concatenate((silence, levelled[:-1]))
    return predict_blocks(coefficients[None], heard[None], HOP_SAMPLES)[0]


def _code_bits(levelled: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Bits of each sample's code under the mixture of experts around its prediction."""
    decay = 1 - 1 / ERROR_MEMORY_SAMPLES
    errors = np.abs(levelled - predicted)
    # the state makes the first output FIRST_ERROR; each output knows only earlier errors
    mean_error, _ = lfilter([0, 1 - decay], [1, -decay], errors, zi=[FIRST_ERROR])
    codes = mu_law_encode(levelled).astype(np.int64)
    edges = mu_law_edges()
    bits = np.empty(len(levelled))
    log_weights = np.full((len(FACTORS), 1), -math.log(len(FACTORS)))
    for start in range(0, len(levelled), SLAB_SAMPLES):
        part = slice(start, start + SLAB_SAMPLES)
        scale = np.maximum(FACTORS[:, None] * mean_error[part] / MEAN_ERROR, LEAST_SCALE)
        below, above = (
            torch.from_numpy((edges[codes[part] + side] - predicted[part]) / scale)
            for side in (0, 1)
        )
        nats = logistic_log_mass(below, above).clamp(min=LEAST_LOG_MASS).numpy()
        # each sample is told with the weights that the experts have before it
        told = np.concatenate((log_weights, nats), axis=1).cumsum(axis=1)
        bits[part] = _log_sum(told[:, :-1]) - _log_sum(told[:, 1:])
        log_weights = told[:, -1:] - _log_sum(told[:, -1:])
    return bits / math.log(2)


def _log_sum(logs: np.ndarray) -> np.ndarray:
    """Log of the sum of exponentials over the experts."""
    most = logs.max(axis=0)
    return most + np.log(np.exp(logs - most).sum(axis=0))
