"""Threads that walk one recurrence together, each with its own part of the hidden units.

A step of a large layer is one pass over megabytes of weights. Workers share it: each computes the
gates and the new state of its own units, then all meet, for the next step needs the whole state.
That is tens of thousands of meetings a second, so they cannot go through the operating system:
each worker counts its arrivals in its own cache line and watches the lines of the others.

No meeting can hang: who fails leaves the team, which counts as having arrived at every meeting.
"""

import os
import threading

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

LINE_NUMBERS = 8  # int64 of a cache line, twice over: processors fetch lines in pairs
APART = 2 * LINE_NUMBERS
GONE = 1 << 62  # more meetings than there will ever be
PATIENCE_SPINS = 4000  # looks (some 10 µs) before the processor is offered to others


def _slot(context, builder, array_type, array, index):
    data = context.make_array(array_type)(context, builder, value=array).data
    return builder.gep(data, [index])


@intrinsic
def _publish(typing_context, array, index, value):
    """``array[index] = value``, seen by others only after all that was written before."""

    def codegen(context, builder, sig, args):
        pointer = _slot(context, builder, sig.args[0], args[0], args[1])
        builder.store_atomic(args[2], pointer, "release", 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.int64), codegen


@intrinsic
def _observe(typing_context, array, index):
    """``array[index]`` as it is now; what its writer wrote before it can be read after this."""

    def codegen(context, builder, sig, args):
        pointer = _slot(context, builder, sig.args[0], args[0], args[1])
        return builder.load_atomic(pointer, "acquire", 8, typ=ir.IntType(64))

    return types.int64(array, types.intp), codegen


if os.name == "posix":
    _yield_processor = types.ExternalFunction("sched_yield", types.int32())
else:

    @njit
    def _yield_processor():
        return 0


@njit
def meet(arrivals, worker, n_workers):
    """Wait until every worker has come to this meeting."""
    if n_workers == 1:
        return
    meeting = _observe(arrivals, worker * APART) + 1
    if meeting > GONE:
        return
    _publish(arrivals, worker * APART, meeting)
    for other in range(n_workers):
        n_looks = 0
        while _observe(arrivals, other * APART) < meeting:
            n_looks += 1
            if n_looks > PATIENCE_SPINS:  # more threads than processors, or a busy machine
                _yield_processor()


@njit
def _leave(arrivals, worker):
    _publish(arrivals, worker * APART, GONE)


class Team:
    """The members' arrivals, and a way to run the same work on a thread for each of them."""

    def __init__(self, n_workers: int):
        self.n_workers = n_workers
        self.arrivals = np.zeros(n_workers * APART + LINE_NUMBERS, np.int64)

    def run(self, work, pool=None):
        pass
