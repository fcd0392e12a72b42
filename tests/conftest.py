"""What the tests share: one thread, small models, a journal that remembers."""

import numpy as np
import pytest
import torch

from noizenet.learner.model import Model

torch.set_num_threads(1)


class RecordingJournal:
    """A :class:`noizenet.learner.fit.Journal` that keeps everything it is told."""

    def __init__(self, on_step=lambda report: None):
        self.reports, self.validations, self.said, self.saved = [], [], [], []
        self.on_step = on_step

    def step(self, report):
        self.reports.append(report)
        self.on_step(report)

    def validated(self, step, bits, best):
        self.validations.append((step, bits, best))

    def say(self, text):
        self.said.append(text)

    def save(self, tensors, progress, best):
        self.saved.append((tensors, progress, best))


@pytest.fixture
def make_journal():
    return RecordingJournal


@pytest.fixture
def make_model():
    """A factory of small models with weights fixed by ``seed``, float64 unless told otherwise."""

    def make(seed=0, dtype=torch.float64, engine="torch", prediction=None, **settings):
        torch.manual_seed(seed)
        small = {
            "cell": "lstm",
            "hidden": 5,
            "layers": 1,
            "dropout": 0.0,
            "loss": "mixture",
            "n_mixtures": 3,
            "n_features": 1,
            "n_codes": None,
            "predictor_order": 0 if prediction is None else len(prediction),
        }
        model = Model(**(small | settings)).to(dtype)
        model.engine = engine
        if prediction is not None:
            model.stand_on(np.asarray(prediction), 0.25)
        with torch.no_grad():
            # The mixture begins almost blind to the hidden units; here they are to matter.
            model.head.linear.weight.normal_(std=0.5)
        return model

    return make


@pytest.fixture
def songs():
    """Three songs of different loudness and length that share a DC offset, float32."""
    rng = np.random.default_rng(7)
    return [
        (level * rng.standard_normal(n).clip(-4, 4) + 0.02).astype(np.float32)
        for level, n in ((0.02, 3000), (0.15, 2049), (0.07, 1500))
    ]
