"""The passes of a large layer, each step shared by the workers of a team.

Where :mod:`noizenet.kernels.passes` gives one thread the recurrence and another the products
beside it, here every worker has its own hidden units, and does with them all there is to do:
their products for a block of steps, their part of each step, their rows of the weight gradient.
The weights that a worker streams through at each step are a fraction of the layer's, of which a
good part stays in the cache of its core.

Workers meet once a step: forward when the new state is written, backward when the gradient of
the gates is. What others read is never written again before all have met at least once more.

Letters: R sequences, n steps of a block, D inputs, H hidden units, U those of a worker.
"""

import numpy as np
from numba import njit

from noizenet.kernels import cells
from noizenet.kernels.panels import aligned_zeros, multiply, pack, padded
from noizenet.kernels.passes import blocks_of, rows_of, state_of
from noizenet.kernels.team import Team, meet, own_units
from noizenet.kernels.vector import n_lanes


@njit(cache=True, nogil=True)
def forward_share(
    cell, rows, n_steps, first, n_own, n_hidden, n_gates, recurrent, drive,
    gates, gates_time, gates_step, before, h_own, c_own, state_step,
    h, c, start, row_step, arrivals, worker, n_workers,
):  # fmt: skip
    """A worker's part of ``n_steps`` steps.

    ``drive`` (R, n, n_gates U) is what its gates begin with; they are written to ``gates`` at
    ``t * gates_time + r * gates_step``. ``before`` (R, H) is the state before the first step,
    ``h_own`` and ``c_own`` (R, ``state_step``) its units' part of it, updated in place. The
    histories ``h`` and ``c`` are written at ``start + r * row_step + t * H``, and ``h`` is read as
    the others write it.
    """
    n_all = n_gates * n_own
    for t in range(n_steps):
        source, at, step = h, start + (t - 1) * n_hidden, row_step
        if t == 0:
            source, at, step = before, 0, n_hidden
        multiply(
            recurrent, rows, source, at, step, 0, drive, t * n_all, n_steps * n_all,
            gates, t * gates_time, gates_step, t % 2 == 1,
        )  # fmt: skip
        for r in range(rows):
            gates_at = t * gates_time + r * gates_step
            if cell == cells.GRU:
                inner = 3 * n_own
                drive_at = (r * n_steps + t) * n_all + inner
                cells.copy(drive, drive_at, gates, gates_at + inner, n_own)
            cells.record(
                cell, gates, gates_at, h_own, c_own, r * state_step,
                h, c, start + r * row_step + t * n_hidden + first, n_own,
            )  # fmt: skip
        meet(arrivals, worker, n_workers)


@njit(cache=True, nogil=True)
def backward_share(
    cell, rows, n_steps, first, n_own, recurrents, gates, gates_steps, h_before, h_step, c,
    dh_out, dh, dc, direct, state_step, arrivals, worker, n_workers,
):  # fmt: skip
    """Turn a worker's pre-activations of a block into their gradients.

    ``gates[v]`` (n, R, ``gates_steps[v]``) are those of worker v and ``recurrents[v]`` the weights
    from them to this worker's units. ``h_before`` (n, R, ``h_step``) holds the states before each
    step; ``c`` (R, n + 1, U), ``dh_out`` (R, n, U), ``dh``, ``dc`` and ``direct`` are as in
    :func:`noizenet.kernels.cells.backward_block`, of this worker's units.
    """
    for step in range(n_steps):
        t = n_steps - 1 - step
        for r in range(rows):
            past = r * n_steps + t
            cells.retreat(
                cell, gates[worker], (t * rows + r) * gates_steps[worker],
                h_before, (t * rows + r) * h_step + first, c, (past + r) * n_own,
                dh_out, past * n_own, dh, dc, direct, r * state_step, n_own,
            )  # fmt: skip
        meet(arrivals, worker, n_workers)
        source = direct
        for i in range(n_workers):
            v = n_workers - 1 - i if t % 2 == 1 else i
            step_of = gates_steps[v]
            multiply(
                recurrents[v], rows, gates[v], t * rows * step_of, step_of, 0,
                source, 0, state_step, dh, 0, state_step, t % 2 == 1,
            )  # fmt: skip
            source = dh


def _gates_step(kind, n_own, dtype):
    """From one sequence's gates to the next's; the GRU's k may begin anywhere."""
    return padded(kind.n_rows * n_own, dtype) + n_lanes(dtype)


def forward_team(kind, sizes, weights, x, h0, c0, h, c, team: Team, keep: bool):
    """Fill the contiguous states ``h`` and ``c`` (R, T, H) of the inputs ``x`` (R, T, D).

    Returns
    -------
    list of arrays
        With ``keep``, every worker's gates at all steps, which spares the backward pass from
        computing them anew; else None.
    """
    rows, dtype, n_hidden = len(x), x.dtype, sizes.hidden
    h_history = h.reshape(-1)
    c_history = h_history if c is None else c.reshape(-1)

    def work(worker):
        units = own_units(n_hidden, team.n_workers)[worker]
        own = weights[rows_of(kind, n_hidden, units)]
        n_own = units.stop - units.start
        n_all = kind.n_rows * n_own
        recurrent = pack(own[: kind.n_recurrent * n_own, :n_hidden].T, 1, rows)
        from_inputs, bias = own[:, n_hidden:-1].T.copy(), own[:, -1]
        state_step = padded(n_own, dtype)
        gates_step = _gates_step(kind, n_own, dtype)
        gates_time = rows * gates_step if keep else 0
        gates = aligned_zeros((sizes.time if keep else 1) * rows * gates_step, dtype)
        h_own = state_of(rows, state_step, h0[:, units], dtype)
        c_own = state_of(rows, state_step, None if c0 is None else c0[:, units], dtype)
        for block in blocks_of(kind, sizes, rows, dtype, {"drive": n_all}):
            if team.in_trouble:
                break
            drive = block.view("drive", rows, block.n, n_all)
            np.matmul(x[:, block.steps], from_inputs, out=drive)
            drive += bias
            before = np.ascontiguousarray(h0 if block.t == 0 else h[:, block.t - 1])
            forward_share(
                kind.number, rows, block.n, units.start, n_own, n_hidden, kind.n_rows, recurrent,
                block.buffers["drive"], gates[block.t * gates_time :], gates_time, gates_step,
                before.reshape(-1), h_own, c_own, state_step, h_history, c_history,
                block.t * n_hidden, sizes.time * n_hidden, team.arrivals, worker, team.n_workers,
            )  # fmt: skip
        return gates

    kept = team.run(work)
    return kept if keep else None


def backward_team(
    kind, sizes, weights, x, h0, c0, h, c, dh, dh_last, dc_last, dx, dh0, dc0, team: Team, kept
):  # fmt: skip
    """Fill ``dx``, ``dh0`` and ``dc0``; return the float64 gradient of the augmented weights.

    ``kept`` is what the forward pass returned, and is used up.
    """
    if kept is not None and len(kept) != team.n_workers:
        kept = None
    rows, dtype, n_hidden = len(x), x.dtype, sizes.hidden
    width = weights.shape[1]
    everyone = own_units(n_hidden, team.n_workers)
    of_rows = [rows_of(kind, n_hidden, units) for units in everyone]
    n_gates = [len(of_one) for of_one in of_rows]
    gates_steps = tuple(_gates_step(kind, u.stop - u.start, dtype) for u in everyone)
    # two blocks take turns: a worker may still read one while another begins the next
    rooms = [
        blocks_of(kind, sizes, rows, dtype, {"gates": 0 if kept else step})[::-1]
        for step in gates_steps
    ]
    total = np.zeros((len(weights), width))

    def gates_of(block, v):
        """Worker v's gates in a block, flat."""
        step = rows * gates_steps[v]
        first, room = (block.t * step, kept[v]) if kept else (0, block.buffers["gates"])
        return room[first : first + block.n * step]

    def work(worker):
        units = everyone[worker]
        n_own = units.stop - units.start
        own = weights[of_rows[worker]]
        recurrents = tuple(pack(weights[of_one][:, units], 1, rows) for of_one in of_rows)
        state_step = padded(n_own, dtype)
        dh_now = state_of(rows, state_step, dh_last[:, units], dtype)
        dc_now = state_of(rows, state_step, None if c is None else dc_last[:, units], dtype)
        direct = aligned_zeros(rows * state_step, dtype)
        product = np.empty((len(own), width), dtype)
        part = np.zeros((len(own), width))
        lengths = {"before": width, "c": 0 if c is None else n_own, "dh": n_own}
        own_blocks = blocks_of(kind, sizes, rows, dtype, lengths)[::-1]

        for block, *shared in zip(own_blocks, *rooms, strict=True):
            if team.in_trouble:
                return
            t, n, steps = block.t, block.n, block.steps
            before = block.view("before", n, rows, width)  # [h, x, 1]
            before[0, :, :n_hidden] = h0 if t == 0 else h[:, t - 1]
            before[1:, :, :n_hidden] = h[:, t : t + n - 1].swapaxes(0, 1)
            before[:, :, n_hidden:-1] = x[:, steps].swapaxes(0, 1)
            before[:, :, -1] = 1
            before = before.reshape(-1, width)
            flat = tuple(gates_of(room, v) for v, room in enumerate(shared))
            gates = [
                one.reshape(n * rows, step)[:, :count]
                for one, step, count in zip(flat, gates_steps, n_gates, strict=True)
            ]
            if not kept:
                np.matmul(before, own.T, out=gates[worker])
            if c is not None:
                c_block = block.view("c", rows, n + 1, n_own)
                c_block[:, 0] = (c0 if t == 0 else c[:, t - 1])[:, units]
                c_block[:, 1:] = c[:, steps, units]
            block.view("dh", rows, n, n_own)[:] = dh[:, steps, units]

            backward_share(
                kind.number, rows, n, units.start, n_own, recurrents, flat, gates_steps,
                block.buffers["before"], width, block.buffers["c"], block.buffers["dh"],
                dh_now, dc_now, direct, state_step, team.arrivals, worker, team.n_workers,
            )  # fmt: skip

            np.matmul(gates[worker].T, before, out=product)
            np.add(part, product, out=part)
            if dx is not None:
                mine = own_units(n, team.n_workers)[worker]
                those = slice(mine.start * rows, mine.stop * rows)
                d_inputs = sum(
                    one[those] @ weights[of_one, n_hidden:-1]
                    for one, of_one in zip(gates, of_rows, strict=True)
                )
                d_inputs = d_inputs.reshape(-1, rows, sizes.inputs).swapaxes(0, 1)
                dx[:, t + mine.start : t + mine.stop] = d_inputs
        total[of_rows[worker]] = part
        dh0[:, units] = dh_now[: rows * state_step].reshape(rows, state_step)[:, :n_own]
        if dc0 is not None:
            dc0[:, units] = dc_now[: rows * state_step].reshape(rows, state_step)[:, :n_own]

    team.run(work)
    return total
