"""The forward and the backward pass of a few sequences side by side, block of time after block.

The work on a block is prepared (products that need no recurrence), walked (the recurrence, one
step after another) and, going backward, collected (the weight gradients). A helper prepares and
collects the neighbours while a block is walked.

Letters: R sequences, n steps of a block, D inputs, H hidden units.
"""

from typing import NamedTuple

import numpy as np

from noizenet.kernels import cells
from noizenet.kernels.panels import aligned_zeros, pack, padded
from noizenet.kernels.vector import n_lanes

BLOCK_BYTES = 1 << 21  # the gates of a block: more than fits L2, little enough for L3
MAX_BLOCK_STEPS = 1024
FEW_INPUTS = 8  # as few are multiplied inside the loop: cheaper than a pass over memory


class Cell(NamedTuple):
    """What sets a kind of cell apart."""

    number: int
    n_gates: int  # as torch counts
    n_rows: int  # of pre-activations: the GRU's third gate has two
    n_recurrent: int  # of them that the state reaches


class Sizes(NamedTuple):
    """Batch, time, inputs and hidden units."""

    batch: int
    time: int
    inputs: int
    hidden: int


class Block:
    """Steps ``t`` to ``t + n`` of a pass, and its buffers as arrays of exactly that length."""

    def __init__(self, buffers, t, n):
        self.buffers, self.t, self.n = buffers, t, n
        self.steps = slice(t, t + n)

    def view(self, name, *shape):
        """A buffer as an array of ``shape``."""
        return self.buffers[name][: int(np.prod(shape))].reshape(shape)


def blocks_of(kind, sizes, rows, dtype, lengths):
    """All blocks of a pass; two sets of buffers, of ``lengths`` numbers a step, take turns."""
    step_bytes = rows * kind.n_rows * sizes.hidden * dtype.itemsize
    n_steps = int(np.clip(BLOCK_BYTES // step_bytes, 16, MAX_BLOCK_STEPS))
    n_steps = min(n_steps, sizes.time)
    sets = [
        {name: aligned_zeros(rows * (n_steps + 1) * n, dtype) for name, n in lengths.items()}
        for _ in range(2 if sizes.time > n_steps else 1)
    ]
    return [
        Block(sets[i % len(sets)], t, min(n_steps, sizes.time - t))
        for i, t in enumerate(range(0, sizes.time, n_steps))
    ]


def rows_of(kind, n_hidden, units):
    """The rows of the augmented matrix (pre-activations) that a slice of the units has."""
    gates = np.arange(kind.n_rows)[:, None] * n_hidden
    return (gates + np.arange(units.start, units.stop)).ravel()


def state_of(rows, step, values, dtype):
    """A state of ``rows`` sequences, ``step`` apart, flat."""
    flat = aligned_zeros(rows * step, dtype)
    if values is not None:
        flat[: rows * step].reshape(rows, step)[:, : values.shape[1]] = values
    return flat


def forward_rows(kind, sizes, weights, x, h0, c0, h, c, helper):
    """Fill the contiguous states ``h`` and ``c`` (R, T, H) of the inputs ``x`` (R, T, D)."""
    rows, dtype = len(x), x.dtype
    n_inputs, n_hidden = sizes.inputs, sizes.hidden
    n_all = kind.n_rows * n_hidden
    n_inside = n_inputs if n_inputs <= FEW_INPUTS else 0
    reached = slice(0, kind.n_recurrent * n_hidden)
    recurrent = pack(weights[reached, : n_hidden + n_inside].T, 1, rows)
    fourth = aligned_zeros(n_inputs * n_hidden, dtype)
    if kind.number == cells.GRU:
        fourth[: n_inputs * n_hidden] = weights[reached.stop :, n_hidden:-1].T.ravel()
    bias = aligned_zeros(n_all, dtype)
    bias[:n_all] = weights[:, -1]

    state_step = padded(n_hidden + n_inside, dtype)
    gates_step = padded(n_all, dtype) + n_lanes(dtype)  # the GRU's k may begin anywhere
    h_now = state_of(rows, state_step, h0, dtype)
    c_now = state_of(rows, state_step, c0, dtype)
    gates = aligned_zeros(rows * gates_step, dtype)
    h_history = h.reshape(-1)
    c_history = h_history if c is None else c.reshape(-1)

    def prepare(block):
        part = x[:, block.steps]
        if n_inside:
            block.view("x", block.n, rows, n_inputs)[:] = part.transpose(1, 0, 2)
        else:
            drive = block.view("drive", rows, block.n, n_all)
            np.matmul(part, weights[:, n_hidden:-1].T, out=drive)
            drive += weights[:, -1]

    def walk(block):
        n = block.n
        cells.forward_block(
            kind.number, rows, n, n_inside, n_hidden, kind.n_rows, recurrent, fourth,
            block.buffers["x"], bias if n_inside else block.buffers["drive"],
            0 if n_inside else n_all, 0 if n_inside else n * n_all, gates, gates_step,
            h_now, c_now, state_step, h_history, c_history,
            block.t * n_hidden, sizes.time * n_hidden,
        )  # fmt: skip

    lengths = {"x": n_inside, "drive": 0 if n_inside else n_all}
    blocks = blocks_of(kind, sizes, rows, dtype, lengths)
    prepare(blocks[0])
    for block, following in zip(blocks, [*blocks[1:], None], strict=True):
        ahead = helper.submit(prepare, following) if following else None
        walk(block)
        if ahead:
            ahead.result()


def backward_rows(
    kind, sizes, weights, x, h0, c0, h, c, dh, dh_last, dc_last, dx, dh0, dc0, helper
):  # fmt: skip
    """Fill ``dx``, ``dh0`` and ``dc0``; return the float64 gradient of the augmented weights."""
    rows, dtype = len(x), x.dtype
    n_hidden = sizes.hidden
    n_all, width = weights.shape
    n_recurrent = kind.n_recurrent
    recurrent = pack(weights[: n_recurrent * n_hidden, :n_hidden], n_recurrent, rows)

    state_step = padded(n_hidden, dtype)
    dh_now = state_of(rows, state_step, dh_last, dtype)
    dc_now = state_of(rows, state_step, dc_last, dtype)
    direct = aligned_zeros(rows * state_step, dtype)
    product = np.empty((n_all, width), dtype)
    total = np.zeros((n_all, width))

    def prepare(block):
        """Everything that goes into the gates, and the gates."""
        t, n, steps = block.t, block.n, block.steps
        before = block.view("before", rows, n, width)  # [h, x, 1]
        before[:, 0, :n_hidden] = h0 if t == 0 else h[:, t - 1]
        before[:, 1:, :n_hidden] = h[:, t : t + n - 1]
        before[:, :, n_hidden:-1] = x[:, steps]
        before[:, :, -1] = 1
        np.matmul(
            before.reshape(-1, width), weights.T, out=block.view("gates", rows * n, n_all)
        )  # fmt: skip
        if c is not None:
            c_block = block.view("c", rows, n + 1, n_hidden)
            c_block[:, 0] = c0 if t == 0 else c[:, t - 1]
            c_block[:, 1:] = c[:, steps]
        block.view("dh", rows, n, n_hidden)[:] = dh[:, steps]

    def walk(block):
        cells.backward_block(
            kind.number, rows, block.n, n_hidden, kind.n_rows, recurrent,
            block.buffers["gates"], block.buffers["before"], width, block.buffers["c"],
            block.buffers["dh"], dh_now, dc_now, direct, state_step,
        )  # fmt: skip

    def collect(block):
        """What the gradient of the gates says of the weights and the inputs."""
        gates = block.view("gates", rows, block.n, n_all)
        before = block.view("before", rows * block.n, width)
        np.matmul(gates.reshape(-1, n_all).T, before, out=product)
        np.add(total, product, out=total)
        if dx is not None:
            np.matmul(gates, weights[:, n_hidden:-1], out=dx[:, block.steps])

    def beside(behind, ahead):
        if behind:
            collect(behind)
        if ahead:
            prepare(ahead)

    n_c = n_hidden if c is not None else 0
    lengths = {"before": width, "gates": n_all, "c": n_c, "dh": n_hidden}
    blocks = blocks_of(kind, sizes, rows, dtype, lengths)[::-1]
    prepare(blocks[0])
    for behind, block, ahead in zip(
        [None, *blocks], blocks, [*blocks[1:], None], strict=False
    ):  # fmt: skip
        work = helper.submit(beside, behind, ahead)
        walk(block)
        work.result()
    collect(blocks[-1])
    dh0[:] = dh_now[: rows * state_step].reshape(rows, state_step)[:, :n_hidden]
    if dc0 is not None:
        dc0[:] = dc_now[: rows * state_step].reshape(rows, state_step)[:, :n_hidden]
    return total
