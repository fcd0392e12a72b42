import itertools
import math
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.signal
import torch

from noizenet.config import FitConfig
from noizenet.errors import TrainingError
from noizenet.learner import fit
from noizenet.learner.batches import OneShot, Windows
from noizenet.learner.bptt import Pass
from noizenet.learner.fit import LAST_LR_SHARE, OPTIMIZERS, WARMUP_STEPS, Stop, Trainer
from noizenet.runs import load_checkpoint, save_checkpoint

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
        config = FitConfig(**({"epochs": 5, "training": training} | settings))
        model = model or make_model(dtype=torch.float32, layers=2, dropout=0.3)
        batches = make_batches(training, songs)
        journal = make_journal(on_step or (lambda report: None))
        return Trainer(model, batches, config, journal, 4, chunk_steps, validate, stop)

    return make


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


def stopping_after(step):
    stop = Stop()

    def on_step(report):
        stop.requested = report.step == step

    return {"stop": stop, "on_step": on_step}


# --- resuming ------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["mixture", "mse"])
@pytest.mark.parametrize("training", ["one-shot", "windows"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_ten_steps_equal_five_a_stop_and_five(
    optimizer, training, loss, make_trainer, make_model, tmp_path
):
    def model(seed):
        return make_model(seed, torch.float32, loss=loss, dropout=0.3, prediction=(1.2, -0.7))

    epochs = {"one-shot": 5, "windows": 3}[training]  # two songs, four windows
    settings = {
        "training": training,
        "optimizer": optimizer,
        "epochs": epochs,
        "weight_decay": 1e-3,
    }
    whole = make_trainer(model=model(0), **settings)
    whole.run()
    assert whole.progress.step == {"one-shot": 10, "windows": 12}[training]

    first = make_trainer(model=model(0), **settings, **stopping_after(5))
    first.run()
    assert first.progress.step == 5
    tensors, progress, best = first.journal.saved[-1]
    assert not best
    path = tmp_path / "last.safetensors"
    save_checkpoint(path, tensors, {"progress": progress})

    second = make_trainer(model=model(1), **settings)  # other first weights: all must come back
    tensors, facts = load_checkpoint(path)
    second.restore(tensors, facts["progress"])
    assert_same(second.tensors(), first.tensors())
    second.run()

    assert_same(second.tensors(), whole.tensors())
    taken = [asdict(report) for report in (*first.journal.reports, *second.journal.reports)]
    for found, expected in zip(taken, map(asdict, whole.journal.reports), strict=True):
        for clock in ("elapsed_s", "numbers_per_s"):
            del found[clock], expected[clock]
        assert found == expected


def test_another_number_gives_another_training(make_trainer):
    first, same, other = make_trainer(), make_trainer(), make_trainer()
    other.rng += 1
    for trainer in (first, same, other):
        trainer.run()
    assert_same(same.tensors(), first.tensors())
    assert not torch.equal(
        other.tensors()["model.head.linear.weight"], first.tensors()["model.head.linear.weight"]
    )


def test_tensors_are_copies(make_trainer):
    trainer = make_trainer(training="windows")
    trainer.run()
    kept = trainer.tensors()
    before = {name: tensor.clone() for name, tensor in kept.items()}
    again = make_trainer(training="windows", epochs=8)
    again.restore(kept, asdict(trainer.progress))
    again.run()
    assert_same(kept, before)
    assert "carried.recurrent" in kept


# --- trouble -------------------------------------------------------------------------------------


def poisoned(real, calls, loss=math.nan):
    """``backpropagate``, whose given calls (the first is 1) return a loss that is not finite."""
    counter = itertools.count(1)

    def backpropagate(model, inputs, targets, state, *args, **kwargs):
        done = real(model, inputs, targets, state, *args, **kwargs)
        return Pass(loss, done.state) if next(counter) in calls else done

    return backpropagate


@pytest.mark.parametrize("training", ["one-shot", "windows"])
@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_bad_step_is_undone_and_the_learning_rate_halved(
    training, loss, make_trainer, monkeypatch
):
    monkeypatch.setattr(fit, "backpropagate", poisoned(fit.backpropagate, {4}, loss))
    states = []
    trainer = make_trainer(training=training, anneal=False)
    real = trainer._step
    monkeypatch.setattr(
        trainer, "_step", lambda began_s: states.append(trainer.tensors()) or real(began_s)
    )
    trainer.run()
    # the state that gave a bad loss is not kept; that before it gave a good one
    assert_same(states[4], states[2])
    assert trainer.progress.step == trainer.n_steps
    assert [report.step for report in trainer.journal.reports] == [*range(1, trainer.n_steps + 1)]
    rates = [report.lr for report in trainer.journal.reports]
    assert rates == [0.01] * 3 + [0.005] * (len(rates) - 3)
    assert len(trainer.journal.said) == 1
    assert trainer.journal.said[0].startswith("step 4: loss or gradient is not finite")
    assert "learning rate halved to 0.005" in trainer.journal.said[0]
    assert trainer.progress.halvings == 1
    assert trainer.progress.troubles == 0
    assert all(torch.isfinite(tensor).all() for tensor in trainer.tensors().values())


def test_weights_that_became_nan_are_put_back(make_trainer):
    def spoil(report):
        if report.step == 4:
            with torch.no_grad():
                trainer.model.recurrent.layers[0].weight_hh_l0[0, 0] = math.nan

    trainer = make_trainer(on_step=spoil)
    trainer.run()
    assert trainer.progress.step == 10
    assert trainer.progress.halvings == 1
    assert all(torch.isfinite(tensor).all() for tensor in trainer.tensors().values())
    assert all(math.isfinite(report.loss) for report in trainer.journal.reports)


def test_a_gradient_that_is_not_finite_is_trouble_though_the_loss_is(make_trainer):
    trainer = make_trainer()
    calls = itertools.count(1)

    def spoil(gradient):
        return gradient * math.inf if next(calls) == 9 else gradient

    trainer.model.head.linear.bias.register_hook(spoil)
    trainer.run()
    assert trainer.progress.halvings == 1
    assert trainer.progress.step == 10
    assert all(torch.isfinite(tensor).all() for tensor in trainer.tensors().values())


def test_three_bad_steps_in_a_row_end_the_run(make_trainer, monkeypatch, tmp_path):
    monkeypatch.setattr(fit, "backpropagate", poisoned(fit.backpropagate, {3, 5, 6, 8, 9, 10}))
    trainer = make_trainer(epochs=9)
    with pytest.raises(TrainingError, match=r"3 times in a row.*Try a lower --lr"):
        trainer.run()
    # alone and twice in a row it went on; 10 calls, 6 of them bad
    assert trainer.progress.step == 4
    assert len(trainer.journal.said) == 5
    tensors, progress, best = trainer.journal.saved[-1]
    assert not best
    assert progress["step"] == 4
    path = tmp_path / "last.safetensors"
    save_checkpoint(path, tensors, {"progress": progress})
    tensors, facts = load_checkpoint(path)
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())
    again = make_trainer(epochs=9)
    again.restore(tensors, facts["progress"])
    again.run()  # with the learning rate halved six times
    assert again.progress.step == 18
    assert again.journal.reports[0].lr < 0.01 / 2**6


def test_songs_with_nan_end_the_run_and_leave_the_weights_alone(make_trainer):
    songs = ar_songs()
    for song in songs:
        song[30] = math.nan
    trainer = make_trainer(songs=songs)
    before = trainer.tensors()
    with pytest.raises(TrainingError, match="step 1"):
        trainer.run()
    assert_same(trainer.journal.saved[-1][0], before)


def test_an_absurd_learning_rate_ends_in_words(make_trainer, make_model):
    """Steps overflow the weights at once, from finite gradients; nothing of it is saved."""
    songs = [100 * song for song in ar_songs()]
    model = make_model(dtype=torch.float32, loss="mse")
    trainer = make_trainer(
        songs=songs, model=model, optimizer="sgd", lr=1e38, clip=1e6, anneal=False
    )
    before = {name: tensor.clone() for name, tensor in trainer.model.named_parameters()}
    with pytest.raises(TrainingError, match="Try a lower --lr"):
        trainer.run()
    saved = trainer.journal.saved[-1][0]
    assert_same({name: saved[f"model.{name}"] for name in before}, before)


def test_a_learning_rate_too_high_falls_until_it_works(make_trainer, make_model):
    model = make_model(dtype=torch.float32, loss="mse")
    trainer = make_trainer(model=model, optimizer="sgd", lr=1e25, clip=1.0, epochs=100)
    trainer.run()
    assert trainer.progress.step == 200
    assert trainer.progress.halvings > 10
    assert all(torch.isfinite(tensor).all() for tensor in trainer.tensors().values())


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

    first.model.recurrent.register_forward_hook(request)
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
    short, long = make_trainer(epochs=5, budget_minutes=60), make_trainer(
        epochs=5000, budget_minutes=0.1
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
    batch = trainer.batches[0]
    parameters, base, _ = model(batch.inputs, model.initial_state(1))
    loss = model.loss(parameters, base, batch.targets).mean()
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


def test_windows_carry_the_state_and_one_shot_does_not(make_trainer):
    trainer = make_trainer(training="windows", epochs=2, lr=1e-12)  # the weights stand still
    trainer.model.recurrent.dropout = 0.0
    trainer.run()
    batches = trainer.batches
    state = trainer.model.initial_state(3)
    for step in range(batches.steps_per_epoch):
        parameters, base, state = trainer.model(batches[step].inputs, state)
        loss = trainer.model.loss(parameters, base, batches[step].targets).mean().item()
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
