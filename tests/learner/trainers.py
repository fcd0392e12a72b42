"""What the tests of training share."""

import numpy as np
import scipy.signal
import torch

from noizenet.learner.batches import OneShot, Windows
from noizenet.learner.fit import Stop

START = np.zeros((1, 1), np.float32)


def ar_songs(n_songs=2, n_samples=60, dtype=np.float32):
    """A damped resonance driven by noise of deviation 0.3."""
    rng = np.random.default_rng(0)
    return [
        scipy.signal.lfilter([0.3], [1, -1.6, 0.81], rng.standard_normal(n_samples + 9 * i))
        .astype(dtype)[:, None]
        for i in range(n_songs)
    ]  # fmt: skip


def make_batches(training, songs=None, rng=0):
    songs = ar_songs() if songs is None else songs
    start = START.astype(songs[0].dtype)
    if training == "one-shot":
        return OneShot(songs, start, rng, "rotate", None)
    return Windows(songs, start, window_steps=10, batch=3)


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


def all_finite(tensors):
    """All that training changes; what a sample is bounded by may be infinite."""
    bounds = ("model.bounds", "model.reach")
    return all(t.isfinite().all() for name, t in tensors.items() if name not in bounds)


def stopping_after(step):
    stop = Stop()

    def on_step(report):
        stop.requested = report.step == step

    return {"stop": stop, "on_step": on_step}
