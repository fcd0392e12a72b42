"""What the playing loop (:mod:`noizenet.kernels.play`) follows.

Letters: R sequences, N blocks, P past samples of the linear prediction, C conditions.

Where a network stands on a linear prediction, that comes from a guide, which has another one for
every block of samples. With k the block of the sample that is drawn, and l that of the next one:

    sample = base + unit_k clip(r),  r from the head;   bounded
    base'  = prediction_l over the newest P samples
    x      = [sample / scale_l, base' / scale_l, (sample - base) / unit_l, conditions_l],  clipped

What is louder than the guide, by more than the overshoot that is allowed, is damped for a block:
the poles of 1/A(z) are pulled in so far that it rings down to that within the block. Sharp
resonances that change from block to block can gain by the change. A prediction far larger than
the sound is to be is not followed, nor are the next P: they are 0, until nothing of what led to it
is left among the newest P samples. Cut off instead, it would go on as a square wave or as noise.

x is what the network reads to speak of the next sample. Without a linear prediction x is the
sample itself.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from noizenet.kernels.assembly import FEATURES, NOWHERE, Network


class Guide(NamedTuple):
    """What the sequences follow, float32; R is 1 when all follow the same.

    Block k holds for samples k · hop … (k + 1) · hop - 1, and the last block never ends. Without
    a linear prediction (P = 0) units and scales mean nothing.
    """

    prediction: np.ndarray  # (R, N, P) oldest sample's coefficient first
    unit: np.ndarray  # (R, N) RMS of the error of the linear prediction
    scale: np.ndarray  # (R, N) RMS of the sound
    conditions: np.ndarray  # (R, N, C) read by the network
    hop: int  # samples in a block


class Course(NamedTuple):
    """A guide, flat; block k of sequence r is number ``r * row_blocks + k``."""

    prediction: np.ndarray
    unit: np.ndarray
    scale: np.ndarray
    conditions: np.ndarray
    n_past: int
    n_conditions: int
    condition_rows: int
    n_blocks: int
    row_blocks: int  # 0 when all sequences share one row
    hop: int


class Limits(NamedTuple):
    """What numbers are clipped to, as :class:`Network` says."""

    lowest: np.float32
    highest: np.float32
    reach: np.float32
    overshoot: np.float32
    believable: np.float32
    feature_limit: np.float32
    error_limit: np.float32


def course_of(guide: Guide, network: Network, n_sequences: int) -> Course:
    """A guide as the loop follows it, once it is known to fit.

    Indices in the loop are not checked, so here they are.
    """
    rows, n_blocks, n_past = guide.prediction.shape
    n_conditions = guide.conditions.shape[-1]
    shapes = (guide.unit.shape, guide.scale.shape, guide.conditions.shape)
    fits = shapes == ((rows, n_blocks), (rows, n_blocks), (rows, n_blocks, n_conditions))
    n_inputs = (FEATURES if n_past else 1) + n_conditions
    if network.embedding is not None:
        n_inputs = network.embedding.shape[1] if n_past + n_conditions == 0 else NOWHERE
    fits = fits and n_inputs == network.layers[0].w_ih.shape[1]
    if not fits or rows not in (1, n_sequences) or min(n_blocks, guide.hop) < 1:
        raise ValueError(
            f"a guide of shapes {guide.prediction.shape}, {', '.join(map(str, shapes))} and hop "
            f"{guide.hop} does not fit {n_sequences} sequences of this network"
        )
    return Course(
        *(np.ascontiguousarray(part, np.float32).reshape(-1) for part in guide[:4]),
        n_past=n_past,
        n_conditions=n_conditions,
        condition_rows=rows,
        n_blocks=n_blocks,
        row_blocks=n_blocks if rows > 1 else 0,
        hop=guide.hop,
    )


@njit
def _between(number, lowest, highest):
    """Within the bounds; NaN stays NaN."""
    if number < lowest:
        return lowest
    return highest if number > highest else number


@njit(error_model="numpy")
def turn_to(course, limits, block, heard, oldest, prediction, at):
    """Put a block's linear prediction, damped where need be, into ``prediction`` from ``at`` on.

    ``oldest`` is where the newest P samples begin.
    """
    n_past = course.n_past
    if n_past == 0:
        return
    power = np.float32(0)
    for i in range(n_past):
        power += heard[oldest + i] * heard[oldest + i]
    own = math.sqrt(power / n_past)
    allowed = limits.overshoot * course.scale[block]
    damping = np.float32((allowed / own) ** (1 / course.hop)) if own > allowed else np.float32(1)
    factor = np.float32(1)
    for i in range(n_past - 1, -1, -1):
        factor *= damping
        prediction[at + i] = factor * course.prediction[block * n_past + i]


@njit(error_model="numpy")
def hear(
    course, limits, residual, known, newest_weight, base, held, r, now, upcoming, heard, newest,
    memory, x_at,
):  # fmt: skip
    """The sample that a number on the head's axis stands for; its features go to ``x_at``.

    ``known`` is the prediction of the next sample but for what this one, times ``newest_weight``,
    adds to it; ``now`` and ``upcoming`` are the numbers of the two samples' blocks, ``held[r]`` is
    for how many more samples no prediction is followed.
    """
    if course.n_past == 0:
        sample = _between(residual, limits.lowest, limits.highest)
        memory[x_at] = sample
        return sample
    before = base[r]
    residual = _between(residual, -limits.reach, limits.reach)
    sample = _between(before + course.unit[now] * residual, limits.lowest, limits.highest)
    heard[newest] = sample
    following = known + newest_weight * sample
    unit, scale = course.unit[upcoming], course.scale[upcoming]
    if held[r] == 0 and abs(following) > limits.believable * scale:
        held[r] = course.n_past + 1
    if held[r] > 0:
        held[r] -= 1
        following = np.float32(0)
    base[r] = following
    memory[x_at] = _between(sample / scale, -limits.feature_limit, limits.feature_limit)
    memory[x_at + 1] = _between(following / scale, -limits.feature_limit, limits.feature_limit)
    memory[x_at + 2] = _between((sample - before) / unit, -limits.error_limit, limits.error_limit)
    return sample
