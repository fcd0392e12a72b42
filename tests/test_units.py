import numpy as np
import pytest
import torch
import torchaudio

from noizenet import units


def test_seconds_and_samples():
    assert units.seconds_to_samples(1.0) == 22_050
    assert units.seconds_to_samples(0.1) == 2205
    assert units.seconds_to_samples(0.99 / 22_050) == 1  # the nearest, not the one below
    assert units.seconds_to_samples(2.0, 8000) == 16_000
    assert units.samples_to_seconds(11_025) == 0.5
    assert units.samples_to_seconds(11_025, 44_100) == 0.25


@pytest.mark.parametrize(
    ("note", "name", "frequency_hz"),
    [
        (69, "A4", 440.0),
        (60, "C4", 261.6256),
        (21, "A0", 27.5),
        (61, "C#4", 277.1826),
        (0, "C-1", 8.1758),
    ],
)
def test_notes(note, name, frequency_hz):
    assert units.midi_to_name(note) == name
    assert units.midi_to_hz(note) == pytest.approx(frequency_hz, rel=1e-5)
    assert units.hz_to_midi(frequency_hz) == pytest.approx(note, abs=1e-4)


def test_notes_between_the_keys():
    assert units.hz_to_midi(units.midi_to_hz(60.37)) == pytest.approx(60.37, abs=1e-12)


def test_decibels():
    levels = units.amplitude_to_db(np.array([1.0, -0.1, 10.0, 0.0, 1e-9]))
    np.testing.assert_allclose(levels, [0, -20, 20, -120, -120], atol=1e-12)
    assert units.amplitude_to_db(0.0, floor_db=-60) == pytest.approx(-60)
    np.testing.assert_allclose(units.db_to_amplitude([0, -20, 6]), [1, 0.1, 1.99526], rtol=1e-5)


def test_mu_law_curve_is_inverted():
    amplitudes = np.linspace(-1.2, 1.2, 2001)
    compressed = units.mu_law_compress(amplitudes)
    np.testing.assert_allclose(units.mu_law_expand(compressed), amplitudes, atol=1e-14)
    np.testing.assert_allclose(units.mu_law_compress([-1, 0, 1]), [-1, 0, 1], atol=1e-15)
    assert (np.diff(compressed) > 0).all()


def test_mu_law_codes_agree_with_torchaudio():
    amplitudes = np.random.default_rng(0).uniform(-1, 1, 10_000)
    expected = torchaudio.functional.mu_law_encoding(torch.from_numpy(amplitudes), 256).numpy()
    np.testing.assert_array_equal(units.mu_law_encode(amplitudes), expected)
    codes = np.arange(256)
    expected = torchaudio.functional.mu_law_decoding(torch.from_numpy(codes), 256).numpy()
    np.testing.assert_allclose(units.mu_law_decode(codes), expected, atol=1e-6)


def test_every_code_comes_back():
    codes = np.arange(256)
    assert units.mu_law_decode(codes).dtype == np.float32
    np.testing.assert_array_equal(units.mu_law_encode(units.mu_law_decode(codes)), codes)


def test_loud_samples_get_the_outermost_codes():
    np.testing.assert_array_equal(
        units.mu_law_encode(np.array([-7.0, -1.0, 1.0, 7.0, np.inf])), [0, 0, 255, 255, 255]
    )


def test_edges_lie_where_the_code_changes():
    edges = units.mu_law_edges()
    assert edges.shape == (257,)
    assert edges[0] == -np.inf
    assert edges[-1] == np.inf
    assert (np.diff(edges) > 0).all()
    codes = np.arange(1, 256)
    np.testing.assert_array_equal(units.mu_law_encode(edges[1:-1] + 1e-9), codes)
    np.testing.assert_array_equal(units.mu_law_encode(edges[1:-1] - 1e-9), codes - 1)
