"""Linear prediction of every sample from those before it, as a direct sum.

A direct sum rather than an FFT: each prediction then depends on its own past alone, to the bit.
Its order is spelled out in vectors, so that the playing loop computes the very same numbers one at
a time.
"""

import numpy as np
from llvmlite import ir
from numba import njit
from numba.extending import intrinsic

from noizenet.kernels.vector import fma, lanes_of, like, load

N_SUMS = 4  # independent ones, which hide the latency of a fused multiply-add


@intrinsic
def lane_sum(typing_context, vector):
    """The sum of a vector's lanes: neighbours first, then neighbours of those."""

    def codegen(context, builder, sig, args):
        index = ir.IntType(32)
        terms = [builder.extract_element(args[0], index(lane)) for lane in range(vector.lanes)]
        while len(terms) > 1:
            terms = [
                builder.fadd(a, b) for a, b in zip(terms[::2], terms[1::2], strict=True)
            ]  # fmt: skip
        return terms[0]

    return vector.dtype(vector), codegen


@njit
def predict(coefficients, heard, at):
    """Prediction of the sample that follows the P samples from ``heard[at]`` on.

    ``coefficients`` are (P,), the oldest sample's first; both arrays are flat.
    """
    n = len(coefficients)
    lanes = lanes_of(heard)
    zero = like(load(heard, at), 0.0)
    a = b = c = d = zero
    k = 0
    while k + N_SUMS * lanes <= n:
        a = fma(load(coefficients, k), load(heard, at + k), a)
        b = fma(load(coefficients, k + lanes), load(heard, at + k + lanes), b)
        c = fma(load(coefficients, k + 2 * lanes), load(heard, at + k + 2 * lanes), c)
        d = fma(load(coefficients, k + 3 * lanes), load(heard, at + k + 3 * lanes), d)
        k += N_SUMS * lanes
    while k + lanes <= n:
        a = fma(load(coefficients, k), load(heard, at + k), a)
        k += lanes
    total = lane_sum((a + b) + (c + d))
    while k < n:
        total += coefficients[k] * heard[at + k]
        k += 1
    return total


@njit(cache=True, nogil=True)
def _predict_each(coefficients, heard, row_length, predicted):
    for r in range(predicted.shape[0]):
        for t in range(predicted.shape[1]):
            predicted[r, t] = predict(coefficients, heard, r * row_length + t)


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
    rows, n_heard = heard.shape
    predicted = np.empty((rows, n_heard - n_past + 1), heard.dtype)
    flat = np.ascontiguousarray(heard).reshape(-1)
    _predict_each(np.ascontiguousarray(coefficients), flat, n_heard, predicted)
    return predicted
