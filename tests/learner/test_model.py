import librosa
import numpy as np
import pytest
import scipy.linalg
import scipy.signal
import torch
from torch import nn

from noizenet.learner.model import State, fit_linear_prediction
from noizenet.learner.recurrent import FORGET_BIAS, LAYERS, Recurrent

CELLS = ["lstm", "gru", "rnn"]
PREDICTION = (1.2, -0.7, 0.1)
MODELS = {
    "mixture": {},
    "predicted mixture": {"prediction": PREDICTION},
    "predicted value": {"prediction": PREDICTION, "loss": "mse"},
    "value": {"loss": "mae"},
    "codes": {"loss": "mulaw", "n_codes": 256},
    "frames": {"n_features": 6},
}


def numbers_for(model, batch=2, n_steps=23, seed=0):
    generator = torch.Generator().manual_seed(seed)
    if model.n_codes is not None:
        return torch.randint(model.n_codes, (batch, n_steps), generator=generator)
    dtype = model.residual_scale.dtype
    return torch.randn(batch, n_steps, model.n_features, generator=generator, dtype=dtype)


def in_chunks(model, numbers, lengths):
    """Read chunk by chunk with the state carried: parameters, base, unit, past, …"""
    state, found, axes = model.initial_state(len(numbers)), [], []
    nowhere = torch.zeros(len(numbers), 0)
    for part in numbers.split(lengths, dim=1):
        parameters, axis, state = model(part, state)
        found.append(parameters)
        axes.append((nowhere, nowhere) if axis is None else axis)
    return torch.cat(found, 1), *(torch.cat(part, 1) for part in zip(*axes, strict=True)), *state


# --- what is generated is what was trained -------------------------------------------------------


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", MODELS)
def test_whole_equals_chunks_equals_single_steps(kind, layers, cell, make_model):
    model = make_model(cell=cell, layers=layers, **MODELS[kind])
    numbers = numbers_for(model)
    whole = in_chunks(model, numbers, [23])
    for lengths in ([1, 7, 2, 13], [1] * 23):
        parts = in_chunks(model, numbers, lengths)
        for expected, found in zip(whole, parts, strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert whole[0].shape == (2, 23, model.head.linear.out_features)
    # the state matters: forgotten at each chunk, it gives something else
    fresh = model(numbers[:, 1:8], model.initial_state(2))[0]
    assert (fresh - whole[0][:, 1:8]).abs().max() > 1e-3


@pytest.mark.parametrize("kind", MODELS)
def test_sequences_of_a_batch_do_not_meet(kind, make_model):
    model = make_model(layers=2, **MODELS[kind])
    numbers = numbers_for(model, batch=3)
    together = model(numbers, model.initial_state(3))[0]
    alone = model(numbers[1:2], model.initial_state(1))[0]
    torch.testing.assert_close(together[1:2], alone, rtol=0, atol=1e-12)


# --- causality -----------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("kind", [kind for kind in MODELS if kind != "codes"])
def test_no_output_knows_a_later_input(kind, cell, make_model):
    model = make_model(cell=cell, layers=2, **MODELS[kind])
    numbers = numbers_for(model, batch=1, n_steps=12).requires_grad_()
    parameters, axis, _ = model(numbers, model.initial_state(1))
    for outputs in (parameters,) if axis is None else (parameters, axis.base):
        for t in range(12):
            gradient = torch.autograd.grad(outputs[0, t].sum(), numbers, retain_graph=True)[0][0]
            assert (gradient[t + 1 :] == 0).all()
            assert gradient[t].abs().max() > 0  # it does know the present one


def test_no_code_is_known_before_it_is_read(make_model):
    model = make_model(layers=2, **MODELS["codes"])
    codes = numbers_for(model, batch=1, n_steps=12)
    before = model(codes, model.initial_state(1))[0]
    for t in range(12):
        changed = codes.clone()
        changed[0, t] = (changed[0, t] + 1) % 256
        after = model(changed, model.initial_state(1))[0]
        assert torch.equal(after[:, :t], before[:, :t])
        assert not torch.equal(after[:, t], before[:, t])


# --- the linear prediction -----------------------------------------------------------------------


def ar_process(coefficients, n_samples, seed=0):
    noise = np.random.default_rng(seed).standard_normal(n_samples)
    return scipy.signal.lfilter([1], np.concatenate(([1], -np.asarray(coefficients))), noise)


def test_linear_prediction_solves_the_normal_equations_of_all_songs():
    songs = [ar_process((1.5, -0.8), 3000, seed) * gain for seed, gain in ((0, 1), (1, 4))]
    order = 6
    lags = sum(
        np.array([song[k:] @ song[: len(song) - k] for k in range(order + 1)]) for song in songs
    )
    expected = np.linalg.solve(scipy.linalg.toeplitz(lags[:-1]), lags[1:])
    coefficients, residual_scale = fit_linear_prediction(songs, order)
    # up to the bandwidth expansion (0.9995 to the power of the lag) and -90 dB of noise
    np.testing.assert_allclose(coefficients, expected, atol=2e-3)
    inverse = np.concatenate(([1], -coefficients))
    errors = np.concatenate([scipy.signal.lfilter(inverse, [1], song) for song in songs])
    assert residual_scale == pytest.approx(np.sqrt(np.mean(errors**2)), rel=1e-9)


def test_linear_prediction_agrees_with_librosa():
    song = ar_process((1.5, -0.8), 50_000)
    coefficients, residual_scale = fit_linear_prediction([song], 2)
    np.testing.assert_allclose(coefficients, -librosa.lpc(song, order=2)[1:], atol=5e-3)
    assert residual_scale == pytest.approx(1, rel=0.02)  # the noise that went in


@pytest.mark.parametrize("order", [1, 8, 32])
def test_the_prediction_fed_with_itself_dies_away(order):
    time_s = np.arange(4000) / 22_050
    tone = np.sin(2 * np.pi * 440 * time_s)
    chord = tone + np.sin(2 * np.pi * 554.4 * time_s) + 0.5 * np.sin(2 * np.pi * 2000 * time_s)
    noise = np.random.default_rng(0).standard_normal(4000)
    for songs in ([tone], [chord], [chord, noise * 1e-3], [noise]):
        coefficients, residual_scale = fit_linear_prediction(songs, order)
        poles = np.roots(np.concatenate(([1], -coefficients)))
        assert np.abs(poles).max() < 0.9999
        assert 0 < residual_scale < 1.1 * np.sqrt(np.mean(np.concatenate(songs) ** 2))


def test_no_linear_prediction():
    coefficients, residual_scale = fit_linear_prediction([np.ones(5)], 0)
    assert len(coefficients) == 0
    assert residual_scale == 1.0


def test_the_network_reads_sample_prediction_and_error(make_model):
    model = make_model(prediction=PREDICTION)
    heard = numbers_for(model, batch=1, n_steps=40)
    features, axis, past, base = model.read(heard, model.initial_state(1), None)
    samples = heard[0, :, 0].numpy()
    predictions = scipy.signal.lfilter(PREDICTION, [1], samples)  # of the sample after each
    np.testing.assert_allclose(axis.base[0, :, 0], predictions, atol=1e-12)
    assert (axis.unit == 0.25).all()
    errors = (samples - np.concatenate(([0], predictions[:-1]))) / 0.25
    expected = np.stack((samples, predictions, errors), 1)
    np.testing.assert_allclose(features[0], expected, atol=1e-12)
    np.testing.assert_array_equal(past[0], samples[-3:])
    np.testing.assert_allclose(base[0], predictions[-1:], atol=1e-12)
    # what the head says is about the next sample less its prediction, in units of the residual
    targets = torch.randn(1, 40, 1, dtype=torch.float64)
    residual = model.residual(targets, axis)
    np.testing.assert_allclose(residual[0, :, 0], (targets[0, :, 0].numpy() - predictions) / 0.25)


def test_a_draw_is_put_back_on_its_prediction(make_model):
    """The loss of a value head is 0 at what it plays at temperature 0."""
    model = make_model(**MODELS["predicted value"])
    numbers = numbers_for(model)
    parameters, axis, _ = model(numbers, model.initial_state(2))
    uniforms = torch.full((2, 23, 1, 1), 0.5, dtype=torch.float64)
    cold = model.sample(parameters, axis, uniforms, 0.0)
    assert model.loss(parameters, axis, cold).abs().max() < 1e-20
    assert (cold - axis.base - 0.25 * parameters).abs().max() < 1e-12


# --- the stack -----------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("layers", [1, 2, 3, 4])
def test_stack_agrees_with_torch(cell, layers):
    torch.manual_seed(0)
    stack = Recurrent(cell, 3, 5, layers, dropout=0.5).double()  # unused: no masks are given
    oracle = LAYERS[cell](3, 5, layers, batch_first=True).double()
    for depth, layer in enumerate(stack.layers):
        for name, weight in layer.named_parameters():
            getattr(oracle, name.replace("_l0", f"_l{depth}")).data.copy_(weight)
    inputs = torch.randn(2, 17, 3, dtype=torch.float64)
    state = torch.randn_like(stack.initial_state(2))
    assert state.shape == (layers, 2 if cell == "lstm" else 1, 2, 5)
    outputs, last = stack(inputs, state, "torch")
    before = (state[:, 0].contiguous(), state[:, 1].contiguous()) if cell == "lstm" else state[:, 0]
    expected, after = oracle(inputs, before)
    torch.testing.assert_close(outputs, expected, rtol=0, atol=1e-12)
    after = torch.stack(after, 1) if cell == "lstm" else after[:, None]
    torch.testing.assert_close(last, after, rtol=0, atol=1e-12)


def test_a_state_begins_in_silence_and_of_the_models_kind(make_model):
    state = make_model(layers=2, prediction=PREDICTION, dtype=torch.float32).initial_state(3)
    assert isinstance(state, State)
    assert state.past.shape == (3, 3)
    assert state.recurrent.shape == (2, 2, 3, 5)
    assert state.base.shape == (3, 1)
    assert all(part.dtype == torch.float32 for part in state)
    assert not any(part.any() for part in state)


def test_forget_bias_is_set_and_no_other():
    """One of torch's two biases carries it; the gates beside it begin as torch's do."""
    torch.manual_seed(0)
    stack = Recurrent("lstm", 3, 50, 2, 0.0)
    for layer in stack.layers:
        total = layer.bias_ih_l0 + layer.bias_hh_l0
        forget = slice(50, 100)  # torch's order: input, forget, cell, output
        assert (total[forget] == FORGET_BIAS).all()
        assert total[:50].abs().max() < 0.3
        assert total[100:].abs().max() < 0.3
    for cell in ("gru", "rnn"):
        for layer in Recurrent(cell, 3, 50, 2, 0.0).layers:
            assert layer.bias_ih_l0.abs().max() < 0.15


@pytest.mark.parametrize("dropout", [0.2, 0.5])
def test_dropout_is_on_every_layers_output(dropout):
    torch.manual_seed(0)
    stack = Recurrent("gru", 3, 40, 3, dropout).double()
    seen, made = [], []
    for layer in stack.layers:
        layer.register_forward_hook(lambda layer, given, gave: seen.append(given[0]))
        layer.register_forward_hook(lambda layer, given, gave: made.append(gave[0]))
    inputs = torch.randn(2, 100, 3, dtype=torch.float64)
    outputs, _ = stack(inputs, stack.initial_state(2), "torch", torch.Generator().manual_seed(0))
    passed = [*seen[1:], outputs]  # what each layer's output became, the last one's too
    assert len(passed) == 3
    masks = []
    for before, after in zip(made, passed, strict=True):
        kept = after != 0
        masks.append(kept)
        assert 1 - kept.double().mean().item() == pytest.approx(dropout, abs=0.02)
        torch.testing.assert_close(after[kept], before[kept] / (1 - dropout))
    assert not torch.equal(masks[0], masks[1])
    # and the generator alone decides which
    again, _ = stack(inputs, stack.initial_state(2), "torch", torch.Generator().manual_seed(0))
    other, _ = stack(inputs, stack.initial_state(2), "torch", torch.Generator().manual_seed(1))
    assert torch.equal(again, outputs)
    assert not torch.equal(other, outputs)


def test_nothing_is_dropped_without_masks(make_model):
    model = make_model(layers=2, dropout=0.9)
    plain = make_model(layers=2, dropout=0.0)
    numbers = numbers_for(model)
    for mode in (model.eval, model.train):
        mode()
        torch.testing.assert_close(
            model(numbers, model.initial_state(2))[0],
            plain(numbers, plain.initial_state(2))[0],
            rtol=0,
            atol=0,
        )


def test_parameters_are_counted(make_model):
    model = make_model(cell="rnn", hidden=7, layers=2, loss="mse", prediction=PREDICTION)
    first, second, head = 7 * (3 + 7 + 2), 7 * (7 + 7 + 2), 7 + 1
    assert model.n_parameters() == first + second + head  # the prediction is not trained
    assert set(model.state_dict()) >= {"prediction", "residual_scale", "head.scale"}  # but kept


# --- the two engines -----------------------------------------------------------------------------


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_engines_compute_the_same(cell, dropout, make_model):
    """Outputs, state, masks and every gradient, that of the first state too."""
    found = {}
    for engine in ("torch", "numba"):
        model = make_model(
            cell=cell, layers=2, dropout=dropout, prediction=PREDICTION, engine=engine
        )
        numbers = numbers_for(model, n_steps=31)
        state = model.initial_state(2)
        first = (state.recurrent + 0.1).requires_grad_()
        masks = torch.Generator().manual_seed(3) if dropout else None
        parameters, axis, after = model(numbers, state._replace(recurrent=first), masks)
        loss = model.loss(parameters, axis, numbers.roll(-1, 1)).mean()
        (loss + after.recurrent.square().sum()).backward()
        gradients = {name: weight.grad for name, weight in model.named_parameters()}
        found[engine] = {
            "outputs": parameters,
            "state": after.recurrent,
            "base": axis.base,
            "first": first.grad,
            **gradients,
        }
    assert found["torch"].keys() == found["numba"].keys()
    for name, expected in found["torch"].items():
        torch.testing.assert_close(
            found["numba"][name],
            expected,
            rtol=1e-10,
            atol=1e-11,
            msg=lambda m, n=name: f"{n}: {m}",
        )


def test_layers_are_torchs_own():
    assert {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN} == LAYERS
