"""Stable linear predictions from autocorrelations: the Levinson-Durbin recursion.

With r the autocorrelation and a⁽ᵐ⁾ the best prediction from m samples, e⁽⁰⁾ = r₀ and

    k = (rₘ - Σⱼ aⱼ⁽ᵐ⁻¹⁾ rₘ₋ⱼ) / e⁽ᵐ⁻¹⁾,    j = 1 … m - 1
    aⱼ⁽ᵐ⁾ = aⱼ⁽ᵐ⁻¹⁾ - k aₘ₋ⱼ⁽ᵐ⁻¹⁾,    aₘ⁽ᵐ⁾ = k,    e⁽ᵐ⁾ = (1 - k²) e⁽ᵐ⁻¹⁾

(Makhoul, "Linear prediction: a tutorial review", 1975). 1/A(z) is stable exactly if every
reflection coefficient k lies inside (-1, 1). White noise of power v is added beforehand, and of it
no prediction leaves less than v. Where e falls below, rounding has won, or r was never an
autocorrelation: there the recursion ends, with the highest order that is sound.

Each lane of a vector is one row, so every row is computed alike, whatever its neighbours are.
"""

import numpy as np
from numba import njit

from noizenet.kernels.threads import share
from noizenet.kernels.vector import fma, lanes_of, like, load, n_lanes, store

NOISE_POWER = 1e-10  # -100 dB: what silence is taken for
LEAST_LEFT = 0.5  # of the added noise; the error keeps all of it but for rounding
N_SUMS = 4  # independent ones, which hide the latency of a fused multiply-add
DEALT_ROWS = 256  # that a thread takes at a time: some ms


@njit(error_model="numpy")
def _reflections(sums, left, least, going, reflections):
    """Each row's next coefficient, 0 once it has ended, and what error it leaves."""
    for i in range(len(sums)):
        k = sums[i] / left[i]
        leaves = (1 - k * k) * left[i]
        if going[i] and leaves >= least[i]:  # not so of NaN
            left[i] = leaves
        else:
            going[i], k = False, 0.0
        reflections[i] = k


@njit
def _correlate(lags, a, m):
    """Σⱼ aⱼ rₘ₋ⱼ for j = 1 … m - 1; aⱼ is kept at j - 1."""
    lanes = lanes_of(lags)
    zero = like(load(lags, 0), 0.0)
    sum_0 = sum_1 = sum_2 = sum_3 = zero
    n = m - 1
    j = 0
    while j + N_SUMS <= n:
        at, lag_at = j * lanes, (n - j) * lanes
        sum_0 = fma(load(a, at), load(lags, lag_at), sum_0)
        sum_1 = fma(load(a, at + lanes), load(lags, lag_at - lanes), sum_1)
        sum_2 = fma(load(a, at + 2 * lanes), load(lags, lag_at - 2 * lanes), sum_2)
        sum_3 = fma(load(a, at + 3 * lanes), load(lags, lag_at - 3 * lanes), sum_3)
        j += N_SUMS
    while j < n:
        sum_0 = fma(load(a, j * lanes), load(lags, (n - j) * lanes), sum_0)
        j += 1
    return (sum_0 + sum_1) + (sum_2 + sum_3)


@njit
def _reflect(a, m, minus_k):
    """The next aⱼ for j = 1 … m - 1, from both ends at once."""
    lanes = lanes_of(a)
    n = m - 1
    for j in range((n + 1) // 2):
        near_at, far_at = j * lanes, (n - 1 - j) * lanes
        near, far = load(a, near_at), load(a, far_at)
        store(a, near_at, fma(minus_k, far, near))
        store(a, far_at, fma(minus_k, near, far))  # in the middle the same


@njit(cache=True, nogil=True)
def _levinson(lags, least, damping, coefficients, errors):
    """``lags`` (groups, (P + 1) · lanes), a row in each lane; results (rows, P) and (rows,).

    ``least`` (groups, lanes) is the error below which a recursion ends.
    """
    n_rows, order = coefficients.shape
    lanes = lanes_of(errors)
    a = np.empty(max(1, order) * lanes, lags.dtype)
    sums, left = np.empty(lanes, lags.dtype), np.empty(lanes, lags.dtype)
    reflections, going = np.empty(lanes, lags.dtype), np.empty(lanes, np.bool_)
    for group in range(len(lags)):
        r = lags[group]
        going[:] = True
        left[:] = r[:lanes]
        for m in range(1, order + 1):
            store(sums, 0, load(r, m * lanes) - _correlate(r, a, m))
            _reflections(sums, left, least[group], going, reflections)
            k = load(reflections, 0)
            _reflect(a, m, like(k, 0.0) - k)
            store(a, (m - 1) * lanes, k)
        for i in range(min(lanes, n_rows - group * lanes)):
            row = group * lanes + i
            errors[row] = left[i]
            for j in range(order):
                coefficients[row, order - 1 - j] = a[j * lanes + i] * damping[j]


def levinson(
    autocorrelation: np.ndarray,
    noise_share: float = 1e-9,
    bandwidth: float = 0.9999,
    n_threads: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The best linear prediction of each of many sounds, made stable.

    Parameters
    ----------
    autocorrelation : (n, P + 1) float64, from lag 0 on, in power of one sample; a row that is not
        finite, or has no power, counts as silence
    noise_share : white noise to be added, as a share of the power; it keeps the prediction from
        living on rounding
    bandwidth : the coefficient of lag j is multiplied by this to the power of j, which draws
        the poles of 1/A(z) inside the circle
    n_threads : default: numba's setting

    Returns
    -------
    coefficients : (n, P) float32, the oldest sample's first; 0 of silence
    error : (n,) float64, the mean square of what is left, above 0; before the bandwidth

    Raises
    ------
    ValueError
        Another shape.
    """
    lags = np.asarray(autocorrelation, np.float64)
    if lags.ndim != 2 or lags.shape[1] < 1:
        raise ValueError(f"autocorrelation must be (n, P + 1), not {lags.shape}")
    n_rows, order = len(lags), lags.shape[1] - 1
    heard = np.isfinite(lags).all(1) & (lags[:, 0] > 0)
    coefficients, error = np.empty((n_rows, order), np.float32), np.empty(n_rows)
    damping = bandwidth ** np.arange(1.0, order + 1)
    lanes = n_lanes(np.float64)

    def run(part: slice, helper=None) -> None:
        rows = slice(part.start * DEALT_ROWS, min(part.stop * DEALT_ROWS, n_rows))
        n_groups = -(-(rows.stop - rows.start) // lanes)
        grouped = np.zeros((n_groups * lanes, order + 1))
        grouped[: rows.stop - rows.start] = np.where(heard[rows, None], lags[rows], 0)
        noise = noise_share * grouped[:, 0] + NOISE_POWER
        grouped[:, 0] += noise
        least = LEAST_LEFT * noise.reshape(n_groups, lanes)
        grouped = grouped.reshape(n_groups, lanes, order + 1).transpose(0, 2, 1)
        grouped = np.ascontiguousarray(grouped).reshape(n_groups, -1)
        _levinson(grouped, least, damping, coefficients[rows], error[rows])

    n_dealt = -(-n_rows // DEALT_ROWS)
    if n_dealt > 1:
        share(run, n_dealt, n_threads)
    elif n_dealt:
        run(slice(0, 1))
    return coefficients, error
