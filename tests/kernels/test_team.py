"""Workers that meet: nobody goes ahead, nobody waits for one who is gone."""

import numpy as np
import pytest
from numba import njit

from noizenet.kernels.team import Team, meet, own_units


@njit(nogil=True)
def count_together(arrivals, worker, n_workers, counts, n_steps):
    """How often another worker was not at the step of this one."""
    n_wrong = 0
    for step in range(n_steps):
        counts[worker * 16] = step
        meet(arrivals, worker, n_workers)
        for other in range(n_workers):
            n_wrong += counts[other * 16] != step
        meet(arrivals, worker, n_workers)
    return n_wrong


@pytest.mark.parametrize("n_workers", [1, 2, 5])
def test_nobody_goes_ahead(n_workers):
    team = Team(n_workers)
    counts = np.zeros(n_workers * 16, np.int64)
    for _ in range(3):  # a team can work again
        wrong = team.run(
            lambda worker: count_together(team.arrivals, worker, n_workers, counts, 300)
        )
        assert wrong == [0] * n_workers
    assert not team.in_trouble


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_nobody_waits_for_one_who_failed(error):
    team = Team(3)
    counts = np.zeros(3 * 16, np.int64)
    count_together(np.zeros(16, np.int64), 0, 1, counts, 1)  # compiled before it matters
    finished = []

    def work(worker):
        if worker == 1:
            raise error("of worker 1")
        count_together(team.arrivals, worker, 3, counts, 1000)
        assert team.in_trouble
        finished.append(worker)

    with pytest.raises(error, match="of worker 1"):
        team.run(work)
    assert sorted(finished) == [0, 2]
    assert team.in_trouble


def test_nobody_waits_for_one_who_stopped():
    team = Team(2)
    counts = np.zeros(2 * 16, np.int64)

    def work(worker):
        return worker == 0 or count_together(team.arrivals, worker, 2, counts, 1000) > 0

    assert team.run(work) == [True, True]


@pytest.mark.parametrize("n_hidden", [1, 2, 3, 50, 512])
@pytest.mark.parametrize("n_workers", [1, 2, 3, 7])
def test_every_unit_is_of_one_worker(n_hidden, n_workers):
    parts = own_units(n_hidden, n_workers)
    assert len(parts) == n_workers
    assert [unit for part in parts for unit in range(n_hidden)[part]] == list(range(n_hidden))
    sizes = [part.stop - part.start for part in parts]
    assert max(sizes) - min(sizes) <= 1
