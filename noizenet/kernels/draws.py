"""Drawing the next number from what the head says of it, one at a time, in float32.

The plain twins are the ``sample`` methods of :mod:`noizenet.learner.heads`. Uniform random numbers
come from outside; the logistic ones are made from them beforehand (:func:`logistic_quantiles`).

A head's outputs lie as :func:`layout` says: first the log weights that a choice is made from,
filled up to whole blocks with choices that are never taken, then everything else.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from noizenet.kernels.cells import copy
from noizenet.kernels.prediction import lane_sum
from noizenet.kernels.vector import fma, lanes_of, like, load

VALUE, MIXTURE, CODES = 0, 1, 2
BLOCK_CHOICES = 16
NEVER = np.float32(-1e30)  # log weight of the choices that fill up a block

# exp(x) = 2^n exp(r) with r in [-ln 2 / 2, ln 2 / 2]; ln 2 in two parts, so that n times the first
# is exact. The polynomial is that of Cephes' expf (Moshier): relative error below EXP_ERROR.
EXP_ERROR = 1e-7
LOWEST_EXP, HIGHEST_EXP = np.float32(-87), np.float32(88)  # beyond, float32 ends
LOG2_E = np.float32(1.4426950408889634)
LN_2_HIGH, LN_2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
E2, E3, E4, E5, E6, E7 = (
    np.float32(c)
    for c in (5.0000001201e-1, 1.6666665459e-1, 4.1665795894e-2, 8.3334519073e-3,
              1.3981999507e-3, 1.9875691500e-4)
)  # fmt: skip
EXPONENT_BIAS, MANTISSA_BITS = np.int32(127), np.int32(23)
HALF, ONE, ZERO = np.float32(0.5), np.float32(1), np.float32(0)


class Head(NamedTuple):
    """What the outputs mean."""

    kind: int
    n_choices: int  # codes, or distributions of a mixture
    n_outputs: int  # with those that fill up
    scale: np.float32  # of a value's logistic
    scale_floor: np.float32  # of a mixture's


class Scratch(NamedTuple):
    """Room to work in."""

    flat: np.ndarray
    weights: np.ndarray  # the same in blocks
    sums: np.ndarray  # one for each block, or for each choice of one


@njit
def scratch_for(head):
    """Room to draw from a head."""
    n_blocks = (head.n_choices + BLOCK_CHOICES - 1) // BLOCK_CHOICES
    flat = np.zeros(n_blocks * BLOCK_CHOICES, np.float32)
    sums = np.zeros(max(n_blocks, BLOCK_CHOICES), np.float32)
    return Scratch(flat, flat.reshape(n_blocks, BLOCK_CHOICES), sums)


def layout(kind: int, n_outputs: int) -> tuple[np.ndarray, int, int]:
    """Where torch's outputs go: their places, how many there are then, and the choices."""
    n_choices = {VALUE: 0, MIXTURE: n_outputs // 3, CODES: n_outputs}[kind]
    n_filled = -(-n_choices // BLOCK_CHOICES) * BLOCK_CHOICES - n_choices
    places = np.arange(n_outputs)
    places[n_choices:] += n_filled
    return places, n_outputs + n_filled, n_choices


def logistic_quantiles(uniforms: np.ndarray) -> np.ndarray:
    """The standard logistic's inverse distribution function, float32."""
    return np.log(uniforms) - np.log(ONE - uniforms)


@njit(fastmath={"contract"})
def exp(x):
    """e to the power of a float32, as plain arithmetic, so that loops over it are vectorised."""
    x = min(max(x, LOWEST_EXP), HIGHEST_EXP)
    n = np.floor(x * LOG2_E + HALF)
    r = x - n * LN_2_HIGH - n * LN_2_LOW
    tail = ((((E7 * r + E6) * r + E5) * r + E4) * r + E3) * r + E2
    power_of_2 = np.int32((np.int32(n) + EXPONENT_BIAS) << MANTISSA_BITS).view(np.float32)
    return (tail * r * r + r + ONE) * power_of_2


@njit
def all_finite(numbers, at, n):
    """Whether ``numbers[at : at + n]``, filled up to whole vectors, are finite."""
    first = load(numbers, at)
    zero = like(first, 0.0)
    total = zero * first
    for k in range(lanes_of(numbers), n, lanes_of(numbers)):
        total = fma(zero, load(numbers, at + k), total)
    return lane_sum(total) == 0  # 0 times anything else is not 0


@njit
def likeliest(log_weights, at, n):
    """The first of the largest."""
    best = 0
    for k in range(1, n):
        if log_weights[at + k] > log_weights[at + best]:
            best = k
    return best


@njit
def choose(log_weights, at, n, sharpness, uniform, scratch):
    """Index drawn from softmax(sharpness · log_weights[at : at + n]); whole blocks are read."""
    flat, weights, sums = scratch.flat, scratch.weights, scratch.sums
    n_blocks = (n + BLOCK_CHOICES - 1) // BLOCK_CHOICES
    # A copy, so that all that follows has indices that numba knows to be positive: the loops
    # over others gather their numbers one by one.
    copy(log_weights, at, flat, 0, n_blocks * BLOCK_CHOICES)
    for i in range(BLOCK_CHOICES):  # side by side: one maximum after another is slow
        sums[i] = weights[0, i]
    for block in range(1, n_blocks):
        for i in range(BLOCK_CHOICES):
            sums[i] = max(sums[i], weights[block, i])
    top = sums[0]
    for i in range(1, BLOCK_CHOICES):
        top = max(top, sums[i])
    for k in range(n_blocks * BLOCK_CHOICES):
        flat[k] = exp((flat[k] - top) * sharpness)
    total = ZERO
    for block in range(n_blocks):
        inside = ZERO
        for i in range(BLOCK_CHOICES):
            inside += weights[block, i]
            weights[block, i] = inside
        sums[block] = inside
        total += inside
    # The block first, then the choice in it: one running sum would wait for every addition.
    left = uniform * total
    block = 0
    while block < n_blocks - 1 and left > sums[block]:
        left -= sums[block]
        block += 1
    n_below = 0
    for i in range(BLOCK_CHOICES - 1):
        n_below += left > weights[block, i]
    return min(block * BLOCK_CHOICES + n_below, n - 1)


@njit
def draw(head, outputs, at, choice, noise, temperature, sharpness, scratch):
    """A number on the head's axis, or a code; both float32.

    ``choice`` is a uniform, ``noise`` a standard logistic random number; ``sharpness`` is
    1 / temperature.
    """
    if head.kind == VALUE:
        return outputs[at] + temperature * head.scale * noise
    if temperature > 0:
        chosen = choose(outputs, at, head.n_choices, sharpness, choice, scratch)
    else:
        chosen = likeliest(outputs, at, head.n_choices)
    if head.kind == CODES:
        return np.float32(chosen)
    mean_at = at + head.n_outputs - 2 * head.n_choices + chosen
    # log scale = floor + softplus(raw - floor), so scale = exp(floor) + exp(raw)
    scale = head.scale_floor + exp(outputs[mean_at + head.n_choices])
    return outputs[mean_at] + temperature * scale * noise
