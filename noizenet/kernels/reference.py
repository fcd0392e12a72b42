"""The plain twins of the fast kernels: slow, short, and what the fast ones must equal.

Same arguments and results as ``recurrent.forward``, ``recurrent.step`` and
``recurrent.backward``, one step at a time in numpy. Gates come in torch's order: i, f, g, o of an
LSTM and r, z, n of a GRU.
"""

import numpy as np


def _sigmoid(x):
    return 0.5 + 0.5 * np.tanh(0.5 * x)


def step(cell, x, w_ih, w_hh, b_ih, b_hh, h, c=None):
    """One step: x (B, D) and the states (B, H) to the new states."""
    a, b = x @ w_ih.T + b_ih, h @ w_hh.T + b_hh
    if cell == "rnn":
        return np.tanh(a + b), None
    if cell == "lstm":
        i, f, g, o = np.split(a + b, 4, axis=1)
        c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
        return _sigmoid(o) * np.tanh(c), c
    if cell == "gru":
        (a_r, a_z, a_n), (b_r, b_z, b_n) = np.split(a, 3, axis=1), np.split(b, 3, axis=1)
        z = _sigmoid(a_z + b_z)
        n = np.tanh(a_n + _sigmoid(a_r + b_r) * b_n)
        return n + z * (h - n), None
    raise ValueError(f"unknown cell {cell!r}")


def forward(cell, x, w_ih, w_hh, b_ih, b_hh, h0, c0=None):
    """All states h, c (B, T, H) of x (B, T, D); ``c`` is None but for an LSTM."""
    h, c, all_h, all_c = h0, c0, [], []
    for t in range(x.shape[1]):
        h, c = step(cell, x[:, t], w_ih, w_hh, b_ih, b_hh, h, c)
        all_h.append(h)
        all_c.append(c)
    return np.stack(all_h, axis=1), np.stack(all_c, axis=1) if cell == "lstm" else None


def _gate_gradients(cell, a, b, h, c_before, c, dh, dc):
    """Gradients of the two parts a and b of the gates, and the direct ones of h and c before."""
    if cell == "rnn":
        d = dh * (1 - np.tanh(a + b) ** 2)
        return d, d, 0, None
    if cell == "lstm":
        i, f, g, o = np.split(a + b, 4, axis=1)
        i, f, g, o = _sigmoid(i), _sigmoid(f), np.tanh(g), _sigmoid(o)
        squashed = np.tanh(c)
        dc = dc + dh * o * (1 - squashed**2)
        d = np.concatenate(
            [
                dc * g * i * (1 - i),
                dc * c_before * f * (1 - f),
                dc * i * (1 - g**2),
                dh * squashed * o * (1 - o),
            ],
            axis=1,
        )
        return d, d, 0, dc * f
    (a_r, a_z, a_n), (b_r, b_z, b_n) = np.split(a, 3, axis=1), np.split(b, 3, axis=1)
    r, z = _sigmoid(a_r + b_r), _sigmoid(a_z + b_z)
    n = np.tanh(a_n + r * b_n)
    d_n = dh * (1 - z) * (1 - n**2)
    d_r, d_z = d_n * b_n * r * (1 - r), dh * (h - n) * z * (1 - z)
    return (
        np.concatenate([d_r, d_z, d_n], axis=1),
        np.concatenate([d_r, d_z, d_n * r], axis=1),
        dh * z,
        None,
    )


def backward(
    cell, x, w_ih, w_hh, b_ih, b_hh, h0, c0, h, c, dh, dh_last, dc_last, need_dx=True
):  # fmt: skip
    """dx, dw_ih, dw_hh, db_ih, db_hh, dh0, dc0 by backpropagation through time."""
    d_h, d_c = dh_last, dc_last
    dx = np.empty_like(x)
    sums = [np.zeros(w.shape) for w in (w_ih, w_hh, b_ih, b_hh)]
    for t in reversed(range(x.shape[1])):
        before = h[:, t - 1] if t else h0
        c_before = None if c is None else c[:, t - 1] if t else c0
        a, b = x[:, t] @ w_ih.T + b_ih, before @ w_hh.T + b_hh
        d_a, d_b, direct, d_c = _gate_gradients(
            cell, a, b, before, c_before, None if c is None else c[:, t], d_h + dh[:, t], d_c
        )
        dx[:, t] = d_a @ w_ih
        d_h = d_b @ w_hh + direct
        for total, term in zip(
            sums, (d_a.T @ x[:, t], d_b.T @ before, d_a.sum(0), d_b.sum(0)), strict=True
        ):
            total += term
    return dx if need_dx else None, *(total.astype(x.dtype) for total in sums), d_h, d_c
