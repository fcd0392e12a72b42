import itertools
import math
from dataclasses import asdict

import pytest
import torch
from trainers import all_finite, ar_songs, assert_same, stopping_after

from noizenet.errors import TrainingError
from noizenet.learner import fit
from noizenet.learner.bptt import Pass
from noizenet.learner.fit import OPTIMIZERS
from noizenet.runs import load_checkpoint, save_checkpoint

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
    assert trainer.progress.step == trainer.part.n_steps
    assert [report.step for report in trainer.journal.reports] == [
        *range(1, trainer.part.n_steps + 1)
    ]
    rates = [report.lr for report in trainer.journal.reports]
    assert rates == [0.01] * 3 + [0.005] * (len(rates) - 3)
    assert len(trainer.journal.said) == 1
    assert trainer.journal.said[0].startswith("step 4: loss or gradient is not finite")
    assert "learning rate halved to 0.005" in trainer.journal.said[0]
    assert trainer.progress.halvings == 1
    assert trainer.progress.troubles == 0
    assert all_finite(trainer.tensors())


def test_weights_that_became_nan_are_put_back(make_trainer):
    def spoil(report):
        if report.step == 4:
            with torch.no_grad():
                trainer.part.model.recurrent.layers[0].weight_hh_l0[0, 0] = math.nan

    trainer = make_trainer(on_step=spoil)
    trainer.run()
    assert trainer.progress.step == 10
    assert trainer.progress.halvings == 1
    assert all_finite(trainer.tensors())
    assert all(math.isfinite(report.loss) for report in trainer.journal.reports)


def test_a_gradient_that_is_not_finite_is_trouble_though_the_loss_is(make_trainer):
    trainer = make_trainer()
    calls = itertools.count(1)

    def spoil(gradient):
        return gradient * math.inf if next(calls) == 9 else gradient

    trainer.part.model.head.linear.bias.register_hook(spoil)
    trainer.run()
    assert trainer.progress.halvings == 1
    assert trainer.progress.step == 10
    assert all_finite(trainer.tensors())


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
    assert all_finite(tensors)
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
    before = {name: tensor.clone() for name, tensor in trainer.part.model.named_parameters()}
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
    assert all_finite(trainer.tensors())
