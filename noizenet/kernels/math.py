"""tanh and the logistic function on vectors: float32 fast, float64 exact."""

import math

from numba import types
from numba.extending import overload, register_jitable

from noizenet.kernels.vector import VectorType, clamp, fma, lanewise, like

# tanh(x) = x P(x^2) / Q(x^2) for |x| <= 9, beyond which it is 1 in float32: minimax in relative
# error (2e-8), coefficients and their common factor then chosen for the smallest error after
# rounding. In float32 the error is below TANH_ERROR; +-9 gives exactly +-1.
TANH_LIMIT = 9.0
TANH_ERROR = 3e-7
P0, P1, P2, P3, P4 = (
    1.4896774291992188,
    0.19933411478996277,
    0.005207298323512077,
    3.0700877687195316e-05,
    1.9894127234465486e-08,
)
Q0, Q1, Q2, Q3, Q4 = (
    1.4896774291992188,
    0.6958929896354675,
    0.03854835405945778,
    0.0004894535522907972,
    1.158455916083767e-06,
)


def tanh(x):
    """Hyperbolic tangent of a vector, only inside compiled code."""
    raise NotImplementedError("tanh works on vectors inside compiled kernels")


@overload(tanh)
def _tanh(x):
    if not isinstance(x, VectorType):
        return None
    if x.dtype == types.float64:
        return lambda x: lanewise(math.tanh, x)

    def rational(x):
        x = clamp(x, TANH_LIMIT)
        u = x * x
        p = fma(fma(like(u, P4), u, like(u, P3)), u, like(u, P2))
        p = fma(fma(p, u, like(u, P1)), u, like(u, P0))
        q = fma(fma(like(u, Q4), u, like(u, Q3)), u, like(u, Q2))
        q = fma(fma(q, u, like(u, Q1)), u, like(u, Q0))
        return clamp(x * p / q, 1.0)

    return rational


@register_jitable
def sigmoid(x):
    """1 / (1 + exp(-x)) = (1 + tanh(x / 2)) / 2 of a vector."""
    half = like(x, 0.5)
    return fma(half, tanh(half * x), half)
