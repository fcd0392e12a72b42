"""SIMD vectors for numba: what the fast loops are written with.

Numba leaves vectorisation to LLVM, which does well on plain loops and badly on the one loop that
matters here: a small matrix times a vector, hundreds of thousands of times, each product needing
the one before. So the kernels name their vectors. A :class:`VectorType` value is 32 bytes (8
float32 or 4 float64) and lives in a register; LLVM maps it to whatever the processor has.

``accumulate`` is that loop for one *panel* of a matrix; ``panels.py`` cuts matrices into panels.
"""

import operator

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

VECTOR_BYTES = 32
MIN_SUMS = 8  # independent sums that hide the 4 cycles of a fused multiply-add, two at a time
MAX_ROWS = 6  # rows that one pass over the weights multiplies
WIDEST = 12  # vectors of a panel that multiplies one row
MAX_SUMS = 24  # that stay in registers beside the weights and inputs


def n_lanes(dtype) -> int:
    """How many numbers of a dtype one vector holds."""
    return VECTOR_BYTES // np.dtype(dtype).itemsize


def widest(n_rows: int) -> int:
    """How many vectors wide a panel may be when it multiplies ``n_rows`` rows."""
    return min(WIDEST, MAX_SUMS // n_rows)


class VectorType(types.Type):
    """The numba type of a register of ``lanes`` numbers."""

    def __init__(self, dtype):
        self.dtype = dtype
        self.lanes = VECTOR_BYTES * 8 // dtype.bitwidth
        super().__init__(name=f"Vector({self.lanes} x {dtype})")


@register_model(VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        scalar = dmm.lookup(fe_type.dtype).get_value_type()
        super().__init__(dmm, fe_type, ir.VectorType(scalar, fe_type.lanes))


# ---- building blocks in LLVM's terms ----


def splat(builder, scalar, lanes):
    vector = ir.Constant(ir.VectorType(scalar.type, lanes), ir.Undefined)
    vector = builder.insert_element(vector, scalar, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
    return builder.shuffle_vector(vector, vector, zeros)


def _suffix(register):
    """How LLVM's intrinsics spell a vector type."""
    return f"v{register.count}f{32 if isinstance(register.element, ir.FloatType) else 64}"


def _declare(builder, name, result, arguments):
    function = builder.module.globals.get(name)
    if function is None:
        function = ir.Function(builder.module, ir.FunctionType(result, arguments), name)
    return function


def _fma(builder, a, b, c):
    """a b + c, fused where the processor can."""
    function = _declare(builder, f"llvm.fmuladd.{_suffix(a.type)}", a.type, [a.type] * 3)
    return builder.call(function, [a, b, c])


def element_pointer(context, builder, array_type, array, index):
    data = context.make_array(array_type)(context, builder, value=array).data
    return builder.gep(data, [index])


def _itemsize(element):
    if isinstance(element, ir.IntType):
        return element.width // 8
    return 4 if isinstance(element, ir.FloatType) else 8


def load_at(builder, pointer, vector_type):
    pointer = builder.bitcast(pointer, vector_type.as_pointer())
    itemsize = _itemsize(vector_type.element)
    return builder.load(pointer, align=itemsize)


def store_at(builder, value, pointer):
    pointer = builder.bitcast(pointer, value.type.as_pointer())
    itemsize = _itemsize(value.type.element)
    builder.store(value, pointer, align=itemsize)


# ---- what kernels call ----


@intrinsic
def lanes_of(typing_context, array):
    """How many of the array's numbers a vector holds, as a constant that loops are built on."""
    lanes = VectorType(array.dtype).lanes

    def codegen(context, builder, sig, args):
        return context.get_constant(types.intp, lanes)

    return types.intp(array), codegen


@intrinsic
def load(typing_context, array, index):
    """The vector that starts at ``array[index]`` of a contiguous one-dimensional array."""
    vector = VectorType(array.dtype)

    def codegen(context, builder, sig, args):
        pointer = element_pointer(context, builder, sig.args[0], *args)
        return load_at(builder, pointer, context.get_value_type(vector))

    return vector(array, types.intp), codegen


@intrinsic
def store(typing_context, array, index, value):
    """Write a vector to where ``array[index]`` starts."""

    def codegen(context, builder, sig, args):
        pointer = element_pointer(context, builder, sig.args[0], args[0], args[1])
        store_at(builder, args[2], pointer)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), codegen


@intrinsic
def store_first(typing_context, array, index, value, n):
    """Write the first ``n`` lanes of a vector (all, if it has fewer) and nothing beyond."""

    def codegen(context, builder, sig, args):
        register = args[2].type
        lanes = value.lanes
        pointer = element_pointer(context, builder, sig.args[0], args[0], args[1])
        partly = builder.icmp_signed("<", args[3], ir.Constant(args[3].type, lanes))
        with builder.if_else(partly, likely=False) as (then, otherwise):
            with then:
                numbers = ir.VectorType(args[3].type, lanes)
                wanted = builder.icmp_signed(
                    "<", ir.Constant(numbers, list(range(lanes))), splat(builder, args[3], lanes)
                )
                pointer_type = register.as_pointer()
                name = f"llvm.masked.store.{_suffix(register)}.p0"
                flags = ir.VectorType(ir.IntType(1), lanes)
                kinds = [register, pointer_type, ir.IntType(32), flags]
                function = _declare(builder, name, ir.VoidType(), kinds)
                itemsize = ir.Constant(ir.IntType(32), value.dtype.bitwidth // 8)
                target = builder.bitcast(pointer, pointer_type)
                builder.call(function, [args[2], target, itemsize, wanted])
            with otherwise:
                store_at(builder, args[2], pointer)
        return context.get_dummy_value()

    return types.void(array, types.intp, value, types.intp), codegen


@intrinsic
def like(typing_context, vector, number):
    """A vector of the kind of ``vector`` with ``number`` in every lane."""

    def codegen(context, builder, sig, args):
        scalar = context.cast(builder, args[1], sig.args[1], vector.dtype)
        return splat(builder, scalar, vector.lanes)

    return vector(vector, types.unliteral(number)), codegen


@intrinsic
def fma(typing_context, a, b, c):
    """a b + c, rounded once where the processor can."""
    return a(a, b, c), lambda context, builder, sig, args: _fma(builder, *args)


@intrinsic
def lanewise(typing_context, function, vector):
    """A scalar ``function`` that numba knows, of each lane, one after another."""
    scalar_sig = typing_context.resolve_function_type(function, (vector.dtype,), {})

    def codegen(context, builder, sig, args):
        callee = context.get_function(sig.args[0], scalar_sig)
        result = args[1]
        for lane in range(vector.lanes):
            at = ir.Constant(ir.IntType(32), lane)
            value = callee(builder, (builder.extract_element(args[1], at),))
            result = builder.insert_element(result, value, at)
        return result

    return vector(function, vector), codegen


@intrinsic
def clamp(typing_context, vector, limit):
    """Into [-limit, limit]; not-a-number stays what it is."""

    def codegen(context, builder, sig, args):
        value = args[0]
        scalar = context.cast(builder, args[1], sig.args[1], vector.dtype)
        for signed, beyond in ((scalar, ">"), (builder.fneg(scalar), "<")):
            bound = splat(builder, signed, vector.lanes)
            value = builder.select(builder.fcmp_ordered(beyond, value, bound), bound, value)
        return value

    return vector(vector, types.unliteral(limit)), codegen


def _register_operator(function, instruction):
    @infer_global(function)
    class _VectorOperator(AbstractTemplate):
        def generic(self, args, kws):
            if len(args) == 2 and isinstance(args[0], VectorType) and args[0] == args[1]:
                return signature(args[0], *args)
            return None

    @lower_builtin(function, VectorType, VectorType)
    def _lower(context, builder, sig, args):
        return getattr(builder, instruction)(*args)


for _function, _instruction in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _register_operator(_function, _instruction)


@intrinsic
def accumulate(
    typing_context, width, n_rows, weights, w_offset, x, x_offset, x_stride,
    start, start_offset, start_stride, y, y_offset, y_stride, n_inputs,
):  # fmt: skip
    """y[r] = start[r] + x[r] @ panel for ``n_rows`` rows r; the panel is ``width`` vectors wide.

    Row r of an array begins at ``offset + r * stride``; ``start`` and ``y`` may be the same
    place. There is one loop for every ``n_rows`` up to ``MAX_ROWS`` and every ``width`` up to
    ``widest(n_rows)``, in which the ``width * n_rows`` sums live in registers while ``n_inputs``
    rows of the panel stream by.
    """
    intp = types.intp
    sig = types.void(
        intp, intp, weights, intp, x, intp, intp, start, intp, intp, y, intp, intp, intp
    )  # fmt: skip

    def codegen(context, builder, sig, args):
        register = context.get_value_type(VectorType(weights.dtype))
        index = args[0].type
        panel, x_first, start_first, y_first = (
            element_pointer(context, builder, sig.args[i], args[i], args[i + 1])
            for i in (2, 4, 7, 10)
        )

        def rows_of(first, stride, rows):
            steps = [builder.mul(stride, ir.Constant(index, r)) for r in range(rows)]
            return [builder.gep(first, [step]) for step in steps]

        code = builder.add(builder.mul(args[1], ir.Constant(index, WIDEST + 1)), args[0])
        done = builder.append_basic_block("panel_done")
        switch = builder.switch(code, done)
        for rows in range(1, MAX_ROWS + 1):
            for n_vectors in range(1, widest(rows) + 1):
                block = builder.append_basic_block(f"panel_{n_vectors}x{rows}")
                switch.add_case(ir.Constant(index, rows * (WIDEST + 1) + n_vectors), block)
                builder.position_at_end(block)
                _panel_loop(
                    builder, register, n_vectors, panel, args[13],
                    rows_of(x_first, args[6], rows),
                    rows_of(start_first, args[9], rows),
                    rows_of(y_first, args[12], rows),
                )  # fmt: skip
                builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return sig, codegen


def _panel_loop(builder, register, n_vectors, panel, n_inputs, xs, starts, ys):
    """The loop of ``accumulate`` for one width and number of rows."""
    index = n_inputs.type
    lanes, n_rows = register.count, len(xs)
    # A narrow panel has too few sums to keep the multipliers busy: it sums even and odd inputs
    # (or every third, fourth) apart and adds the parts at the end.
    n_parts = min(4, -(-MIN_SUMS // (n_vectors * n_rows)))

    def number(value):
        return ir.Constant(index, value)

    def vector_at(pointer, v):
        return builder.gep(pointer, [number(v * lanes)])

    every = [(r, v) for r in range(n_rows) for v in range(n_vectors)]
    zero = ir.Constant(register, [0.0] * lanes)
    sums = [load_at(builder, vector_at(starts[r], v), register) for r, v in every]
    sums += [zero] * (len(every) * (n_parts - 1))

    def add_inputs(k, sums, parts):
        sums = list(sums)
        for part in range(parts):
            row = builder.gep(panel, [builder.mul(k, number(n_vectors * lanes))])
            inputs = [splat(builder, builder.load(builder.gep(x, [k])), lanes) for x in xs]
            for v in range(n_vectors):
                weights = load_at(builder, vector_at(row, v), register)
                for r in range(n_rows):
                    i = part * len(every) + r * n_vectors + v
                    sums[i] = _fma(builder, weights, inputs[r], sums[i])
            k = builder.add(k, number(1))
        return k, sums

    whole = builder.mul(builder.sdiv(n_inputs, number(n_parts)), number(n_parts))
    k, sums = loop(builder, number(0), whole, sums, lambda k, sums: add_inputs(k, sums, n_parts))
    if n_parts > 1:
        k, sums = loop(builder, k, n_inputs, sums, lambda k, sums: add_inputs(k, sums, 1))
    for i, (r, v) in enumerate(every):
        total = sums[i]
        for part in range(1, n_parts):
            total = builder.fadd(total, sums[i + part * len(every)])
        store_at(builder, total, vector_at(ys[r], v))


def loop(builder, k, end, values, body):
    """``while k < end: k, values = body(k, values)``, with the values in registers."""
    before, header, inside, after = (
        builder.block, *(builder.append_basic_block(f"loop_{n}") for n in ("if", "do", "end"))
    )  # fmt: skip
    builder.branch(header)
    builder.position_at_end(header)
    phis = [builder.phi(value.type) for value in (k, *values)]
    builder.cbranch(builder.icmp_signed("<", phis[0], end), inside, after)
    builder.position_at_end(inside)
    next_k, next_values = body(phis[0], phis[1:])
    back = builder.branch(header)
    # Unrolling gains nothing, every pass has enough to do, and doubles the time to compile.
    module = builder.module
    disable = module.add_metadata([ir.MetaDataString(module, "llvm.loop.unroll.disable")])
    back.set_metadata("llvm.loop", module.add_metadata([disable]))
    for phi, first, later in zip(phis, (k, *values), (next_k, *next_values), strict=True):
        phi.add_incoming(first, before)
        phi.add_incoming(later, builder.block)
    builder.position_at_end(after)
    return phis[0], phis[1:]
