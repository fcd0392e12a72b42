import weakref

import pytest
import torch

from noizenet.learner import bptt
from noizenet.learner.bptt import backpropagate, chunk_masks
from noizenet.learner.model import State

N_STEPS = 29
MODELS = {
    "plain": {"layers": 2},
    "predicted": {"prediction": (1.2, -0.7, 0.1)},
    "codes": {"loss": "mulaw", "n_codes": 20, "cell": "gru"},
    "value": {"loss": "mse", "n_features": 3, "cell": "rnn"},
}


def sequence(model, n_steps=N_STEPS):
    """Inputs, targets and a state that is not silence."""
    torch.manual_seed(1)
    if model.n_codes is not None:
        inputs, targets = torch.randint(model.n_codes, (2, 2, n_steps))
    else:
        inputs, targets = torch.randn(2, 2, n_steps, model.n_features, dtype=torch.float64)
    silence = model.initial_state(2)
    state = State(silence.past + 0.3, silence.base + 0.2, silence.recurrent + 0.1)
    return inputs, targets, state


def gradients(model):
    found = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    model.zero_grad(set_to_none=True)
    return found


def reference(model, inputs, targets, state, chunk_steps, mask_seed, cut=False):
    """The gradient by autograd over all chunks at once; with ``cut``, truncated between them."""
    losses = []
    for index, start in enumerate(range(0, inputs.shape[1], chunk_steps)):
        part = slice(start, start + chunk_steps)
        masks = chunk_masks(model, mask_seed, index)
        parameters, axis, state = model(inputs[:, part], state, masks)
        losses.append(model.loss(parameters, axis, targets[:, part]))
        state = state.detached() if cut else state
    loss = torch.cat(losses, 1).mean()
    loss.backward()
    return loss.item(), state.detached(), gradients(model)


def largest_difference(some, others):
    assert some.keys() == others.keys()
    return max((some[name] - others[name]).abs().max().item() for name in some)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize(
    ("kept_steps", "chunk_steps"),
    [(1, 99), (7, 99), (N_STEPS, 99), (N_STEPS + 5, 99), (15, 7), (N_STEPS, 7), (99, 7), (5, 7)],
)
def test_chunks_give_the_exact_gradient(
    kept_steps, chunk_steps, dropout, kind, make_model, monkeypatch
):
    """Whether all, some or one chunk's history is kept."""
    monkeypatch.setattr(bptt, "CHUNK_STEPS", chunk_steps)
    model = make_model(dropout=dropout, **MODELS[kind])
    inputs, targets, state = sequence(model)
    done = backpropagate(model, inputs, targets, state, kept_steps, mask_seed=5)
    found = gradients(model)
    chunk_steps = min(kept_steps, chunk_steps)
    loss, last, expected = reference(model, inputs, targets, state, chunk_steps, mask_seed=5)
    assert done.loss == pytest.approx(loss, abs=1e-12)
    assert largest_difference(found, expected) < 1e-10
    for part, wanted in zip(done.state, last, strict=True):
        torch.testing.assert_close(part, wanted, rtol=0, atol=1e-12)
        assert not part.requires_grad


@pytest.mark.parametrize(
    ("kept_steps", "n_runs"),
    [(7, 5 + 4), (8, 5 + 3), (14, 5 + 3), (15, 5 + 2), (N_STEPS, 5), (99, 5)],
)
def test_only_chunks_that_were_not_kept_are_run_again(kept_steps, n_runs, make_model, monkeypatch):
    """And never is the history of more steps kept than was allowed."""
    monkeypatch.setattr(bptt, "CHUNK_STEPS", 7)
    model = make_model()
    inputs, targets, state = sequence(model)
    hear, alive, most_alive = model.hear, [], []

    def counted(*known):
        heard = hear(*known)
        if torch.is_grad_enabled():
            alive.append(weakref.ref(heard[0]))
            most_alive.append(sum(hidden() is not None for hidden in alive))
        runs.append(1)
        return heard

    runs = []
    monkeypatch.setattr(model, "hear", counted)
    backpropagate(model, inputs, targets, state, kept_steps, mask_seed=0)
    assert len(runs) == n_runs
    assert max(most_alive) <= kept_steps


def test_ten_thousand_steps_in_float32_as_by_torch_in_float64(make_model, monkeypatch):
    """In one piece, with a part of the history kept: to the rounding of float32."""
    monkeypatch.setattr(bptt, "CHUNK_STEPS", 2048)
    n_steps, found = 10_000, []
    torch.manual_seed(0)
    numbers = torch.randn(1, n_steps + 1, 1)
    for engine, dtype, kept_steps in (
        ("torch", torch.float64, n_steps),
        ("numba", torch.float32, n_steps),
        ("numba", torch.float32, 5000),
    ):
        model = make_model(dtype=torch.float32, engine=engine, hidden=20, layers=2).to(dtype)
        part = numbers.to(dtype)
        backpropagate(
            model, part[:, :-1], part[:, 1:], model.initial_state(1), kept_steps, mask_seed=0
        )
        found.append(gradients(model))
    for others in found[1:]:
        for name, exact in found[0].items():
            error = (others[name] - exact).abs().max() / exact.abs().max()
            assert error < 3e-6, name


@pytest.mark.parametrize("kind", MODELS)
def test_the_size_of_the_chunks_changes_nothing(kind, make_model):
    """Without dropout (each chunk draws its own masks), every size gives the same step."""
    found = []
    for chunk_steps in (1, 7, 10, N_STEPS):
        model = make_model(**MODELS[kind])
        inputs, targets, state = sequence(model)
        done = backpropagate(
            model, inputs, targets, state, chunk_steps, mask_seed=5, observe_weight=0.7
        )
        scale = getattr(model.head, "scale", torch.zeros(1))
        found.append({"loss": torch.tensor(done.loss), "scale": scale, **gradients(model)})
    for other in found[:-1]:
        assert largest_difference(other, found[-1]) < 1e-10


@pytest.mark.parametrize("kind", MODELS)
def test_the_size_of_the_heads_blocks_changes_nothing(kind, make_model, monkeypatch):
    found = []
    for block_numbers in (1, 100, 1 << 20):
        monkeypatch.setattr(bptt, "HEAD_BLOCK_NUMBERS", block_numbers)
        model = make_model(dropout=0.4, **MODELS[kind])
        inputs, targets, state = sequence(model)
        done = backpropagate(model, inputs, targets, state, 10, mask_seed=5, observe_weight=0.7)
        scale = getattr(model.head, "scale", torch.zeros(1))
        found.append({"loss": torch.tensor(done.loss), "scale": scale, **gradients(model)})
    for other in found[:-1]:
        assert largest_difference(other, found[-1]) < 1e-10


def test_a_truncated_gradient_is_another(make_model):
    """So the tests above could fail: cut between chunks, the gradient is far from exact."""
    model = make_model(**MODELS["plain"])
    inputs, targets, state = sequence(model)
    exact = reference(model, inputs, targets, state, 7, mask_seed=5)
    cut = reference(model, inputs, targets, state, 7, mask_seed=5, cut=True)
    assert cut[0] == exact[0]
    assert largest_difference(cut[2], exact[2]) > 1e-4


def test_other_masks_give_another_gradient(make_model):
    model = make_model(dropout=0.4, **MODELS["plain"])
    inputs, targets, state = sequence(model)
    found = []
    for mask_seed in (5, 5, 6):
        backpropagate(model, inputs, targets, state, 7, mask_seed=mask_seed)
        found.append(gradients(model))
    assert largest_difference(found[0], found[1]) == 0
    assert largest_difference(found[0], found[2]) > 1e-4


def test_each_chunk_draws_its_own_masks(make_model):
    model = make_model(dropout=0.4)
    draws = [
        torch.rand(8, generator=chunk_masks(model, seed, index)).tolist()
        for seed, index in ((0, 0), (0, 1), (1, 0), (0, 0))
    ]
    assert draws[0] == draws[3]
    assert draws[0] != draws[1]
    assert draws[0] != draws[2]
    assert chunk_masks(make_model(dropout=0.0), 0, 0) is None


def test_gradients_are_added(make_model):
    model = make_model()
    inputs, targets, state = sequence(model)
    backpropagate(model, inputs, targets, state, 7, mask_seed=0)
    once = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    backpropagate(model, inputs, targets, state, 7, mask_seed=0)
    twice = gradients(model)
    assert largest_difference({name: 2 * g for name, g in once.items()}, twice) < 1e-14


def test_no_gradient_flows_beyond_the_beginning(make_model):
    model = make_model()
    inputs, targets, state = sequence(model)
    recurrent = state.recurrent.requires_grad_()
    state = state._replace(recurrent=recurrent)
    backpropagate(model, inputs, targets, state, 7, mask_seed=0)
    assert recurrent.grad is None


@pytest.mark.parametrize("n_calls", [1, 4, 6])
def test_a_pass_can_be_abandoned_between_chunks(n_calls, make_model):
    model = make_model()
    inputs, targets, state = sequence(model)
    calls = []

    def between():
        calls.append(1)
        if len(calls) == n_calls:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        backpropagate(model, inputs, targets, state, 7, mask_seed=0, between=between)
    assert len(calls) == n_calls


def test_a_value_head_hears_of_its_error_once(make_model):
    """With weight 1 its scale is that of this pass alone, however many chunks there were."""
    model = make_model(**MODELS["value"])
    inputs, targets, state = sequence(model)
    parameters, axis, _ = model(inputs, state)
    error = (parameters - model.residual(targets, axis)).abs().mean((0, 1))
    model.head.scale.fill_(123.0)
    model.head.observe(error.detach(), 1.0)
    expected = model.head.scale.clone()
    model.head.scale.fill_(123.0)
    backpropagate(model, inputs, targets, state, 4, mask_seed=0, observe_weight=1.0)
    torch.testing.assert_close(model.head.scale, expected, rtol=1e-12, atol=0)


def test_songs_side_by_side_give_the_mean_of_their_gradients(make_model):
    model = make_model(layers=2)
    lengths = (N_STEPS, 11)
    torch.manual_seed(2)
    inputs = torch.randn(2, 2, N_STEPS, 1, dtype=torch.float64)
    weights = torch.zeros(2, N_STEPS, dtype=torch.float64)
    alone = []
    for row, n in enumerate(lengths):
        weights[row, :n] = 1 / (2 * n)
        song, target = inputs[0, row : row + 1, :n], inputs[1, row : row + 1, :n]
        backpropagate(model, song, target, model.initial_state(1), 7, mask_seed=0)
        alone.append(gradients(model))
    mean = {name: (alone[0][name] + alone[1][name]) / 2 for name in alone[0]}
    backpropagate(
        model, *inputs, model.initial_state(2), kept_steps=7, mask_seed=0, weights=weights
    )
    assert largest_difference(gradients(model), mean) < 1e-12
