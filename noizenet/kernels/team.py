"""Threads that walk one recurrence together, each with its own part of the hidden units.

A step of a large layer is one pass over megabytes of weights. The workers of a team share it:
each computes the gates and the new state of its own units, then all meet, for the next step needs
the whole state. That is tens of thousands of meetings a second, too many for the operating
system: each worker counts its arrivals in a cache line of its own and watches those of the others.

No meeting can hang: a worker that fails or stops leaves the team, which counts as having arrived
at every meeting. The others go on with numbers that nobody will use, to where they look for
trouble.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TypeVar

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

Result = TypeVar("Result")

APART = 16  # int64 between two counters: two cache lines, which processors fetch in pairs
GONE = 1 << 62  # more meetings than there will ever be
PATIENCE_LOOKS = 4000  # some 10 µs, after which the processor is offered to others


def _pointer(context, builder, array_type, array, index):
    data = context.make_array(array_type)(context, builder, value=array).data
    return builder.gep(data, [index])


@intrinsic
def _publish(typing_context, array, index, value):
    """``array[index] = value``, not seen by others before what was written earlier."""

    def codegen(context, builder, sig, args):
        pointer = _pointer(context, builder, sig.args[0], args[0], args[1])
        builder.store_atomic(args[2], pointer, "release", 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.int64), codegen


@intrinsic
def _look(typing_context, array, index):
    """``array[index]`` as it is now; what its writer wrote before it is seen from here on."""

    def codegen(context, builder, sig, args):
        pointer = _pointer(context, builder, sig.args[0], *args)
        return builder.load_atomic(pointer, "acquire", 8, typ=ir.IntType(64))

    return types.int64(array, types.intp), codegen


if os.name == "posix":
    _offer_processor = types.ExternalFunction("sched_yield", types.int32())
else:

    @njit
    def _offer_processor():
        return 0


@njit
def meet(arrivals, worker, n_workers):
    """Wait until every worker has come to this meeting."""
    meeting = _look(arrivals, worker * APART) + 1
    if n_workers == 1 or meeting > GONE:
        return
    _publish(arrivals, worker * APART, meeting)
    for other in range(n_workers):
        n_looks = 0
        while _look(arrivals, other * APART) < meeting:
            n_looks += 1
            if n_looks > PATIENCE_LOOKS:  # more threads than processors, or a busy machine
                _offer_processor()


@njit(cache=True, nogil=True)
def _leave(arrivals, worker):
    _publish(arrivals, worker * APART, GONE)


def own_units(n_hidden: int, n_workers: int) -> list[slice]:
    """The units of each worker, in order and nearly equally many."""
    edges = [n_hidden * worker // n_workers for worker in range(n_workers + 1)]
    return [slice(a, b) for a, b in pairwise(edges)]


class Team:
    """Workers that meet.

    Attributes
    ----------
    arrivals : int64 array for :func:`meet`
    """

    def __init__(self, n_workers: int):
        self.n_workers = n_workers
        self.arrivals = np.zeros(n_workers * APART, np.int64)
        self.in_trouble = False

    def run(self, work: Callable[[int], Result]) -> list[Result]:
        """``work(worker)`` of every worker at once, each on a thread of its own.

        When one raises, so does this, after the others have come to an end as well. They should
        look at ``in_trouble`` from time to time.
        """
        self.arrivals[:] = 0
        self.in_trouble = False

        def member(worker):
            try:
                return work(worker)
            except BaseException:
                self.in_trouble = True
                raise
            finally:  # whoever looked for trouble before this one did waits no more
                _leave(self.arrivals, worker)

        with ThreadPoolExecutor(self.n_workers) as pool:
            try:
                return list(pool.map(member, range(self.n_workers)))
            except BaseException:  # an interruption reaches the waiting thread only
                self.in_trouble = True
                raise
