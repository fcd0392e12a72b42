"""Dealing sequences to threads, and keeping the BLAS from doing the same at the same time."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise

import numba
import numpy as np
from threadpoolctl import ThreadpoolController

from noizenet.kernels.team import Team
from noizenet.kernels.vector import MAX_ROWS

WORKER_BYTES = 1 << 19  # weights that are worth a worker: a step over them takes some 5 µs


def team_for(n_weight_bytes: int, n_threads: int | None, alone: bool = False) -> Team | None:
    """Workers to share every step of a layer, where it is large enough for more than one.

    With ``alone`` a single thread makes a team too, of one: a team keeps the gates for the way
    back, and to compute as many anew takes a fifth of the time of several songs at once.
    """
    n_worth = n_weight_bytes // WORKER_BYTES
    n_workers = min(_checked(n_threads), n_worth)
    return Team(n_workers) if n_workers > 1 or (alone and n_worth > 1) else None


def together(run, n_batch: int) -> list:
    """``run(part)`` on slices of the batch, one after another, each by a whole team.

    Returns
    -------
    list
        The results in the order of the batch.
    """
    with _BLAS.single_threaded():
        return [run(part) for part in slices(n_batch, 1)]


def _checked(n_threads: int | None) -> int:
    n_threads = numba.config.NUMBA_NUM_THREADS if n_threads is None else n_threads
    if n_threads < 1:
        raise ValueError(f"n_threads must be at least 1, not {n_threads}")
    return n_threads


def share(run, n_batch: int, n_threads: int | None) -> list:
    """``run(part, helper)`` on slices of the batch, each small enough for one kernel.

    ``helper`` runs work beside its part: a thread where one is left over, else on the spot.

    Returns
    -------
    list
        The results in the order of the batch.
    """
    n_threads = _checked(n_threads)
    n_workers = min(n_threads, n_batch)
    parts = slices(n_batch, n_workers)
    n_helpers = min(n_threads - n_workers, n_workers)
    with _BLAS.single_threaded(), ThreadPoolExecutor(n_threads) as pool:
        helpers = [pool if i < n_helpers else OnTheSpot() for i in range(len(parts))]
        if n_workers == 1:
            return [run(part, helper) for part, helper in zip(parts, helpers, strict=True)]
        return list(pool.map(run, parts, helpers))


def slices(n_batch: int, n_workers: int) -> list[slice]:
    """The batch in parts of at most ``MAX_ROWS``, as many for each of the workers."""
    n_parts = -(-n_batch // MAX_ROWS)
    n_parts = min(n_batch, -(-n_parts // n_workers) * n_workers)
    edges = np.linspace(0, n_batch, n_parts + 1).round().astype(int)
    return [slice(a, b) for a, b in pairwise(edges)]


class OnTheSpot:
    """An executor that runs what is submitted before it returns."""

    def submit(self, function, *arguments) -> Future:
        future = Future()
        future.set_result(function(*arguments))
        return future


class _Blas:
    """The BLAS's own threads, switched off while ours run.

    Two kinds of threads on the same processors wait for each other in busy loops: measured at up
    to 30 times the time of one thread.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._n_users = 0
        self._controller = None
        self._limits = None

    @contextmanager
    def single_threaded(self):
        with self._lock:
            self._n_users += 1
            if self._n_users == 1:
                self._controller = self._controller or ThreadpoolController()
                self._limits = self._controller.limit(limits=1, user_api="blas")
        try:
            yield
        finally:
            with self._lock:
                self._n_users -= 1
                if self._n_users == 0:
                    self._limits.restore_original_limits()


_BLAS = _Blas()
