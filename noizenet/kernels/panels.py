"""A matrix cut into panels that stream through the registers, and the product with it.

Outputs are dealt to panels of nearly equal width, in vectors. Panel after panel, each holds for
every input one row of its weights. The product therefore reads memory once, in order, whatever
the size of the matrix: there is no stride that could fall on one cache set at a power of two.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from noizenet.kernels.vector import accumulate, lanes_of, n_lanes, widest

CACHE_LINE_BYTES = 64


class Panels(NamedTuple):
    """A packed matrix of ``n_segments * n_inputs`` rows, its columns in vectors."""

    data: np.ndarray
    n_segments: int
    n_inputs: int
    n_panels: int
    narrow: int  # vectors of a panel
    n_wide: int  # how many panels, the first ones, have one vector more


def padded(n: int, dtype) -> int:
    """``n`` rounded up to whole vectors."""
    lanes = n_lanes(dtype)
    return -(-n // lanes) * lanes


def aligned_zeros(n: int, dtype) -> np.ndarray:
    """``n`` zeros that begin on a cache line, with a line of margin for what vectors overread."""
    itemsize = np.dtype(dtype).itemsize
    lines = -(-n * itemsize // CACHE_LINE_BYTES) + 2
    raw = np.zeros(lines * CACHE_LINE_BYTES, np.uint8)
    first = -raw.ctypes.data % CACHE_LINE_BYTES
    return raw[first : first + (lines - 1) * CACHE_LINE_BYTES].view(dtype)


def pack(matrix: np.ndarray, n_segments: int, n_rows: int) -> Panels:
    """Pack ``matrix`` (inputs, outputs) for products with ``n_rows`` vectors at a time.

    The inputs come in ``n_segments`` equal parts, which may lie apart in memory.
    """
    n_inputs, n_outputs = matrix.shape
    lanes = n_lanes(matrix.dtype)
    n_vectors = -(-n_outputs // lanes)
    whole = np.zeros((n_inputs, n_vectors * lanes), matrix.dtype)
    whole[:, :n_outputs] = matrix
    data = aligned_zeros(whole.size, matrix.dtype)
    n_panels = max(1, -(-n_vectors // widest(n_rows)))
    first = 0
    for panel in np.array_split(np.arange(n_vectors), n_panels):
        width = len(panel) * lanes
        part = whole[:, first : first + width]
        data[first * n_inputs : first * n_inputs + part.size] = part.ravel()
        first += width
    return Panels(data, n_segments, n_inputs // n_segments, n_panels, *divmod(n_vectors, n_panels))


@njit
def multiply(
    panels, rows, x, x_at, x_step, segment_step,
    start, start_at, start_step, y, y_at, y_step, reverse,
):  # fmt: skip
    """y[r] = start[r] + x[r] @ matrix for ``rows`` rows r.

    Row r of ``x`` begins at ``x_at + r * x_step`` and its segments ``segment_step`` apart; rows of
    ``start`` and ``y`` likewise. With ``reverse`` the weights are walked from
    the end: a caller that goes to and fro finds the nearer half of them still in the cache.
    """
    lanes = lanes_of(x)
    n_all_inputs = panels.n_segments * panels.n_inputs
    for i in range(panels.n_panels):
        panel = panels.n_panels - 1 - i if reverse else i
        width = panels.narrow + 1 if panel < panels.n_wide else panels.narrow
        column = (panel * panels.narrow + min(panel, panels.n_wide)) * lanes
        source, source_at, source_step = start, start_at + column, start_step
        for j in range(panels.n_segments):
            segment = panels.n_segments - 1 - j if reverse else j
            accumulate(
                width, rows, panels.data,
                column * n_all_inputs + segment * panels.n_inputs * width * lanes,
                x, x_at + segment * segment_step, x_step, source, source_at, source_step,
                y, y_at + column, y_step, panels.n_inputs,
            )  # fmt: skip
            source, source_at, source_step = y, y_at + column, y_step
