"""The plain twins of the fast kernels: slow, short, and what the fast ones must equal.

Same arguments and results as ``recurrent.forward``, ``recurrent.step``, ``recurrent.backward``,
``prediction.predict_blocks`` and ``levinson.levinson``, and :func:`play` as a ``play.Player``; one
step at a time in numpy. Gates come in torch's order: i, f, g, o of an LSTM and r, z, n of a GRU.
"""

import numpy as np

from noizenet.kernels import draws


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


def predict_blocks(coefficients, heard, hop, first=0):
    """Linear predictions (B, T) of the sample after each one read, block by block."""
    n_blocks, n_past = coefficients.shape[1:]
    columns = []
    for t in range(heard.shape[1] - n_past):
        block = min((first + t) // hop, n_blocks - 1)
        columns.append((heard[:, t + 1 : t + 1 + n_past] * coefficients[:, block]).sum(1))
    return np.stack(columns, 1) if columns else heard[:, :0]


def levinson(autocorrelation, noise_share=1e-9, bandwidth=0.9999):
    """Stable linear predictions, oldest sample's coefficient first, and their errors."""
    coefficients, errors = [], []
    for lags in np.array(autocorrelation, np.float64):
        order = len(lags) - 1
        if not (np.isfinite(lags).all() and lags[0] > 0):
            lags[:] = 0
        noise = noise_share * lags[0] + 1e-10
        lags[0] += noise
        a, error = np.zeros(order + 1), lags[0]  # a[j] of lag j
        for m in range(1, order + 1):
            k = (lags[m] - a[1:m] @ lags[1:m][::-1]) / error
            if not (1 - k * k) * error >= noise / 2:
                break
            a[1:m] -= k * a[1:m][::-1]
            a[m] = k
            error *= 1 - k * k
        coefficients.append((a * bandwidth ** np.arange(order + 1))[:0:-1])
        errors.append(error)
    return np.array(coefficients, np.float32), np.array(errors)


def _draw(network, outputs, uniforms, temperature):
    """A number (R,) on the head's axis, or a code, from what the head says (R, n_outputs)."""
    choice, noise = uniforms[:, 0], np.log(uniforms[:, -1]) - np.log1p(-uniforms[:, -1])
    if network.head_kind == draws.VALUE:
        return outputs[:, 0] + temperature * network.scale * noise
    codes = network.head_kind == draws.CODES
    log_weights = outputs if codes else np.split(outputs, 3, axis=1)[0]
    chosen = log_weights.argmax(1)
    if temperature > 0:
        weights = np.exp((log_weights - log_weights.max(1, keepdims=True)) / temperature)
        below = weights.cumsum(1) < choice[:, None] * weights.sum(1, keepdims=True)
        chosen = below.sum(1).clip(max=log_weights.shape[1] - 1)
    if codes:
        return chosen
    rows = np.arange(len(chosen))
    mean, raw = (part[rows, chosen] for part in np.split(outputs, 3, axis=1)[1:])
    return mean + temperature * (network.scale_floor + np.exp(raw)) * noise


def play(network, guide, outputs, base, past, states, uniforms, temperature):
    """What a ``play.Player`` of these plays with ``uniforms`` (R, n, U): (R, n), float64."""
    prediction, unit, scale, conditions = (np.asarray(part, np.float64) for part in guide[:4])
    n_blocks, n_past = prediction.shape[1:]
    heard, states, played = np.array(past, np.float64), [list(state) for state in states], []
    followed, resting = prediction[:, 0], np.zeros(len(heard), int)
    for t in range(uniforms.shape[1]):
        now, upcoming = (min(step // guide.hop, n_blocks - 1) for step in (t, t + 1))
        if n_past and now != upcoming:
            own = np.sqrt(np.square(heard).mean(1))
            loud = np.maximum(own / (network.overshoot * scale[:, upcoming]), 1)
            lags = np.arange(n_past, 0, -1)
            followed = prediction[:, upcoming] * loud[:, None] ** (-lags / guide.hop)
        number = _draw(network, outputs, uniforms[:, t].astype(np.float64), temperature)
        if network.embedding is not None:
            x = network.embedding[number]
        else:
            if n_past:
                residual = np.clip(number, -network.reach, network.reach)
                number = base + unit[:, now] * residual
            number = np.clip(number, network.lowest, network.highest)
            x = number[:, None]
        if n_past:
            heard = np.concatenate((heard, number[:, None]), 1)[:, 1:]
            following = (heard * followed).sum(1)
            wild = np.abs(following) > network.believable * scale[:, upcoming]
            resting = np.where((resting == 0) & wild, n_past + 1, resting)
            following[resting > 0] = 0
            resting = np.maximum(resting - 1, 0)
            limit = network.feature_limit
            features = (
                np.clip(number / scale[:, upcoming], -limit, limit),
                np.clip(following / scale[:, upcoming], -limit, limit),
                np.clip(
                    (number - base) / unit[:, upcoming], -network.error_limit, network.error_limit
                ),
            )
            x, base = np.stack(features, 1), following
        held = np.broadcast_to(conditions[:, upcoming], (len(x), conditions.shape[2]))
        x = np.concatenate((x, held), 1)
        for layer, state in zip(network.layers, states, strict=True):
            after = step(network.cell, x, *layer, *state)
            state[:] = after[: len(state)]
            x = state[0]
        outputs = x @ network.head_weight.T + network.head_bias
        played.append(number)
    return np.stack(played, 1)
