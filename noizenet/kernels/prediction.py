"""Linear prediction of every sample from those before it, as a direct sum.

The coefficients hold for a block of samples, and the next block has others. A direct sum rather
than an FFT: each prediction then depends on its own past alone, to the bit. Its order is spelled
out in vectors, so that the playing loop computes the very same numbers one at a time. The newest
sample comes last: all the rest can be summed up before that one is known.
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
def predict_known(coefficients, first, n, heard, at):
    """Sum of ``coefficients[first + i] * heard[at + i]`` for i below n; both arrays are flat."""
    lanes = lanes_of(heard)
    zero = like(load(heard, at), 0.0)
    a = b = c = d = zero
    k = 0
    while k + N_SUMS * lanes <= n:
        i, j = first + k, at + k
        a = fma(load(coefficients, i), load(heard, j), a)
        b = fma(load(coefficients, i + lanes), load(heard, j + lanes), b)
        c = fma(load(coefficients, i + 2 * lanes), load(heard, j + 2 * lanes), c)
        d = fma(load(coefficients, i + 3 * lanes), load(heard, j + 3 * lanes), d)
        k += N_SUMS * lanes
    while k + lanes <= n:
        a = fma(load(coefficients, first + k), load(heard, at + k), a)
        k += lanes
    total = lane_sum((a + b) + (c + d))
    while k < n:
        total += coefficients[first + k] * heard[at + k]
        k += 1
    return total


@njit
def block_at(t, hop, n_blocks):
    """The block that sample t belongs to; the last one never ends."""
    return min(t // hop, n_blocks - 1)


@njit(cache=True, nogil=True)
def _predict_blocks(coefficients, row_blocks, n_blocks, n_past, heard, hop, first, predicted):
    rows, n_steps = predicted.shape
    for r in range(rows):
        for t in range(n_steps):
            block = r * row_blocks + block_at(first + t, hop, n_blocks)
            newest = r * (n_past + n_steps) + t + n_past
            known = predict_known(
                coefficients, block * n_past, n_past - 1, heard, newest - n_past + 1
            )
            predicted[r, t] = known + coefficients[(block + 1) * n_past - 1] * heard[newest]


def predict_blocks(
    coefficients: np.ndarray, heard: np.ndarray, hop: int, first: int = 0
) -> np.ndarray:
    """What each block's linear prediction says of the sample after each one that was read.

    Parameters
    ----------
    coefficients : (B, N, P) of N blocks, the oldest sample's first; B may be 1 for all rows
    heard : (B, P + T) of the same dtype: the past, then the samples that were read
    hop : samples in a block, >= 1; the last block never ends
    first : which sample of the blocks the first prediction uses the block of

    Returns
    -------
    (B, T): column t is the prediction of the sample that follows ``heard[:, t + 1 : t + 1 + P]``,
    by the coefficients of block ``min((first + t) // hop, N - 1)``.

    Raises
    ------
    ValueError
        Shapes or dtypes that do not fit together.
    """
    given, n_blocks, n_past = coefficients.shape
    rows, n_heard = heard.shape
    n_steps = n_heard - n_past
    if given not in (1, rows) or n_steps < 0 or min(n_blocks, hop) < 1 or first < 0:
        raise ValueError(
            f"coefficients {coefficients.shape}, hop {hop} and first {first} do not fit what was "
            f"heard, {heard.shape}"
        )
    if coefficients.dtype != heard.dtype:
        raise ValueError(f"coefficients must be {heard.dtype}, not {coefficients.dtype}")
    if coefficients.strides[0] == 0:  # one row that was expanded: no need to copy it
        given, coefficients = 1, coefficients[:1]
    predicted = np.zeros((rows, n_steps), heard.dtype)
    if n_past:
        _predict_blocks(
            np.ascontiguousarray(coefficients).reshape(-1), n_blocks if given > 1 else 0, n_blocks,
            n_past, np.ascontiguousarray(heard).reshape(-1), hop, first, predicted,
        )  # fmt: skip
    return predicted
