"""The sequential loops of the recurrent cells: what cannot be a matrix product over all steps.

Letters: R sequences side by side (at most ``panels.MAX_ROWS``), n steps, D inputs, H hidden units.
A cell has ``n_gates`` rows of H pre-activations, of which the first ``n_recurrent`` are reached by
the recurrent weights:

    RNN   h = tanh(a)
    LSTM  i, f, g, o;   c = s(f) c + s(i) tanh(g),   h = s(o) tanh(c)
    GRU   r, z, m, k;   n = tanh(k + s(r) m),        h = n + s(z) (h - n)

with s the logistic function. The GRU's ``m`` holds the recurrent part of torch's third gate and
``k`` its input part, so that every cell is ``gates = [h, x, 1] A`` with one matrix A.

Every buffer has room for a vector beyond its end: loops over hidden units go in whole vectors and
the lanes beyond H hold numbers that nothing reads.
"""

from numba import njit

from noizenet.kernels.math import sigmoid, tanh
from noizenet.kernels.panels import multiply
from noizenet.kernels.vector import fma, lanes_of, like, load, store, store_first

RNN, LSTM, GRU = 0, 1, 2


@njit
def copy(source, source_at, target, target_at, n):
    """Copy exactly ``n`` numbers: the last vector overlaps the one before."""
    lanes = lanes_of(source)
    if n < lanes:
        for j in range(n):
            target[target_at + j] = source[source_at + j]
        return
    last = n - lanes
    for j in range(0, last, lanes):
        store(target, target_at + j, load(source, source_at + j))
    store(target, target_at + last, load(source, source_at + last))


@njit
def add_scaled(factor, source, source_at, target, target_at, n):
    """Add ``factor`` times the source to the target; whole vectors of the target are written."""
    lanes = lanes_of(source)
    for j in range(0, n, lanes):
        total = load(target, target_at + j)
        factors = like(total, factor)
        store(target, target_at + j, fma(factors, load(source, source_at + j), total))


@njit
def advance(cell, gates, at, h, c, state_at, n_hidden):
    """The new state of one sequence from its pre-activations, in place."""
    record(cell, gates, at, h, c, state_at, h, c, state_at, n_hidden)


@njit
def record(cell, gates, at, h, c, state_at, h_out, c_out, out_at, n_hidden):
    """The new state of one sequence from its pre-activations, in place and to its history."""
    for j in range(0, n_hidden, lanes_of(gates)):
        left = n_hidden - j
        first = load(gates, at + j)
        if cell == RNN:
            new = tanh(first)
        else:
            second = sigmoid(load(gates, at + n_hidden + j))
            third = load(gates, at + 2 * n_hidden + j)
            fourth = load(gates, at + 3 * n_hidden + j)
            if cell == LSTM:
                inner = fma(second, load(c, state_at + j), sigmoid(first) * tanh(third))
                store(c, state_at + j, inner)
                store_first(c_out, out_at + j, inner, left)
                new = sigmoid(fourth) * tanh(inner)
            else:
                candidate = tanh(fma(sigmoid(first), third, fourth))
                new = fma(second, load(h, state_at + j) - candidate, candidate)
        store(h, state_at + j, new)
        store_first(h_out, out_at + j, new, left)


@njit(cache=True, nogil=True)
def forward_block(
    cell, rows, n_steps, n_inputs, n_hidden, n_gates, recurrent, fourth,
    x, drive, drive_time, drive_row, gates, gates_step, h, c, state_step,
    h_out, c_out, out_start, out_row,
):  # fmt: skip
    """Run ``rows`` sequences through ``n_steps`` steps.

    ``h`` (R, ``state_step``) is the state h followed by the input x, ``recurrent`` the weights of
    both, ``x`` (n, R, D), and ``fourth`` (D, H) what the input adds to the GRU's k; or D is 0
    and the input's part is in ``drive``. Sequence r at step t starts its gates from ``drive`` at
    ``t * drive_time + r * drive_row``. ``h`` and ``c`` are updated in place; their history goes
    to ``h_out`` and ``c_out`` at ``out_start + r * out_row + t * H``; ``gates`` is room to work
    in.
    """
    for t in range(n_steps):
        for r in range(rows):
            for i in range(n_inputs):
                h[r * state_step + n_hidden + i] = x[(t * rows + r) * n_inputs + i]
        multiply(
            recurrent, rows, h, 0, state_step, 0,
            drive, t * drive_time, drive_row, gates, 0, gates_step, t % 2 == 1,
        )  # fmt: skip
        for r in range(rows):
            if cell == GRU:
                inner = r * gates_step + 3 * n_hidden
                source = t * drive_time + r * drive_row + 3 * n_hidden
                copy(drive, source, gates, inner, n_hidden)
                for i in range(n_inputs):
                    value = h[r * state_step + n_hidden + i]
                    add_scaled(value, fourth, i * n_hidden, gates, inner, n_hidden)
            record(
                cell, gates, r * gates_step, h, c, r * state_step,
                h_out, c_out, out_start + r * out_row + t * n_hidden, n_hidden,
            )  # fmt: skip


@njit
def retreat(
    cell, gates, gates_at, h_before, h_at, c, c_at, dh_out, dh_at,
    dh, dc, direct, state_at, n_hidden,
):  # fmt: skip
    """Turn one sequence's pre-activations at one step into their gradient, in place.

    ``dh`` and ``dc`` are the gradient of the state after the step from all later steps; ``dc``
    becomes that of the state before it, ``direct`` what of ``dh`` does not pass the gates.
    ``c`` holds the cell state before the step at ``c_at`` and the one after it H further.
    """
    for j in range(0, n_hidden, lanes_of(gates)):
        at = state_at + j
        to = gates_at + j
        left = n_hidden - j
        d = load(dh, at) + load(dh_out, dh_at + j)
        first = load(gates, to)
        one = like(first, 1.0)
        if cell == RNN:
            new = tanh(first)
            store_first(gates, to, d * (one - new * new), left)
            continue
        first = sigmoid(first)
        second = sigmoid(load(gates, to + n_hidden))
        third = load(gates, to + 2 * n_hidden)
        fourth = load(gates, to + 3 * n_hidden)
        if cell == LSTM:
            third = tanh(third)
            fourth = sigmoid(fourth)
            squashed = tanh(load(c, c_at + n_hidden + j))
            d_inner = fma(d * fourth, one - squashed * squashed, load(dc, at))
            d_first = d_inner * third * first * (one - first)
            d_second = d_inner * load(c, c_at + j) * second * (one - second)
            d_third = d_inner * first * (one - third * third)
            d_fourth = d * squashed * fourth * (one - fourth)
            store(dc, at, d_inner * second)
        else:
            candidate = tanh(fma(first, third, fourth))
            d_fourth = d * (one - second) * (one - candidate * candidate)
            d_first = d_fourth * third * first * (one - first)
            d_second = d * (load(h_before, h_at + j) - candidate) * second * (one - second)
            d_third = d_fourth * first
            store(direct, at, d * second)
        store_first(gates, to, d_first, left)
        store_first(gates, to + n_hidden, d_second, left)
        store_first(gates, to + 2 * n_hidden, d_third, left)
        store_first(gates, to + 3 * n_hidden, d_fourth, left)


@njit(cache=True, nogil=True)
def backward_block(
    cell, rows, n_steps, n_hidden, n_gates, recurrent,
    gates, h_before, h_step, c, dh_out, dh, dc, direct, state_step,
):  # fmt: skip
    """Turn the pre-activations of a block, ``gates`` (R, n, n_gates H), into their gradients.

    ``h_before`` holds the states before each step at ``(r n + t) h_step``, ``c`` (R, n + 1, H)
    the cell states from before the first step on, ``dh_out`` (R, n, H) the gradient of the
    outputs. ``dh`` and ``dc`` (R, ``state_step``) are the gradient of the state after the block
    and become that of the state before it.
    """
    n_all = n_gates * n_hidden
    for step in range(n_steps):
        t = n_steps - 1 - step
        for r in range(rows):
            at = r * n_steps + t
            retreat(
                cell, gates, at * n_all, h_before, at * h_step, c, (at + r) * n_hidden,
                dh_out, at * n_hidden, dh, dc, direct, r * state_step, n_hidden,
            )  # fmt: skip
        multiply(
            recurrent, rows, gates, t * n_all, n_steps * n_all, n_hidden,
            direct, 0, state_step, dh, 0, state_step, t % 2 == 1,
        )  # fmt: skip
