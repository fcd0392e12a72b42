"""Several networks learn in one run, one after the other."""

import itertools
import math
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from trainers import assert_same, make_batches, stopping_after

from noizenet.config import FitConfig
from noizenet.errors import TrainingError
from noizenet.learner import fit
from noizenet.learner.batches import OneShot
from noizenet.learner.bptt import Pass
from noizenet.learner.fit import HEARD_PART, LAST_LR_SHARE, WARMUP_STEPS, Part, Trainer
from noizenet.runs import load_checkpoint, save_checkpoint

FIRST = "conductor"


@pytest.fixture
def make_pair(make_model, make_journal):
    """A factory of trainers of two networks: of codes, then of samples; see ``make_trainer``."""

    def make(
        training="one-shot", seed=0, on_step=None, stop=None, validate=None, hear=None,
        of_first=(), **settings,
    ):  # fmt: skip
        settings = {"epochs": 2, "training": training, "lr": 0.01} | settings
        first = make_model(
            seed, torch.float32, loss="mulaw", n_codes=7, dropout=0.3, cell="gru", hidden=4
        )
        second = make_model(seed, torch.float32, layers=2, dropout=0.3, prediction=(1.2, -0.7))
        texts = [np.arange(20) % 7, np.arange(31) % 5]
        lessons = OneShot(texts, np.array([0]), 9, "rotate", None)
        limits = {"n_steps": 6} | dict(of_first)
        parts = [
            Part(FIRST, first, lessons, 0.02, 8, **limits),
            Part(HEARD_PART, second, make_batches(training), 0.01, 16),
        ]
        journal = make_journal(on_step or (lambda report: None))
        heard = {} if hear is None else {"hear": hear}
        return Trainer(parts, FitConfig(**settings), journal, 4, validate, stop, **heard)

    return make


class Clock:
    """``time`` whose every look at it takes a tenth of a second."""

    def __init__(self):
        self.looks = 0

    def monotonic(self):
        self.looks += 1
        return self.looks / 10


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(fit, "time", SimpleNamespace(monotonic=clock.monotonic))
    return clock


def reports_of(trainer, name):
    return [report for report in trainer.journal.reports if report.part == name]


# --- whose turn it is ----------------------------------------------------------------------------


def test_each_has_its_steps(make_pair):
    trainer = make_pair()
    before = trainer.tensors()
    trainer.run()
    reports = trainer.journal.reports
    assert [report.part for report in reports] == [FIRST] * 6 + [HEARD_PART] * 4
    assert [report.step for report in reports] == list(range(1, 11))
    assert [report.epoch for report in reports] == [0, 0, 1, 1, 2, 2, 0, 0, 1, 1]
    assert [report.share_done for report in reports] == pytest.approx(
        [step / 10 for step in range(1, 11)]
    )
    progress = trainer.progress
    assert (progress.part, progress.part_began, progress.step) == (1, 6, 10)
    after = trainer.tensors()
    for name in ("conductor.head.linear.weight", "model.head.linear.weight"):
        assert not torch.equal(before[name], after[name])


@pytest.mark.parametrize("over", [0, 1])
def test_only_the_one_whose_turn_it_is_learns(over, make_pair):
    """The other stands still, though the weights of all decay."""
    kept = {}

    def on_step(report):
        if report.step in (6, 10):
            kept[report.step] = trainer.tensors()

    trainer = make_pair(on_step=on_step, weight_decay=0.1)
    kept[0] = trainer.tensors()
    trainer.run()
    before, after = (kept[0], kept[6]) if over == 0 else (kept[6], kept[10])
    stands = "model." if over == 0 else "conductor."
    moved = [
        name
        for name in before
        if name.startswith(("model.", "conductor.")) and not torch.equal(before[name], after[name])
    ]
    assert moved
    assert not any(name.startswith(stands) for name in moved)


def test_the_second_learns_as_it_would_alone(make_pair, make_journal):
    """Lessons, rate, warm-up and optimizer begin as those of a run of its own."""
    trainer = make_pair()
    second = make_pair().parts[1]
    for part in (trainer.parts[1], second):
        part.model.recurrent.dropout = 0.0  # whose masks are of the step's number in the run
    alone = Trainer([second], trainer.config, make_journal(), 4)
    trainer.run()
    alone.run()
    for found, expected in zip(reports_of(trainer, HEARD_PART), alone.journal.reports, strict=True):
        for name in ("epoch", "song", "loss", "gradient_norm", "lr"):
            assert getattr(found, name) == getattr(expected, name), name
    found, expected = trainer.tensors(), alone.tensors()
    for name in expected:
        if name.startswith("model."):
            assert torch.equal(found[name], expected[name]), name


def test_each_has_a_rate_of_its_own_that_warms_up_and_falls(make_pair):
    trainer = make_pair(epochs=5)
    trainer.run()
    for name, highest, n_steps in ((FIRST, 0.02, 6), (HEARD_PART, 0.01, 10)):
        rates = [report.lr for report in reports_of(trainer, name)]
        assert len(rates) == n_steps
        for step, rate in enumerate(rates):
            cosine = 0.5 + 0.5 * np.cos(np.pi * step / n_steps)
            expected = highest * (LAST_LR_SHARE + (1 - LAST_LR_SHARE) * cosine)
            assert rate == pytest.approx(expected * min(1, (step + 1) / WARMUP_STEPS), rel=1e-12)


def test_the_first_is_over_when_it_has_learned_enough(make_pair):
    trainer = make_pair(of_first={"n_steps": 500, "enough": 1.2}, epochs=3)
    trainer.run()
    losses = [report.loss for report in reports_of(trainer, FIRST)]
    assert 10 < len(losses) < 500
    smoothed, found = losses[0], []
    for loss in losses:
        smoothed += 0.2 * (loss - smoothed)
        found.append(smoothed)
    assert found[-1] < 1.2 <= min(found[:-1])
    assert len(reports_of(trainer, HEARD_PART)) == 6
    # the second begins anew, with a loss of another kind
    heard = [report.loss for report in reports_of(trainer, HEARD_PART)]
    smoothed = heard[0]
    for loss in heard:
        smoothed += 0.2 * (loss - smoothed)
    assert trainer.progress.part_loss == pytest.approx(smoothed, rel=1e-12)
    # the steps that the first did not need are not missing
    assert trainer.share_done() == 1
    shares = [report.share_done for report in trainer.journal.reports]
    assert shares == sorted(shares)


def test_what_is_never_enough_takes_all_steps(make_pair):
    trainer = make_pair(of_first={"n_steps": 30, "enough": -1.0})
    trainer.run()
    assert len(reports_of(trainer, FIRST)) == 30


def test_each_has_its_share_of_the_time(make_pair, clock):
    trainer = make_pair(
        epochs=None, budget_minutes=1.0, of_first={"n_steps": 10**6, "time_share": 0.3}
    )
    trainer.run()
    assert trainer.progress.part_began_s == pytest.approx(18, abs=0.5)
    assert trainer.progress.elapsed_s == pytest.approx(60, abs=0.5)
    for name, highest in ((FIRST, 0.02), (HEARD_PART, 0.01)):
        rates = [report.lr for report in reports_of(trainer, name)]
        assert len(rates) > 20
        assert rates[-1] == pytest.approx(highest * LAST_LR_SHARE, rel=0.1)
        assert max(rates) > 0.9 * highest
    shares = [report.share_done for report in trainer.journal.reports]
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1, abs=0.02)


def test_time_that_the_first_does_not_need_is_the_seconds(make_pair, clock):
    trainer = make_pair(epochs=None, budget_minutes=1.0, of_first={"n_steps": 3, "time_share": 0.3})
    trainer.run()
    assert len(reports_of(trainer, FIRST)) == 3
    assert trainer.progress.part_began_s < 5
    assert trainer.progress.elapsed_s == pytest.approx(60, abs=0.5)


# --- the one that is heard -----------------------------------------------------------------------


def test_only_the_last_is_heard_and_validated(make_pair, clock):
    heard, steps = [], []

    def validate():
        steps.append(trainer.progress.step)
        return 5.0

    trainer = make_pair(
        epochs=20,
        of_first={"n_steps": 7},
        validate=validate,
        hear=lambda elapsed_s, step: heard.append((elapsed_s, step)),
    )
    trainer.run()
    assert [step for _, step in heard] == list(range(8, 48))
    assert [elapsed_s for elapsed_s, _ in heard] == sorted(elapsed_s for elapsed_s, _ in heard)
    assert len(steps) > 3
    assert all(step > 7 and (step - 7) % 2 == 0 for step in steps)  # at the ends of its epochs


def test_the_time_that_hearing_takes_counts(make_pair, clock):
    def hear(elapsed_s, step):
        clock.looks += 50

    trainer = make_pair(epochs=None, budget_minutes=1.0, of_first={"n_steps": 2}, hear=hear)
    trainer.run()
    assert trainer.progress.elapsed_s < 66
    assert 5 < trainer.progress.step < 20


# --- resuming and trouble ------------------------------------------------------------------------


@pytest.mark.parametrize("training", ["one-shot", "windows"])
@pytest.mark.parametrize("optimizer", ["adam", "adagrad"])
@pytest.mark.parametrize("stopped_at", [1, 4, 6, 7, 9])
def test_a_run_goes_on_wherever_it_was_stopped(
    stopped_at, optimizer, training, make_pair, tmp_path
):
    settings = {"training": training, "optimizer": optimizer, "weight_decay": 1e-3}
    whole = make_pair(**settings)
    whole.run()
    first = make_pair(**settings, **stopping_after(stopped_at))
    first.run()
    tensors, progress, _ = first.journal.saved[-1]
    path = tmp_path / "last.safetensors"
    save_checkpoint(path, tensors, {"progress": progress})

    second = make_pair(seed=1, **settings)
    tensors, facts = load_checkpoint(path)
    second.restore(tensors, facts["progress"])
    assert_same(second.tensors(), first.tensors())
    second.run()
    assert_same(second.tensors(), whole.tensors())
    taken = [asdict(report) for report in (*first.journal.reports, *second.journal.reports)]
    for found, expected in zip(taken, map(asdict, whole.journal.reports), strict=True):
        for measured in ("elapsed_s", "numbers_per_s"):
            del found[measured], expected[measured]
        assert found == expected


def test_enough_is_enough_after_a_resume_too(make_pair):
    settings = {"of_first": {"n_steps": 500, "enough": 1.2}, "epochs": 3}
    whole = make_pair(**settings)
    whole.run()
    first = make_pair(**settings, **stopping_after(8))
    first.run()
    second = make_pair(**settings)
    second.restore(*first.journal.saved[-1][:2])
    second.run()
    assert_same(second.tensors(), whole.tensors())
    assert asdict(second.progress) | {"elapsed_s": 0, "part_began_s": 0} == (
        asdict(whole.progress) | {"elapsed_s": 0, "part_began_s": 0}
    )


def test_the_tensors_are_named_by_part(make_pair):
    trainer = make_pair(training="windows")
    trainer.run()
    kinds = {name.split(".")[0] for name in trainer.tensors()}
    assert kinds == {FIRST, HEARD_PART, "optimizer", "carried"}
    assert {n for n in trainer.tensors() if n.startswith("carried")} == {
        *("carried.past", "carried.base", "carried.recurrent")
    }


def test_trouble_of_one_does_not_slow_the_next(make_pair, monkeypatch):
    real, calls = fit.backpropagate, itertools.count(1)

    def spoilt(*known, **named):
        done = real(*known, **named)
        return Pass(math.nan, done.state) if next(calls) in (3, 4) else done

    monkeypatch.setattr(fit, "backpropagate", spoilt)
    trainer = make_pair(anneal=False)
    trainer.run()
    rates = {name: [r.lr for r in reports_of(trainer, name)] for name in (FIRST, HEARD_PART)}
    assert rates[FIRST] == [0.02] * 2 + [0.005] * 4
    assert rates[HEARD_PART] == [0.01] * 4


def test_trouble_in_the_first_ends_the_run_and_is_saved(make_pair):
    trainer = make_pair()
    with torch.no_grad():
        trainer.parts[0].model.embedding.weight.fill_(math.nan)
    with pytest.raises(TrainingError, match="step 1: loss or gradient was not finite 3 times"):
        trainer.run()
    assert trainer.journal.saved[-1][1]["step"] == 0
