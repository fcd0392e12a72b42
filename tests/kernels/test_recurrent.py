"""The fast recurrent layers equal the plain ones, torch's, finite differences and themselves."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from noizenet.errors import ParameterError
from noizenet.kernels import recurrent, reference

CELLS = ("rnn", "lstm", "gru")
# Largest error allowed, relative to the largest number of the array or to 1. Float32: the states
# differ by a few roundings and the fast tanh, the sums over thousands of steps by more.
TOLERANCE = {np.dtype(np.float32): 2e-5, np.dtype(np.float64): 1e-11}
TORCH_MODULES = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}


def make_problem(cell, n_batch, n_steps, n_inputs, n_hidden, dtype=np.float32, rng=0):
    """Inputs of forward (a list) and the gradients that backward starts from."""
    draw = np.random.default_rng(rng)
    n_gates = {"rnn": 1, "lstm": 4, "gru": 3}[cell] * n_hidden
    bound = n_hidden**-0.5
    shapes = ((n_gates, n_inputs), (n_gates, n_hidden), (n_gates,), (n_gates,))
    weights = [draw.uniform(-bound, bound, shape).astype(dtype) for shape in shapes]
    state = (n_batch, n_hidden)
    x = draw.standard_normal((n_batch, n_steps, n_inputs)).astype(dtype)
    h0 = draw.uniform(-1, 1, state).astype(dtype)
    c0 = draw.standard_normal(state).astype(dtype) if cell == "lstm" else None
    dh = draw.standard_normal((n_batch, n_steps, n_hidden)).astype(dtype)
    dh_last = draw.standard_normal(state).astype(dtype)
    dc_last = draw.standard_normal(state).astype(dtype) if cell == "lstm" else None
    return [cell, x, *weights, h0, c0], [dh, dh_last, dc_last]


def run(module, arguments, gradients, **options):
    """States and gradients of a problem in one list."""
    h, c = module.forward(*arguments, **options)
    return [h, c, *module.backward(*arguments, h, c, *gradients, **options)]


def assert_equal(got, expected):
    names = ("h", "c", "dx", "dw_ih", "dw_hh", "db_ih", "db_hh", "dh0", "dc0")
    for name, a, b in zip(names, got, expected, strict=True):
        assert (a is None) == (b is None), name
        if a is not None:
            assert a.shape == b.shape, name
            assert a.dtype == b.dtype, name
            error = np.max(np.abs(a - b)) / max(1, np.max(np.abs(b)))
            assert error < TOLERANCE[a.dtype], f"{name}: {error:.1e}"


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n_batch", "n_threads"), [(1, 1), (3, 1), (3, 2), (1, 2)])
@pytest.mark.parametrize("n_steps", [1, 31, 4097])
def test_equals_reference(cell, dtype, n_batch, n_threads, n_steps):
    problem = make_problem(cell, n_batch, n_steps, 1, 13, dtype)
    assert_equal(
        run(recurrent, *problem, n_threads=n_threads),
        run(reference, *problem),
    )


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("n_hidden", [1, 7, 8, 16, 50, 64, 128, 200])
@pytest.mark.parametrize(("n_batch", "n_inputs"), [(1, 1), (1, 20), (7, 3), (13, 9)])
def test_every_size_equals_reference(cell, n_hidden, n_batch, n_inputs):
    problem = make_problem(cell, n_batch, 37, n_inputs, n_hidden)
    assert_equal(run(recurrent, *problem, n_threads=2), run(reference, *problem))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_inputs", [1, 50])
def test_equals_torch(cell, dtype, n_inputs):
    arguments, (dh, dh_last, dc_last) = make_problem(cell, 2, 300, n_inputs, 50, dtype)
    tensors = [None if a is None else torch.tensor(a) for a in arguments[1:]]
    x, *weights, h0, c0 = (t if t is None else t.requires_grad_() for t in tensors)
    module = TORCH_MODULES[cell](n_inputs, 50, batch_first=True)
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    state = (h0[None], c0[None]) if cell == "lstm" else h0[None]
    out, last = torch.func.functional_call(
        module, dict(zip(names, weights, strict=True)), (x, state)
    )
    last = last if cell == "lstm" else (last,)
    loss = (out * torch.tensor(dh)).sum()
    for final, gradient in zip(last, (dh_last, dc_last), strict=False):
        loss = loss + (final[0] * torch.tensor(gradient)).sum()
    wanted = [t for t in (x, *weights, h0, c0) if t is not None]
    expected = [g.numpy() for g in torch.autograd.grad(loss, wanted)]
    expected += [None] * (7 - len(expected))
    h, c, *gradients = run(recurrent, arguments, [dh, dh_last, dc_last])
    assert_equal([h, None, *gradients], [out.detach().numpy(), None, *expected])
    if cell == "lstm":
        assert_equal([c[:, -1]] + [None] * 8, [last[1][0].detach().numpy()] + [None] * 8)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("n_inputs", [2, 11])
def test_gradient_is_that_of_finite_differences(cell, n_inputs):
    arguments, gradients = make_problem(cell, 2, 9, n_inputs, 5, np.float64)
    _, _, *analytic = run(recurrent, arguments, gradients)

    def loss():
        h, c = recurrent.forward(*arguments)
        total = np.sum(h * gradients[0]) + np.sum(h[:, -1] * gradients[1])
        return total + (np.sum(c[:, -1] * gradients[2]) if cell == "lstm" else 0)

    step = 1e-6
    for argument, gradient in zip(arguments[1:], analytic, strict=True):
        if argument is None:
            continue
        numeric = np.empty_like(argument)
        for index in np.ndindex(argument.shape):
            value = argument[index]
            argument[index] = value + step
            above = loss()
            argument[index] = value - step
            numeric[index] = (above - loss()) / (2 * step)
            argument[index] = value
        np.testing.assert_allclose(gradient, numeric, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("n_inputs", [1, 12])
def test_whole_equals_chunks_equals_single_steps(cell, n_inputs):
    (_, x, *weights, h0, c0), gradients = make_problem(cell, 2, 1500, n_inputs, 50)
    arguments = [cell, x, *weights, h0, c0]
    h, c, *whole = run(recurrent, arguments, gradients)

    edges = [0, 1, 700, 1057, 1500]
    chunks = [slice(a, b) for a, b in pairwise(edges)]
    h_now, c_now, starts = h0, c0, []
    for chunk in chunks:
        starts.append((h_now, c_now))
        h_part, c_part = recurrent.forward(cell, x[:, chunk], *weights, h_now, c_now)
        np.testing.assert_allclose(h_part, h[:, chunk], rtol=0, atol=2e-5)
        h_now, c_now = h_part[:, -1], None if c is None else c_part[:, -1]

    dh, dh_now, dc_now = gradients
    dx, sums = np.empty_like(x), 0
    for chunk, (h_start, c_start) in reversed(list(zip(chunks, starts, strict=True))):
        c_part = None if c is None else c[:, chunk]
        dx[:, chunk], *d_weights, dh_now, dc_now = recurrent.backward(
            cell, x[:, chunk], *weights, h_start, c_start, h[:, chunk], c_part,
            dh[:, chunk], dh_now, dc_now,
        )  # fmt: skip
        sums = [a + b for a, b in zip(sums, d_weights, strict=True)] if sums else d_weights
    assert_equal([None, None, dx, *sums, dh_now, dc_now], [None, None, *whole])

    h_now, c_now = h0, c0
    for t in range(60):
        h_now, c_now = recurrent.step(cell, x[:, t], *weights, h_now, c_now)
        np.testing.assert_allclose(h_now, h[:, t], rtol=0, atol=1e-5)


@pytest.mark.parametrize("cell", CELLS)
def test_causal(cell):
    arguments, (dh, dh_last, dc_last) = make_problem(cell, 1, 1100, 1, 16)
    h, c = recurrent.forward(*arguments)
    dh[:, 1050:] = 0
    zero = None if dc_last is None else dc_last * 0
    dx = recurrent.backward(*arguments, h, c, dh, dh_last * 0, zero)[0]
    assert np.all(dx[:, 1050:] == 0)
    assert np.all(dx[:, 1049] != 0)
    later = [a if i != 1 else a.copy() for i, a in enumerate(arguments)]
    later[1][:, 1050:] += 1
    h_later, _ = recurrent.forward(*later)
    assert np.array_equal(h_later[:, :1050], h[:, :1050])
    assert not np.array_equal(h_later[:, 1050], h[:, 1050])


@pytest.mark.parametrize("cell", CELLS)
def test_sequences_of_a_batch_are_independent(cell):
    arguments, gradients = make_problem(cell, 5, 50, 1, 50)
    everything = run(recurrent, arguments, gradients, n_threads=2)
    _, x, *weights, h0, c0 = arguments
    for b in range(5):
        one = slice(b, b + 1)
        c_one = None if c0 is None else c0[one]
        h, _ = recurrent.forward(cell, x[one], *weights, h0[one], c_one)
        np.testing.assert_allclose(h, everything[0][one], rtol=0, atol=1e-6)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_seen_and_stays_in_its_sequence(cell, value):
    arguments, _ = make_problem(cell, 3, 40, 1, 10)
    arguments[1][1, 20] = value
    arguments[2][:] = np.abs(arguments[2])
    h, _ = recurrent.forward(*arguments)
    assert np.all(np.isfinite(h[[0, 2]]))
    assert np.all(np.isfinite(h[1, :20]))
    if np.isnan(value):
        assert np.all(np.isnan(h[1, 20:]))


@pytest.mark.parametrize("cell", CELLS)
def test_same_run_same_bits(cell):
    problem = make_problem(cell, 3, 2000, 1, 50)
    first, second = (run(recurrent, *problem, n_threads=2) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert (a is None and b is None) or np.array_equal(a, b)


@pytest.mark.parametrize("cell", CELLS)
def test_arrays_need_not_be_contiguous_and_dx_is_optional(cell):
    arguments, gradients = make_problem(cell, 2, 70, 3, 16)
    expected = run(recurrent, arguments, gradients)
    strided = [a if not isinstance(a, np.ndarray) else np.asfortranarray(a) for a in arguments]
    h, c = recurrent.forward(*strided)
    dx, *rest = recurrent.backward(*strided, h, c, *gradients, need_dx=False)
    assert dx is None
    assert_equal([h, c, None, *rest], [*expected[:2], None, *expected[3:]])


def test_bad_input():
    arguments, gradients = make_problem("lstm", 2, 5, 3, 4)
    with pytest.raises(ParameterError, match=r"cell 'lsmt' is unknown; choose one of rnn, lstm"):
        recurrent.forward("lsmt", *arguments[1:])
    for index, bad, message in (
        (1, arguments[1][0], "x must be"),
        (1, arguments[1].astype(np.float16), "x must be"),
        (1, arguments[1][:, :0], "at least 1"),
        (2, arguments[2][:, :2], "w_ih must be"),
        (3, arguments[3].astype(np.float64), "w_hh must be"),
        (4, arguments[4][:3], "b_ih must be"),
        (6, arguments[6][:1], "h0 must be"),
        (7, None, "c0 must be float32"),
    ):
        wrong = list(arguments)
        wrong[index] = bad
        with pytest.raises(ValueError, match=message):
            recurrent.forward(*wrong)
    h, c = recurrent.forward(*arguments)
    with pytest.raises(ValueError, match="dh must be"):
        recurrent.backward(*arguments, h, c, gradients[0][:, 1:], *gradients[1:])
    with pytest.raises(ValueError, match="dc_last must be"):
        recurrent.backward(*arguments, h, c, *gradients[:2], None)
    with pytest.raises(ValueError, match="n_threads"):
        recurrent.forward(*arguments, n_threads=0)
