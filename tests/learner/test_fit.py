import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from trainers import ar_songs, assert_same, stopping_after

from noizenet.learner import fit
from noizenet.learner.fit import LAST_LR_SHARE, WARMUP_STEPS, Stop

# --- when it ends --------------------------------------------------------------------------------


def test_a_stop_ends_after_the_step_and_saves(make_trainer):
    validated = []
    trainer = make_trainer(
        **stopping_after(3), epochs=500, validate=lambda: validated.append(1) or 5.0
    )
    trainer.run()
    assert trainer.progress.step == 3
    assert trainer.journal.saved[-1][1]["step"] == 3
    assert_same(trainer.journal.saved[-1][0], trainer.tensors())
    n_validated = len(validated)
    assert n_validated == len(trainer.journal.validations) <= 1  # not once more after the stop


@pytest.mark.parametrize("loss", ["mixture", "mse"])
def test_a_stop_within_a_step_abandons_it_without_a_trace(loss, make_trainer, make_model):
    """The step is taken again after --resume, so half of it must not have been kept."""

    def model():
        return make_model(3, torch.float32, loss=loss)

    whole = make_trainer(model=model())
    whole.run()

    stop = Stop()
    first = make_trainer(model=model(), stop=stop)
    parts = itertools.count(1)

    def request(*_):
        # songs of 60 and 69 steps are 4 and 5 chunks, each read twice but the last
        stop.requested = first.progress.step == 4 and next(parts) == 6

    first.part.model.recurrent.register_forward_hook(request)
    first.run()
    assert first.progress.step == 4
    second = make_trainer(model=model())
    second.restore(*first.journal.saved[-1][:2])
    second.run()
    assert_same(second.tensors(), whole.tensors())


class Clock:
    """``time`` whose every look at it takes a tenth of a second."""

    def __init__(self):
        self.looks = 0

    def monotonic(self):
        self.looks += 1
        return self.looks / 10


def test_a_budget_ends_training_on_time_with_the_rate_annealed_to_it(make_trainer, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(fit, "time", SimpleNamespace(monotonic=clock.monotonic))
    trainer = make_trainer(epochs=None, budget_minutes=0.5)
    trainer.run()
    assert trainer.progress.elapsed_s == pytest.approx(30, abs=0.5)
    reports = trainer.journal.reports
    assert len(reports) > 50
    assert reports[-1].share_done == pytest.approx(1, abs=0.02)
    assert reports[-1].lr == pytest.approx(0.01 * LAST_LR_SHARE, rel=0.05)
    shares = [report.share_done for report in reports]
    assert shares == sorted(shares)


def test_a_budget_counts_what_was_spent_before_a_resume(make_trainer, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(fit, "time", SimpleNamespace(monotonic=clock.monotonic))
    first = make_trainer(epochs=None, budget_minutes=0.5, **stopping_after(20))
    first.run()
    spent_s = first.progress.elapsed_s
    assert 5 < spent_s < 25
    clock.looks += 100_000  # the night between
    second = make_trainer(epochs=None, budget_minutes=0.5)
    second.restore(*first.journal.saved[-1][:2])
    second.run()
    assert second.journal.reports[0].elapsed_s == pytest.approx(spent_s, abs=1)
    assert second.progress.elapsed_s == pytest.approx(30, abs=0.5)


def test_whichever_of_epochs_and_minutes_ends_first(make_trainer, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(fit, "time", SimpleNamespace(monotonic=clock.monotonic))
    short, long = (
        make_trainer(epochs=5, budget_minutes=60),
        make_trainer(epochs=5000, budget_minutes=0.1),
    )
    short.run()
    long.run()
    assert short.progress.step == 10
    assert long.progress.step < 100
    assert short.progress.elapsed_s < 60


# --- steps ---------------------------------------------------------------------------------------


def test_the_learning_rate_warms_up_and_falls(make_trainer):
    trainer = make_trainer(epochs=20)
    trainer.run()
    rates = [report.lr for report in trainer.journal.reports]
    assert len(rates) == 40
    for step, rate in enumerate(rates):
        cosine = 0.5 + 0.5 * math.cos(math.pi * step / 40)
        expected = 0.01 * (LAST_LR_SHARE + (1 - LAST_LR_SHARE) * cosine)
        assert rate == pytest.approx(expected * min(1, (step + 1) / WARMUP_STEPS), rel=1e-12)
    assert rates.index(max(rates)) == WARMUP_STEPS - 1
    assert rates[-1] < 0.02 * max(rates)


def test_without_annealing_the_learning_rate_stays(make_trainer):
    trainer = make_trainer(epochs=6, anneal=False, lr=0.003)
    trainer.run()
    assert {report.lr for report in trainer.journal.reports} == {0.003}


@pytest.mark.parametrize("clip", [0.05, 1e3])
def test_the_norm_reported_is_before_clipping_and_the_step_after(clip, make_trainer, make_model):
    model = make_model(dtype=torch.float64, hidden=4)
    songs = ar_songs(dtype=np.float64)
    trainer = make_trainer(
        model=model, songs=songs, optimizer="sgd", lr=1.0, clip=clip, anneal=False, epochs=1
    )
    batch = trainer.part.batches[0]
    parameters, axis, _ = model(batch.inputs, model.initial_state(1))
    loss = model.loss(parameters, axis, batch.targets).mean()
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss, model.parameters())])
    norm = gradient.norm().item()
    assert 0.05 < norm < 1e3  # so that both sides are tried
    before = torch.cat([p.detach().flatten().clone() for p in model.parameters()])
    assert trainer._step(began_s=0.0)
    report = trainer.journal.reports[0]
    assert report.loss == pytest.approx(loss.item(), rel=1e-12)
    assert report.gradient_norm == pytest.approx(norm, rel=1e-9)
    step = torch.cat([p.detach().flatten() for p in model.parameters()]) - before
    expected = -gradient * min(1, clip / norm)
    torch.testing.assert_close(step, expected, rtol=0, atol=1e-4 * min(norm, clip))
    assert step.norm().item() <= clip


def test_weights_decay(make_trainer, make_model):
    """A step with decay d goes d times the weights further than one without."""
    steps = {}
    for decay in (0.0, 0.1):
        model = make_model(dtype=torch.float64, hidden=4)
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        trainer = make_trainer(
            model=model,
            songs=ar_songs(dtype=np.float64),
            optimizer="sgd",
            lr=0.5,
            anneal=False,
            weight_decay=decay,
        )
        assert trainer._step(began_s=0.0)
        steps[decay] = {name: p.detach() - before[name] for name, p in model.named_parameters()}
    for name, weight in before.items():
        torch.testing.assert_close(steps[0.1][name] - steps[0.0][name], -0.5 * 0.1 * weight)


def test_windows_carry_the_state_and_one_shot_does_not(make_trainer):
    trainer = make_trainer(training="windows", epochs=2, lr=1e-12)  # the weights stand still
    model, batches = trainer.part.model, trainer.part.batches
    model.recurrent.dropout = 0.0
    trainer.run()
    state = model.initial_state(3)
    for step in range(batches.steps_per_epoch):
        parameters, axis, state = model(batches[step].inputs, state)
        loss = model.loss(parameters, axis, batches[step].targets).mean().item()
        for epoch in range(2):
            report = trainer.journal.reports[epoch * batches.steps_per_epoch + step]
            assert report.loss == pytest.approx(loss, rel=1e-4)
    alone = make_trainer()
    alone.run()
    assert alone.carried is None


def test_the_best_is_kept(make_trainer, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(fit, "time", SimpleNamespace(monotonic=clock.monotonic))
    bits = iter([7.0, 6.0, 6.5, 5.0, *[9.0] * 1000])
    trainer = make_trainer(epochs=60, validate=lambda: next(bits))
    trainer.run()
    found = trainer.journal.validations
    assert len(found) > 5
    assert [best for _, _, best in found[:5]] == [True, True, False, True, False]
    assert all(step % 2 == 0 for step, _, _ in found)  # at the ends of epochs
    kept = [progress for _, progress, best in trainer.journal.saved if best]
    assert len(kept) == 3
    assert kept[-1]["best_valid_bits"] == 5.0
    assert trainer.progress.best_valid_bits == 5.0


# --- learning ------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_a_sine_is_learned(cell, make_trainer, make_model):
    tone = np.sin(2 * np.pi * np.arange(200) / 25).astype(np.float32)[:, None]
    model = make_model(0, torch.float32, cell=cell, hidden=8, loss="mse")
    trainer = make_trainer(model=model, songs=[tone], epochs=120, lr=0.03, chunk_steps=200)
    trainer.run()
    losses = [report.loss for report in trainer.journal.reports]
    # the power is 0.5; telling each sample by the one before would leave 0.031
    assert losses[0] > 0.3
    assert losses[-1] < 0.01


@pytest.mark.parametrize("training", ["one-shot", "windows"])
def test_a_resonance_is_learned_as_well_as_can_be(training, make_trainer, make_model):
    songs = ar_songs(2, 400)
    # the entropy of the noise that drives it, which no model can beat
    least = 0.5 * math.log(2 * math.pi * math.e * 0.3**2)
    rms = np.sqrt(np.mean(np.concatenate(songs) ** 2))
    unknowing = 0.5 * math.log(2 * math.pi * math.e * rms**2)
    model = make_model(0, torch.float32, hidden=8)
    trainer = make_trainer(training, songs, model=model, epochs=40, lr=0.03, chunk_steps=500)
    trainer.run()
    last = np.mean([report.loss for report in trainer.journal.reports[-4:]])
    assert unknowing > least + 0.9
    assert last < least + 0.3
    assert last > least - 0.3  # ... nor is it learned by heart


def test_a_prediction_gives_a_head_start(make_trainer, make_model):
    """The process itself as the linear prediction: the untrained network is near the optimum."""
    songs = ar_songs(1, 400)
    model = make_model(0, torch.float32, hidden=4, prediction=(1.6, -0.81))
    model.stand_on(np.array([1.6, -0.81]), 0.3)
    with torch.no_grad():
        model.head.linear.weight.zero_()
    trainer = make_trainer(model=model, songs=songs, epochs=1)
    trainer.run()
    # on the head's axis the noise has deviation 1
    optimum = 0.5 * math.log(2 * math.pi * math.e)
    assert trainer.journal.reports[0].loss < optimum + 0.3
