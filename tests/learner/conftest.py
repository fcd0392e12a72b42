"""A trainer as the tests of training want it."""

import pytest
import torch
from trainers import make_batches

from noizenet.config import FitConfig
from noizenet.learner.fit import HEARD_PART, Part, Trainer


@pytest.fixture
def make_trainer(make_model, make_journal):
    """A factory of trainers of a small float32 model; its journal is ``trainer.journal``."""

    def make(
        training="one-shot",
        songs=None,
        on_step=None,
        stop=None,
        validate=None,
        model=None,
        chunk_steps=16,
        **settings,
    ):
        config = FitConfig(
            **({"epochs": 5, "training": training, "lr": 0.01, "clip": 1.0} | settings)
        )
        model = model or make_model(dtype=torch.float32, layers=2, dropout=0.3)
        batches = make_batches(training, songs)
        journal = make_journal(on_step or (lambda report: None))
        part = Part(HEARD_PART, model, batches, config.lr, chunk_steps)
        return Trainer([part], config, journal, 4, validate, stop)

    return make
