"""Linear prediction of every sample from those before it, as a direct sum.

A direct sum rather than an FFT: each prediction then depends on its own past alone, to the bit,
and the playing loop computes the very same numbers one at a time.
"""

import numpy as np
from numba import njit


@njit(fastmath={"reassoc", "contract"})  # lets the sum be vectorised; NaN still passes through
def predict(coefficients, heard):
    """Prediction of the sample that follows the P samples ``heard``; oldest coefficient first."""
    total = heard.dtype.type(0)
    for k in range(len(coefficients)):
        total += coefficients[k] * heard[k]
    return total


@njit(cache=True, nogil=True)
def _predict_each(coefficients, heard, predicted):
    for r in range(heard.shape[0]):
        for t in range(predicted.shape[1]):
            predicted[r, t] = predict(coefficients, heard[r, t : t + len(coefficients)])


def predict_each(coefficients: np.ndarray, heard: np.ndarray) -> np.ndarray:
    """Predictions of a sound's samples.

    Parameters
    ----------
    coefficients : (P,), P >= 1, the oldest sample's first
    heard : (R, P + T) of the same dtype

    Returns
    -------
    (R, T + 1): column t is predicted from ``heard[:, t : t + P]``.
    """
    n_past = len(coefficients)
    predicted = np.empty((heard.shape[0], heard.shape[1] - n_past + 1), heard.dtype)
    _predict_each(np.ascontiguousarray(coefficients), np.ascontiguousarray(heard), predicted)
    return predicted
