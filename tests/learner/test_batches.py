import numpy as np
import pytest
import torch

from noizenet.errors import ParameterError
from noizenet.learner.batches import OneShot, Windows, shifted
from noizenet.learner.guide import Guide

LENGTHS = (50, 31, 77, 12)
START = np.array([[-1.0]], np.float32)


@pytest.fixture
def numbered():
    """Songs whose every number is unique, so that a number tells where it is from."""
    starts = np.cumsum((0, *LENGTHS[:-1]))
    return [
        np.arange(start, start + n, dtype=np.float32)[:, None]
        for start, n in zip(starts, LENGTHS, strict=True)
    ]


def test_each_number_is_told_from_the_one_before():
    inputs, targets = shifted(np.array([[3.0], [4.0], [5.0]]), START)
    assert inputs[:, 0].tolist() == [-1, 3, 4]
    assert targets[:, 0].tolist() == [3, 4, 5]
    inputs, targets = shifted(np.array([7, 8, 9]), np.array([128]))
    assert inputs.tolist() == [128, 7, 8]
    assert targets.tolist() == [7, 8, 9]
    assert shifted(np.array([7]), np.array([128]))[0].tolist() == [128]


# --- one-shot ------------------------------------------------------------------------------------


def test_a_step_is_a_whole_song(numbered):
    batches = OneShot(numbered, START, rng=3, order="rotate", epochs=None)
    assert batches.steps_per_epoch == 4
    assert batches.numbers_per_epoch == sum(LENGTHS)
    assert batches.longest_steps == max(LENGTHS)
    for step in range(8):
        batch = batches[step]
        song = numbered[batch.song]
        assert batch.fresh
        assert batch.epoch == step // 4
        assert batch.targets.shape == (1, len(song), 1)
        np.testing.assert_array_equal(batch.targets[0], song)
        np.testing.assert_array_equal(batch.inputs[0], np.concatenate((START, song[:-1])))


def orders(songs, rng, n_epochs):
    batches = OneShot(songs, START, rng, order="rotate", epochs=None)
    n = len(songs)
    return [[batches[epoch * n + place].song for place in range(n)] for epoch in range(n_epochs)]


def test_every_epoch_takes_each_song_once_in_an_order_of_its_own(numbered):
    found = orders(numbered, 3, 6)
    assert all(sorted(order) == [0, 1, 2, 3] for order in found)
    assert len({tuple(order) for order in found}) > 2
    assert orders(numbered, 3, 6) == found
    assert orders(numbered, 4, 6) != found


def test_an_epochs_order_does_not_depend_on_what_was_asked_before(numbered):
    batches = OneShot(numbered, START, rng=3, order="rotate", epochs=None)
    late = batches[21].song
    assert late == orders(numbered, 3, 6)[5][1]


def test_blocks_of_all_epochs_of_a_song(numbered):
    batches = OneShot(numbered, START, rng=3, order="block", epochs=3)
    assert [batches[step].song for step in range(12)] == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    assert [batches[step].epoch for step in range(6)] == [0, 1, 2, 0, 1, 2]


def test_songs_of_one_step_weigh_the_same_and_their_padding_nothing():
    songs = [np.full((n, 1), n, np.float32) for n in (5, 3, 8)]
    batches = OneShot(songs, START, rng=0, order="rotate", epochs=None, songs_per_step=2)
    assert batches.steps_per_epoch == 2
    heard = []
    for step in range(2):
        batch = batches[step]
        if batch.weights is None:  # a song left over stands alone
            assert len(batch.targets) == 1
            heard.append(batch.targets.shape[1])
            continue
        for row, weights in zip(batch.targets, batch.weights, strict=True):
            n = int(row[0])
            heard.append(n)
            assert torch.equal(weights[n:], torch.zeros(len(row) - n))
            assert torch.allclose(weights[:n], torch.tensor(1 / (2 * n)))
    assert sorted(heard) == [3, 5, 8]


def test_codes_stay_whole_numbers():
    songs = [np.arange(20) % 7, np.arange(9)]
    batch = OneShot(songs, np.array([128]), rng=0, order="block", epochs=1)[0]
    assert batch.inputs.dtype == batch.targets.dtype == torch.int64
    assert batch.inputs.shape == (1, 20)


# --- windows -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("window_steps", "batch"), [(5, 3), (10, 2), (17, 1), (170, 1), (1, 170)])
def test_windows_carry_unbroken_streams(window_steps, batch, numbered):
    batches = Windows(numbered, START, window_steps, batch)
    n_windows = sum(LENGTHS) // (window_steps * batch)
    assert batches.steps_per_epoch == n_windows
    assert batches.numbers_per_epoch == n_windows * window_steps * batch
    assert batches.longest_steps == window_steps
    steps = [batches[step] for step in range(n_windows)]
    for read in steps:
        assert read.inputs.shape == read.targets.shape == (batch, window_steps, 1)
        assert read.song is None
        assert read.epoch == 0
    # a row, window after window, is one unbroken part of the songs; the rows follow each other
    targets = torch.cat([read.targets for read in steps], 1)
    np.testing.assert_array_equal(targets.flatten(), np.arange(batches.numbers_per_epoch))
    inputs = torch.cat([read.inputs for read in steps], 1)
    np.testing.assert_array_equal(inputs.flatten(), np.arange(-1, batches.numbers_per_epoch - 1))


def test_windows_begin_anew_with_each_epoch(numbered):
    batches = Windows(numbered, START, 10, 2)
    n_windows = batches.steps_per_epoch
    assert [batches[step].fresh for step in range(2 * n_windows)] == (
        [True] + [False] * (n_windows - 1)
    ) * 2
    assert batches[n_windows].epoch == 1
    torch.testing.assert_close(batches[n_windows + 3].targets, batches[3].targets, rtol=0, atol=0)


def test_windows_of_frames_and_of_codes():
    frames = np.arange(240, dtype=np.float32).reshape(40, 6)
    batch = Windows([frames], frames[:1] * 0 - 1, 4, 2)[1]
    assert batch.targets.shape == (2, 4, 6)
    np.testing.assert_array_equal(batch.targets, [frames[4:8], frames[24:28]])
    codes = Windows([np.arange(40)], np.array([128]), 4, 2)[1]
    assert codes.targets.tolist() == [[4, 5, 6, 7], [24, 25, 26, 27]]


def test_too_little_for_one_window_each(numbered):
    Windows(numbered, START, 85, 2)
    with pytest.raises(ParameterError, match="lower --batch or --window-samples") as caught:
        Windows(numbered, START, 86, 2)
    assert "--batch 2 windows of 86 steps need 172 in all, the songs have 170" in str(caught.value)


# --- what they follow ----------------------------------------------------------------------------

HOP = 4


def guided(n_blocks_each):
    """Songs of whole blocks, and guides whose every block is the number of its first sample."""
    stops = np.cumsum(n_blocks_each)
    songs, guides = [], []
    for start, stop in zip(stops - n_blocks_each, stops, strict=True):
        numbers = torch.arange(HOP * start, HOP * stop, dtype=torch.float32)
        blocks = numbers[::HOP][None]
        songs.append(numbers[:, None].numpy())
        guides.append(Guide(blocks[..., None], blocks, -blocks, blocks[..., None] + 0.5, HOP))
    return songs, guides


def assert_followed(batch):
    """Each step of each row has the block that the number to be told is in."""
    n_steps = batch.targets.shape[1]
    block = batch.guide.block_of_each(n_steps)
    expected = batch.targets[..., 0] // HOP * HOP
    prediction, unit, scale, conditions = (part[:, block] for part in batch.guide[:4])
    assert torch.equal(unit, expected)
    assert torch.equal(scale, -expected)
    assert torch.equal(prediction[..., 0], expected)
    assert torch.equal(conditions[..., 0], expected + 0.5)


def test_a_song_is_told_along_its_guide():
    songs, guides = guided([5, 3, 8])
    batches = OneShot(songs, START, rng=3, order="rotate", epochs=None, guides=guides)
    for step in range(6):
        assert_followed(batches[step])
    plain = OneShot(songs, START, rng=3, order="rotate", epochs=None)
    assert plain[0].guide is None
    assert [plain[step].song for step in range(6)] == [batches[step].song for step in range(6)]


def test_songs_side_by_side_follow_each_their_own_guide():
    songs, guides = guided([5, 3, 8])
    batches = OneShot(songs, START, 0, "rotate", None, songs_per_step=3, guides=guides)
    batch = batches[0]
    assert batch.guide.unit.shape == (3, 8)
    for row, weights in enumerate(batch.weights):
        n = int((weights > 0).sum())
        block = batch.guide.block_of_each(n)
        expected = batch.targets[row, :n, 0] // HOP * HOP
        assert torch.equal(batch.guide.unit[row, block], expected)


@pytest.mark.parametrize(("window_steps", "batch"), [(4, 3), (8, 2), (16, 1), (4, 16), (64, 1)])
def test_windows_follow_the_guides_of_the_songs_in_a_row(window_steps, batch):
    songs, guides = guided([5, 3, 8])
    batches = Windows(songs, START, window_steps, batch, guides=guides)
    for step in range(2 * batches.steps_per_epoch):
        read = batches[step]
        assert read.guide.unit.shape == (batch, window_steps // HOP)
        assert_followed(read)
