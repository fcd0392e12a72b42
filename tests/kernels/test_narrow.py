"""Products with 8-bit weights: exact integers, and close to what they stand for."""

import numpy as np
import pytest
from numba import njit

from noizenet.kernels.narrow import (
    LARGEST_WEIGHT,
    add_narrow,
    input_unit,
    pack_narrow,
    quantise,
    round_inputs,
)
from noizenet.kernels.panels import aligned_zeros, padded
from noizenet.kernels.vector import MAX_ROWS, lanes_of

SIZES = [(50, 200), (509, 97), (64, 333), (4, 1), (1, 24), (2, 8)]


@njit
def add_product(panels, units, rows, x, n_inputs, rounded, y, y_step):
    """y[r] += x[r] @ matrix, panel after panel."""
    for r in range(rows):
        round_inputs(x, r * n_inputs, n_inputs, rounded, r * 2 * panels.n_inputs)
    for panel in range(panels.n_panels):
        width = panels.narrow + 1 if panel < panels.n_wide else panels.narrow
        column = (panel * panels.narrow + min(panel, panels.n_wide)) * lanes_of(x)
        add_narrow(
            width, rows, panels.data, 2 * column * panels.n_inputs,
            rounded, 2 * panels.n_inputs, units, column, y, column, y_step, panels.n_inputs,
        )  # fmt: skip


def product(matrix, x, start):
    """``start + x @ matrix`` by the compiled kernel, with room to see what is overwritten."""
    n_rows, n_outputs = start.shape
    panels, units = pack_narrow(matrix, n_rows)
    step = padded(n_outputs, np.float32)
    result = aligned_zeros(n_rows * step, np.float32)
    rows = result[: n_rows * step].reshape(n_rows, step)
    rows[:, :n_outputs] = start
    rounded = np.full(n_rows * 2 * panels.n_inputs, 99, np.int16)
    add_product(panels, units, n_rows, x.ravel(), x.shape[1], rounded, result, step)
    assert np.all(rows[:, n_outputs:] == 0)
    return rows[:, :n_outputs].copy()


def make(n_inputs, n_outputs, n_rows):
    draw = np.random.default_rng(0)
    matrix = draw.standard_normal((n_inputs, n_outputs)).astype(np.float32)
    x = draw.uniform(-1, 1, (n_rows, n_inputs)).astype(np.float32)
    return matrix, x, draw.standard_normal((n_rows, n_outputs)).astype(np.float32)


@pytest.mark.parametrize("n_rows", range(1, MAX_ROWS + 1))
@pytest.mark.parametrize(("n_inputs", "n_outputs"), SIZES)
def test_equals_plain_integers(n_rows, n_inputs, n_outputs):
    matrix, x, start = make(n_inputs, n_outputs, n_rows)
    got = product(matrix, x, np.zeros_like(start))
    integers, scales = quantise(matrix)
    unit = np.float32(input_unit(n_inputs))
    rounded = np.floor(x * unit + np.float32(0.5)).astype(np.int64)
    sums = rounded @ integers.astype(np.int64)
    assert np.array_equal(got, sums.astype(np.float32) * (scales / unit))


@pytest.mark.parametrize(("n_inputs", "n_outputs"), SIZES)
def test_error_is_that_of_rounding(n_inputs, n_outputs):
    matrix, x, start = make(n_inputs, n_outputs, 2)
    exact = start + x.astype(np.float64) @ matrix
    largest = np.abs(matrix).max(0)
    of_weights = np.abs(x).sum(1, keepdims=True) * largest / (2 * LARGEST_WEIGHT)
    of_inputs = np.abs(matrix).sum(0) * 0.51 / input_unit(n_inputs)
    assert np.all(np.abs(product(matrix, x, start) - exact) <= 1.01 * (of_weights + of_inputs))


@pytest.mark.parametrize("n_inputs", [1, 512, 1024, 4096, 100_000])
def test_no_sum_overflows(n_inputs):
    assert input_unit(n_inputs) * LARGEST_WEIGHT * n_inputs < 2**31
    matrix, x = np.ones((n_inputs, 9), np.float32), np.ones((1, n_inputs), np.float32)
    if n_inputs <= 4096:
        got = product(matrix, x, np.zeros((1, 9), np.float32))
        np.testing.assert_allclose(got, n_inputs, rtol=1e-6)


def test_inputs_beyond_one_count_as_one():
    matrix, x = np.ones((3, 1), np.float32), np.array([[3, -9, np.nan]], np.float32)
    np.testing.assert_allclose(product(matrix, x, np.full((1, 1), 5.0)), 5, atol=1e-6)


def test_output_without_weights():
    matrix = np.zeros((6, 3), np.float32)
    matrix[:, 0] = 1
    got = product(matrix, np.ones((1, 6), np.float32), np.zeros((1, 3), np.float32))
    np.testing.assert_allclose(got, [[6, 0, 0]], rtol=1e-6)
