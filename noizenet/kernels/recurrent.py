"""Exact forward and backward passes of recurrent layers over very long sequences.

Only the recurrence itself is a loop (``cells.py``). Time is walked in blocks; what a block needs
beside the recurrence is matrix products over all its steps at once. The forward pass keeps the
states h (and c) and nothing else. The backward pass knows every state already, so it computes
the gates of a block anew in one product, without a recurrence, walks back through the block, and
adds the block's weight gradients to float64 sums, again in one product.

Arrays and gate order are torch's own: ``x`` (B, T, D), states (B, H), ``w_ih`` (n H, D), ``w_hh``
(n H, H), biases (n H,), with the gates i, f, g, o of an LSTM and r, z, n of a GRU. Sequences
of a batch share the reading of the weights. Threads share the sequences of a batch, or, in layers
too large for a core's cache, the hidden units (``shared.py``); a result depends on their number by
rounding only.
"""

import numpy as np

from noizenet.errors import ParameterError
from noizenet.kernels import cells
from noizenet.kernels.passes import Cell, Sizes, backward_rows, forward_rows
from noizenet.kernels.shared import backward_team, forward_team
from noizenet.kernels.threads import OnTheSpot, share, slices, team_for, together

CELLS = {
    "rnn": Cell(cells.RNN, 1, 1, 1),
    "lstm": Cell(cells.LSTM, 4, 4, 4),
    "gru": Cell(cells.GRU, 3, 4, 3),
}


def forward(cell, x, w_ih, w_hh, b_ih, b_hh, h0, c0=None, *, n_threads=None, kept=None):
    """Run a recurrent layer over whole sequences.

    Parameters
    ----------
    cell : {"rnn", "lstm", "gru"}
    x : (B, T, D) float32 or float64, like everything below
    w_ih, w_hh, b_ih, b_hh : (n H, D), (n H, H), (n H,), (n H,), torch's parameters
    h0, c0 : (B, H) the state before the first step; ``c0`` of an LSTM only
    n_threads : how many threads share the sequences of a batch, the units of a large layer, or
        the sequential and the parallel work of a single sequence; default: numba's setting
    kept : dict, optional
        Receives, where that is faster than computing them anew, the gates for :func:`backward`.

    Returns
    -------
    h, c : (B, T, H) the state after every step; ``c`` is None but for an LSTM

    Raises
    ------
    ParameterError
        Unknown cell.
    ValueError
        Shapes or dtypes that do not fit together.

    A state that is not finite stays so: look at ``h[:, -1]``.
    """
    kind, sizes = _check(cell, x, w_ih, w_hh, b_ih, b_hh, h0, c0)
    weights = augmented(kind, sizes, w_ih, w_hh, b_ih, b_hh)
    h = np.empty((sizes.batch, sizes.time, sizes.hidden), x.dtype)
    c = np.empty_like(h) if kind.number == cells.LSTM else None

    team = team_for(w_hh.nbytes, n_threads, alone=True)

    def run(part, helper=None):
        arguments = (
            kind, sizes, weights, x[part], h0[part], _part(c0, part), h[part], _part(c, part)
        )  # fmt: skip
        if team is None:
            forward_rows(*arguments, helper)
        elif kept is None:
            forward_team(*arguments, team, keep=False)
        else:
            kept[part.start] = forward_team(*arguments, team, keep=True)

    if team is None:
        share(run, sizes.batch, n_threads)
    else:
        together(run, sizes.batch)
    return h, c


def step(cell, x, w_ih, w_hh, b_ih, b_hh, h, c=None):
    """One step, (B, D) to the new states (B, H), for playing; see :func:`forward`."""
    kind, sizes = _check(cell, x[:, None], w_ih, w_hh, b_ih, b_hh, h, c)
    weights = augmented(kind, sizes, w_ih, w_hh, b_ih, b_hh)
    new_h = np.empty((sizes.batch, 1, sizes.hidden), x.dtype)
    new_c = np.empty_like(new_h) if kind.number == cells.LSTM else None
    for part in slices(sizes.batch, 1):
        forward_rows(
            kind, sizes, weights, x[part, None], h[part], _part(c, part), new_h[part],
            _part(new_c, part), OnTheSpot(),
        )  # fmt: skip
    return new_h[:, 0], None if new_c is None else new_c[:, 0]


def backward(
    cell, x, w_ih, w_hh, b_ih, b_hh, h0, c0, h, c, dh, dh_last, dc_last, need_dx=True,
    *, n_threads=None, kept=None,
):  # fmt: skip
    """The exact gradient of whole sequences (backpropagation through all of time).

    Parameters
    ----------
    cell … c0 : what :func:`forward` was given
    h, c : (B, T, H) what it returned
    dh : (B, T, H) gradient of the outputs ``h``
    dh_last, dc_last : (B, H) gradient of the state after the last step beside ``dh``
    need_dx : whether the gradient of the input is wanted
    n_threads, kept : as of :func:`forward`; what was kept is used up

    Returns
    -------
    dx, dw_ih, dw_hh, db_ih, db_hh, dh0, dc0
        Shaped like what they are the gradients of; ``dx`` is None unless wanted, ``dc0`` None
        but for an LSTM. Weight gradients are summed over blocks in float64.
    """
    kind, sizes = _check(cell, x, w_ih, w_hh, b_ih, b_hh, h0, c0)
    states = {"h": h, "dh": dh} | ({"c": c} if kind.number == cells.LSTM else {})
    for name, array in states.items():
        _expect(name, array, (sizes.batch, sizes.time, sizes.hidden), x.dtype)
    last = {"dh_last": dh_last} | ({"dc_last": dc_last} if kind.number == cells.LSTM else {})
    for name, array in last.items():
        _expect(name, array, (sizes.batch, sizes.hidden), x.dtype)
    weights = augmented(kind, sizes, w_ih, w_hh, b_ih, b_hh)
    dx = np.empty(x.shape, x.dtype) if need_dx else None
    dh0 = np.empty((sizes.batch, sizes.hidden), x.dtype)
    dc0 = np.empty_like(dh0) if kind.number == cells.LSTM else None

    team = team_for(w_hh.nbytes, n_threads, alone=True)

    def run(part, helper=None):
        arguments = (
            kind, sizes, weights, x[part], h0[part], _part(c0, part), h[part], _part(c, part),
            dh[part], dh_last[part], _part(dc_last, part), _part(dx, part), dh0[part],
            _part(dc0, part),
        )  # fmt: skip
        if team is None:
            return backward_rows(*arguments, helper)
        gates = kept.pop(part.start, None) if kept else None
        return backward_team(*arguments, team, gates)

    if team is None:
        total = sum(share(run, sizes.batch, n_threads))
    else:
        total = sum(together(run, sizes.batch))
    return dx, *_torch_gradients(kind, sizes, total, x.dtype), dh0, dc0


# ---- checks and weights ----


def _check(cell, x, w_ih, w_hh, b_ih, b_hh, h0, c0):
    """The kind of cell and the sizes, once everything is known to fit."""
    if cell not in CELLS:
        raise ParameterError(f"cell {cell!r} is unknown; choose one of {', '.join(CELLS)}")
    kind = CELLS[cell]
    if x.ndim != 3 or x.dtype not in (np.float32, np.float64):
        raise ValueError(f"x must be (B, T, D) float32 or float64, not {x.dtype} {x.shape}")
    sizes = Sizes(*x.shape, hidden=w_hh.shape[-1])
    if min(sizes) < 1:
        raise ValueError(f"every size must be at least 1, not {sizes}")
    gates = kind.n_gates * sizes.hidden
    state = (sizes.batch, sizes.hidden)
    _expect("w_ih", w_ih, (gates, sizes.inputs), x.dtype)
    _expect("w_hh", w_hh, (gates, sizes.hidden), x.dtype)
    _expect("b_ih", b_ih, (gates,), x.dtype)
    _expect("b_hh", b_hh, (gates,), x.dtype)
    _expect("h0", h0, state, x.dtype)
    if kind.number == cells.LSTM:
        _expect("c0", c0, state, x.dtype)
    return kind, sizes


def _expect(name, array, shape, dtype):
    if array is None or array.shape != shape or array.dtype != dtype:
        got = "nothing" if array is None else f"{array.dtype} {array.shape}"
        raise ValueError(f"{name} must be {dtype} {shape}, not {got}")


def augmented(kind, sizes, w_ih, w_hh, b_ih, b_hh):
    """The matrix A of ``gates = [h, x, 1] A'``: (n_rows H, H + D + 1)."""
    n_hidden = sizes.hidden
    a = np.zeros((kind.n_rows * n_hidden, n_hidden + sizes.inputs + 1), w_ih.dtype)
    torch_rows = kind.n_gates * n_hidden
    a[:torch_rows, :n_hidden] = w_hh
    a[:torch_rows, n_hidden:-1] = w_ih
    a[:torch_rows, -1] = b_ih + b_hh
    if kind.number == cells.GRU:
        m, k = slice(2 * n_hidden, 3 * n_hidden), slice(3 * n_hidden, None)
        a[m, n_hidden:-1] = 0
        a[m, -1] = b_hh[m]
        a[k, n_hidden:-1] = w_ih[m]
        a[k, -1] = b_ih[m]
    return a


def _torch_gradients(kind, sizes, total, dtype):
    """dw_ih, dw_hh, db_ih, db_hh from the gradient of the augmented matrix."""
    n_hidden = sizes.hidden
    for_input = for_hidden = slice(0, kind.n_gates * n_hidden)
    if kind.number == cells.GRU:
        for_input = np.r_[0 : 2 * n_hidden, 3 * n_hidden : 4 * n_hidden]
    total = total.astype(dtype)
    return (
        np.ascontiguousarray(total[for_input, n_hidden:-1]),
        np.ascontiguousarray(total[for_hidden, :n_hidden]),
        total[for_input, -1].copy(),
        total[for_hidden, -1].copy(),
    )


def _part(array, part):
    return None if array is None else array[part]
