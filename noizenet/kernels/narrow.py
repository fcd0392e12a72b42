"""A matrix in 8-bit integers, for playing models whose weights do not fit the caches.

Every output has a scale of its own, so that its largest weight is 127. The inputs it multiplies
must lie in [-1, 1], as states h do; they become 16-bit integers, so that nearly all of the error is
the weights' (at most 1/254 of the largest weight of an output, each). Products and sums are exact
integers, in 32 bits by construction.
"""

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from noizenet.kernels.panels import Panels, aligned_zeros, pack, padded
from noizenet.kernels.vector import (
    MAX_ROWS,
    WIDEST,
    element_pointer,
    load_at,
    loop,
    n_lanes,
    splat,
    store_at,
    widest,
)

LARGEST_WEIGHT = 127
LARGEST_INPUT = 2**15 - 1
LARGEST_SUM = 2**31 - 1
LANES = n_lanes(np.float32)
_BYTE, _WORD, _SUM = (ir.IntType(bits) for bits in (8, 16, 32))


def quantise(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Integers (inputs, outputs) within ±127 and the float32 scale of each output."""
    largest = np.abs(matrix).max(0, initial=0)
    scales = np.where(largest > 0, largest / LARGEST_WEIGHT, 1).astype(np.float32)
    return np.rint(matrix / scales).astype(np.int8), scales


def input_unit(n_inputs: int) -> int:
    """The integer that stands for an input of 1: as large as lets every sum fit 32 bits."""
    return min(LARGEST_INPUT, LARGEST_SUM // (LARGEST_WEIGHT * max(1, n_inputs)))


def pack_narrow(matrix: np.ndarray, n_rows: int) -> tuple[Panels, np.ndarray]:
    """Pack ``matrix`` (inputs, outputs) for products with ``n_rows`` vectors at a time.

    Returns
    -------
    panels
        Of int8, with pairs of inputs in place of inputs: for every two inputs a panel holds the
        weights of its first output from both, of the second from both, …
    units : (whole vectors of outputs,) float32
        What a sum of 1 stands for.
    """
    integers, scales = quantise(matrix)
    n_inputs, n_outputs = matrix.shape
    n_pairs = -(-n_inputs // 2)
    whole = np.zeros((2 * n_pairs, n_outputs), np.int8)
    whole[:n_inputs] = integers
    pairs = np.ascontiguousarray(whole.reshape(n_pairs, 2, n_outputs).swapaxes(1, 2))
    # packed as one number each, in a dtype of which a vector has as many as of float32
    panels = pack(pairs.view(np.int16)[..., 0].astype(np.int32), 1, n_rows)
    data = aligned_zeros(2 * panels.data.size, np.int8)
    data[: 2 * panels.data.size] = panels.data.astype(np.int16).view(np.int8)
    units = np.zeros(padded(n_outputs, np.float32), np.float32)
    units[:n_outputs] = scales / input_unit(n_inputs)
    return panels._replace(data=data), units


@njit
def round_inputs(x, at, n_inputs, rounded, to):
    """Write inputs in [-1, 1] as integers, an even number of them."""
    unit = np.float32(min(LARGEST_INPUT, LARGEST_SUM // (LARGEST_WEIGHT * n_inputs)))
    for k in range(n_inputs):
        value = x[at + k] * unit
        # what is not finite shows where the network is read; here it must only not be converted
        value = min(max(value, -unit), unit) if value == value else np.float32(0)
        rounded[to + k] = np.int16(np.floor(value + np.float32(0.5)))
    if n_inputs % 2 == 1:
        rounded[to + n_inputs] = 0


@intrinsic
def add_narrow(
    typing_context, width, n_rows, weights, w_offset, x, x_stride,
    units, units_offset, y, y_offset, y_stride, n_pairs,
):  # fmt: skip
    """y[r] += units * (x[r] @ panel), as :func:`noizenet.kernels.vector.accumulate`."""
    intp = types.intp
    sig = types.void(
        intp, intp, weights, intp, x, intp, units, intp, y, intp, intp, intp
    )  # fmt: skip

    def codegen(context, builder, sig, args):
        index = args[0].type
        zero = ir.Constant(index, 0)
        panel, x_first, unit, y_first = (
            element_pointer(context, builder, sig.args[i], args[i], at)
            for i, at in ((2, args[3]), (4, zero), (6, args[7]), (8, args[9]))
        )

        def rows_of(first, stride, rows):
            steps = [builder.mul(stride, ir.Constant(index, r)) for r in range(rows)]
            return [builder.gep(first, [step]) for step in steps]

        code = builder.add(builder.mul(args[1], ir.Constant(index, WIDEST + 1)), args[0])
        done = builder.append_basic_block("narrow_done")
        switch = builder.switch(code, done)
        for rows in range(1, MAX_ROWS + 1):
            for n_vectors in range(1, widest(rows) + 1):
                block = builder.append_basic_block(f"narrow_{n_vectors}x{rows}")
                switch.add_case(ir.Constant(index, rows * (WIDEST + 1) + n_vectors), block)
                builder.position_at_end(block)
                xs, ys = rows_of(x_first, args[5], rows), rows_of(y_first, args[10], rows)
                _panel_loop(builder, n_vectors, panel, args[11], xs, unit, ys)
                builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return sig, codegen


def _panel_loop(builder, n_vectors, panel, n_pairs, xs, units, ys):
    """The loop of ``add_narrow`` for one width and number of rows."""
    index = n_pairs.type
    sums = ir.VectorType(_SUM, LANES)
    weights = ir.VectorType(_BYTE, 2 * LANES)
    words = ir.VectorType(_WORD, 2 * LANES)
    numbers = ir.VectorType(ir.FloatType(), LANES)
    every = [(r, v) for r in range(len(xs)) for v in range(n_vectors)]
    pairs = [builder.bitcast(x, _SUM.as_pointer()) for x in xs]

    def at(pointer, n):
        return builder.gep(pointer, [ir.Constant(index, n)])

    def add_pair(k, totals):
        row = builder.gep(panel, [builder.mul(k, ir.Constant(index, n_vectors * 2 * LANES))])
        inputs = [
            builder.bitcast(splat(builder, builder.load(builder.gep(pair, [k])), LANES), words)
            for pair in pairs
        ]
        wide = [
            builder.sext(load_at(builder, at(row, v * 2 * LANES), weights), words)
            for v in range(n_vectors)
        ]
        new = [
            _add_products(builder, total, wide[v], inputs[r])
            for total, (r, v) in zip(totals, every, strict=True)
        ]
        return builder.add(k, ir.Constant(index, 1)), new

    zeros = [ir.Constant(sums, [0] * LANES)] * len(every)
    _, totals = loop(builder, ir.Constant(index, 0), n_pairs, zeros, add_pair)
    for total, (r, v) in zip(totals, every, strict=True):
        target = at(ys[r], v * LANES)
        unit = load_at(builder, at(units, v * LANES), numbers)
        value = builder.fmul(builder.sitofp(total, numbers), unit)
        store_at(builder, builder.fadd(load_at(builder, target, numbers), value), target)


def _add_products(builder, total, a, b):
    """total[i] + a[2i] b[2i] + a[2i+1] b[2i+1] of 16-bit integers.

    Written out, which any processor can do. LLVM knows it by sight where there is an instruction
    for it (x86: vpmaddwd, or vpdpwssd for all of it).
    """
    n = a.type.count
    wide = ir.VectorType(_SUM, n)
    product = builder.mul(builder.sext(a, wide), builder.sext(b, wide))
    for first in (0, 1):
        lanes = ir.Constant(ir.VectorType(_SUM, n // 2), list(range(first, n, 2)))
        total = builder.add(total, builder.shuffle_vector(product, product, lanes))
    return total
