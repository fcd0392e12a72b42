"""What a network follows: its blocks, how it is cut and joined, and that listening is causal."""

import numpy as np
import pytest
import scipy.linalg
import torch

from noizenet.config import GUIDE_ORDER
from noizenet.learner.guide import (
    ENDLESS,
    N_CONDITIONS,
    Guide,
    SpectralGuide,
    joined,
    no_guide,
    side_by_side,
)
from noizenet.sound.spectra import HOP_SAMPLES, spectra_around, spectra_before


def numbered(first: int, n_blocks: int, hop: int = 4) -> Guide:
    """A guide whose blocks can be told apart."""
    number = torch.arange(first, first + n_blocks, dtype=torch.float32)[None]
    return Guide(number[..., None], number, number + 100, number[..., None], hop)


def music(n_samples: int = 20 * HOP_SAMPLES) -> np.ndarray:
    rng = np.random.default_rng(0)
    t = np.arange(n_samples) / 22_050
    swell = 0.2 + np.minimum(1, t * 5)
    return (swell * (np.sin(2800 * t) + 0.05 * rng.standard_normal(n_samples))).astype(np.float32)


@pytest.fixture(scope="module")
def guiding() -> SpectralGuide:
    return SpectralGuide.fit([music()])


def test_steps_follow_their_block_and_then_the_last():
    assert numbered(0, 3).block_of_each(15).tolist() == [0] * 4 + [1] * 4 + [2] * 7
    assert no_guide(1, 2, 3).block_of_each(5).tolist() == [0] * 5
    assert [numbered(5, 3).block_at(step).unit.item() for step in (0, 3, 4, 99)] == [5, 5, 6, 7]


def test_a_part_begins_with_its_own_block():
    guide = numbered(0, 5)
    assert guide.part(8, 14).unit.tolist() == [[2, 3]]
    assert guide.part(8, 16).unit.tolist() == [[2, 3]]
    assert guide.part(40, 44).unit.tolist() == [[4]]  # beyond the end the last holds
    with pytest.raises(ValueError, match="no block of 4 steps begins at step 6"):
        guide.part(6, 10)
    endless = no_guide(1, 0, 1)
    assert endless.hop == ENDLESS
    assert endless.part(7, 9) is endless


def test_parts_joined_are_the_whole():
    whole = numbered(0, 7)
    again = joined([whole.part(0, 12), whole.part(12, 28)])
    assert all(torch.equal(a, b) for a, b in zip(again[:4], whole[:4], strict=True))


def test_the_shorter_of_two_holds_its_last_block():
    both = side_by_side([numbered(0, 2), numbered(10, 4)])
    assert both.unit.tolist() == [[0, 1, 1, 1], [10, 11, 12, 13]]
    assert both.conditions.shape == (2, 4, 1)


def test_the_prediction_is_that_of_the_normal_equations(guiding):
    lags = np.fft.irfft(spectra_around(music()).astype(np.float64))[:, : GUIDE_ORDER + 1]
    guide = guiding.playing(music())
    for block in (3, 10):
        r = lags[block].copy()
        r[0] = r[0] * (1 + 1e-9) + 1e-10
        expected = scipy.linalg.solve_toeplitz(r[:-1], r[1:])
        newest_first = guide.prediction[0, block].numpy()[::-1]
        predicted, wanted = (
            np.convolve(music()[2000:4000], np.r_[0, a])[:2000] for a in (newest_first, expected)
        )
        assert np.sqrt(np.mean((predicted - wanted)[GUIDE_ORDER:] ** 2)) < 0.02


def test_units_and_scales_are_sizes_of_the_sound(guiding):
    guide = guiding.playing(music())
    inside = slice(6, 14)
    rms = np.sqrt((music().reshape(-1, HOP_SAMPLES) ** 2).mean(1))
    np.testing.assert_allclose(guide.scale[0, inside], rms[inside], rtol=0.1)
    assert (guide.unit[0, inside] < 0.2 * guide.scale[0, inside]).all()  # a tone is predictable
    assert guide.conditions.shape == (1, 20, N_CONDITIONS)


def test_listening_and_playing_are_told_apart(guiding):
    assert (guiding.listening(music()).conditions[..., -1] == 1).all()
    assert (guiding.playing(music()).conditions[..., -1] == 0).all()


def test_a_listener_knows_nothing_early(guiding):
    changed = music()
    changed[10 * HOP_SAMPLES + 3 :] = 0.9
    before, after = guiding.listening(music()), guiding.listening(changed)
    for a, b in zip(before[:4], after[:4], strict=True):
        assert torch.equal(a[:, :11], b[:, :11])
        assert not torch.equal(a[:, 11:], b[:, 11:]) or a.shape[-1] == 1
    assert len(spectra_before(music())) == 20


def test_silence_is_finite(guiding):
    guide = guiding.playing(np.zeros(4 * HOP_SAMPLES, np.float32))
    assert all(torch.isfinite(part).all() for part in guide[:4])
    assert (guide.unit > 0).all()
    assert (guide.scale > 0).all()


def test_saved_and_restored_it_is_the_same(guiding):
    again = SpectralGuide.restore(guiding.arrays())
    for a, b in zip(guiding.playing(music())[:4], again.playing(music())[:4], strict=True):
        assert torch.equal(a, b)
