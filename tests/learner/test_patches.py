"""The vocabulary of spectra: what sounds alike shares a code, which sounds like its patches."""

import numpy as np
import pytest
import torch

from noizenet.learner.guide import SpectralGuide
from noizenet.learner.patches import (
    BLEND_BLOCKS,
    PATCH_BLOCKS,
    PATCH_SAMPLES,
    PatchCodec,
    blended,
)
from noizenet.sound.spectra import HOP_SAMPLES

TONES_HZ = (220.0, 880.0, 3520.0)


def melody(notes: list[int], note_patches: int = 8) -> np.ndarray:
    """Tones in a row with a little noise."""
    rng = np.random.default_rng(1)
    t = np.arange(note_patches * PATCH_SAMPLES) / 22_050
    sound = np.concatenate([np.sin(2 * np.pi * TONES_HZ[note] * t) for note in notes])
    return (sound + 1e-3 * rng.standard_normal(len(sound))).astype(np.float32)


@pytest.fixture(scope="module")
def song() -> np.ndarray:
    return melody([0, 1, 2, 1] * 3)


@pytest.fixture(scope="module")
def codec(song) -> PatchCodec:
    return PatchCodec.fit([song], most_codes=12, rng=0)


@pytest.fixture(scope="module")
def guiding(song) -> SpectralGuide:
    return SpectralGuide.fit([song])


def inner(codes: np.ndarray, note: int) -> set[int]:
    """The codes of a note of eight patches, without the patches where it begins and ends."""
    return set(codes[8 * note + 2 : 8 * note + 6].tolist())


def test_tones_have_codes_of_their_own(codec):
    codes = codec.encode(melody([0, 1, 2, 1, 0]))
    assert codes.shape == (40,)
    assert codes.dtype == np.int64
    assert 3 <= codec.n_codes <= 12
    low, middle, high = (inner(codes, note) for note in range(3))
    assert not low & middle
    assert not (low | middle) & high
    assert inner(codes, 3) == middle
    assert inner(codes, 4) == low


def test_a_code_sounds_like_its_patches(codec, guiding):
    """The level of a tone, and a prediction that hears it: a resonance at its frequency."""
    for note, hertz in enumerate(TONES_HZ):
        code = codec.encode(melody([note]))[4]
        guide = codec.decode(np.array([code]), guiding)
        assert guide.unit.shape == (1, PATCH_BLOCKS)
        assert guide.hop == HOP_SAMPLES
        assert guide.scale[0, 1].item() == pytest.approx(np.sqrt(0.5), rel=0.1)
        coefficients = guide.prediction[0, 1].numpy()[::-1].astype(np.float64)
        response = 1 / np.abs(np.fft.rfft(np.r_[1, -coefficients], 1 << 14))
        assert np.argmax(response) * 22_050 / (1 << 14) == pytest.approx(hertz, abs=12)


def test_what_does_not_fill_a_patch_is_left_out(codec):
    assert codec.encode(melody([0])[: 3 * PATCH_SAMPLES - 1]).shape == (2,)
    assert codec.encode(np.zeros(0, np.float32)).shape == (0,)


def test_it_begins_with_silence(codec):
    assert codec.start().shape == (1,)


def test_a_short_song_has_a_small_vocabulary():
    codec = PatchCodec.fit([melody([0])[: 4 * PATCH_SAMPLES]], most_codes=512, rng=0)
    assert codec.n_codes == 1
    assert codec.encode(melody([1])).tolist() == [0] * 8


def test_alike_codes_lie_near_each_other(codec):
    assert codec.embedding().shape[0] == codec.n_codes
    assert np.sqrt(np.mean(codec.embedding() ** 2)) == pytest.approx(1, rel=1e-3)


def test_neighbours_are_blended_and_nothing_else(codec, guiding):
    """What is written later changes no block but those that the blend reaches."""
    one, other = (codec.decode(np.array([0, 0, 0, last]), guiding) for last in (0, 1))
    reach = BLEND_BLOCKS // 2
    kept = 3 * PATCH_BLOCKS - reach
    assert torch.equal(one.unit[:, :kept], other.unit[:, :kept])
    assert (one.unit[:, kept:] != other.unit[:, kept:]).all()
    blocks = np.random.default_rng(0).random((9, 2))
    assert blended(blocks).sum(0) == pytest.approx(blended(blocks[::-1]).sum(0))
    np.testing.assert_allclose(blended(np.ones((3, 2))), 1)


def test_saved_and_restored_it_is_the_same(codec, guiding):
    again = PatchCodec.restore(codec.arrays())
    sound = melody([2, 0, 1])
    np.testing.assert_array_equal(again.encode(sound), codec.encode(sound))
    codes = np.arange(codec.n_codes)
    for a, b in zip(
        again.decode(codes, guiding)[:4], codec.decode(codes, guiding)[:4], strict=True
    ):
        assert torch.equal(a, b)
