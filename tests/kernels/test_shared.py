"""Layers whose units are shared by a team equal the plain ones, whoever has which units."""

import numpy as np
import pytest
from test_recurrent import CELLS, assert_equal, make_problem, run

from noizenet.kernels import recurrent, reference, shared, threads
from noizenet.kernels.team import Team


@pytest.fixture(autouse=True)
def large(monkeypatch):
    """Every layer counts as large enough for a worker on each thread."""
    monkeypatch.setattr(threads, "WORKER_BYTES", 1)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n_batch", "n_threads"), [(1, 2), (3, 2), (1, 3), (13, 2)])
@pytest.mark.parametrize("n_steps", [1, 31, 2100])
def test_equals_reference(cell, dtype, n_batch, n_threads, n_steps):
    problem = make_problem(cell, n_batch, min(n_steps, 2100 // n_batch), 2, 13, dtype)
    assert_equal(run(recurrent, *problem, n_threads=n_threads), run(reference, *problem))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("n_hidden", [2, 7, 16, 50, 64, 129])
@pytest.mark.parametrize(("n_batch", "n_inputs"), [(1, 1), (7, 9), (2, 64)])
def test_every_size_equals_reference(cell, n_hidden, n_batch, n_inputs):
    problem = make_problem(cell, n_batch, 37, n_inputs, n_hidden)
    assert_equal(run(recurrent, *problem, n_threads=2), run(reference, *problem))


@pytest.mark.parametrize("cell", CELLS)
def test_kept_gates_change_nothing(cell):
    arguments, gradients = make_problem(cell, 8, 600, 5, 22)
    kept = {}
    h, c = recurrent.forward(*arguments, n_threads=2, kept=kept)
    assert len(kept) == 2  # eight sequences in two groups
    given = recurrent.backward(*arguments, h, c, *gradients, n_threads=2, kept=kept)
    assert not kept
    anew = recurrent.backward(*arguments, h, c, *gradients, n_threads=2, kept=kept)
    assert_equal([h, c, *given], [h, c, *anew])


def test_gates_kept_by_another_team_are_not_used():
    arguments, gradients = make_problem("lstm", 1, 40, 5, 22)
    kept = {}
    h, c = recurrent.forward(*arguments, n_threads=2, kept=kept)
    other = recurrent.backward(*arguments, h, c, *gradients, n_threads=3, kept=kept)
    assert_equal([h, c, *other], run(reference, arguments, gradients))


def test_a_failing_worker_ends_the_pass(monkeypatch):
    """The others neither wait for it for ever nor hide what happened."""
    share = shared.forward_share
    calls = []

    def fail_once(*arguments):
        worker = arguments[-2]
        if worker == 1 and arguments[-5] > 0:  # not the first block
            raise MemoryError("worker 1")
        calls.append(worker)
        share(*arguments)

    monkeypatch.setattr(shared, "forward_share", fail_once)
    arguments, _ = make_problem("lstm", 1, 5 * 1024, 2, 16)
    with pytest.raises(MemoryError, match="worker 1"):
        recurrent.forward(*arguments, n_threads=2)
    assert calls.count(0) <= 3  # stopped at the next block, or the one after


def test_team_only_where_it_pays(monkeypatch):
    monkeypatch.setattr(threads, "WORKER_BYTES", 1000)
    assert threads.team_for(1999, 8) is None
    assert threads.team_for(4000, 1) is None
    assert threads.team_for(4000, 8).n_workers == 4
    assert isinstance(threads.team_for(1 << 20, 3), Team)
