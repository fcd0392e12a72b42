"""Packed matrix products and vector functions against numpy."""

import numpy as np
import pytest
from numba import njit

from noizenet.kernels.math import TANH_ERROR, sigmoid, tanh
from noizenet.kernels.panels import aligned_zeros, multiply, pack, padded
from noizenet.kernels.vector import MAX_ROWS, lanes_of, load, store


@njit
def apply_tanh(x, y):
    for i in range(0, len(x), lanes_of(x)):
        store(y, i, tanh(load(x, i)))


@njit
def apply_sigmoid(x, y):
    for i in range(0, len(x), lanes_of(x)):
        store(y, i, sigmoid(load(x, i)))


@pytest.mark.parametrize(("dtype", "error"), [(np.float32, TANH_ERROR), (np.float64, 5e-16)])
def test_activations(dtype, error):
    wide = np.linspace(-40, 40, 100_000)
    near_zero = np.geomspace(1e-30, 1, 1000)
    x = np.concatenate([wide, near_zero, -near_zero]).astype(dtype)
    y = np.empty_like(x)
    apply_tanh(x, y)
    exact = np.tanh(x.astype(np.float64))
    assert np.max(np.abs(y - exact)) < error
    assert np.max(np.abs(y)) == 1
    small = (np.abs(x) < 1) & (x != 0)
    assert np.max(np.abs(y[small] / exact[small] - 1)) < error
    apply_sigmoid(x, y)
    assert np.max(np.abs(y - 1 / (1 + np.exp(-x.astype(np.float64))))) < error
    assert y.min() >= 0
    assert y.max() == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_activations_at_the_edges(dtype):
    x = np.array([np.nan, np.inf, -np.inf, 0, 30, -30, 9, -9], dtype)
    y = np.empty_like(x)
    apply_tanh(x, y)
    np.testing.assert_array_equal(y[:6], [np.nan, 1, -1, 0, 1, -1])
    apply_sigmoid(x, y)
    np.testing.assert_array_equal(y[:4], [np.nan, 1, 0, 0.5])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_rows", range(1, MAX_ROWS + 1))
@pytest.mark.parametrize(
    ("n_inputs", "n_segments", "n_outputs"),
    [(50, 1, 200), (200, 4, 50), (3, 1, 1), (1, 1, 512), (128, 1, 333), (12, 3, 97), (5, 1, 24)],
)
def test_multiply(dtype, n_rows, n_inputs, n_segments, n_outputs):
    draw = np.random.default_rng(0)
    matrix = draw.integers(-8, 9, (n_inputs, n_outputs)).astype(dtype)
    x = draw.integers(-8, 9, (n_rows, n_inputs)).astype(dtype)
    start = draw.integers(-8, 9, (n_rows, n_outputs)).astype(dtype)
    panels = pack(matrix, n_segments, n_rows)
    step = padded(n_outputs, dtype)
    begin, result = aligned_zeros(n_rows * step, dtype), aligned_zeros(n_rows * step, dtype)
    begin[: n_rows * step].reshape(n_rows, step)[:, :n_outputs] = start
    for reverse in (False, True):
        result[:] = 0
        multiply(
            panels, n_rows, x.ravel(), 0, n_inputs, n_inputs // n_segments,
            begin, 0, step, result, 0, step, reverse,
        )  # fmt: skip
        y = result[: n_rows * step].reshape(n_rows, step)
        # integers: every order of summation gives the same float
        assert np.array_equal(y[:, :n_outputs], start + x @ matrix)
        assert np.all(y[:, n_outputs:] == 0)
