import numpy as np
import pytest

from noizenet.audio.copies import CopySearch
from noizenet.units import SAMPLE_RATE_HZ

SECOND = SAMPLE_RATE_HZ


def melody(rng: int, duration_s: float) -> np.ndarray:
    """Plucked notes of four partials, a new one every 0.25 s, at random pitches."""
    generator = np.random.default_rng(rng)
    note_samples = SECOND // 4
    time_s = np.arange(note_samples) / SECOND
    notes = []
    for _ in range(round(duration_s * 4)):
        pitch_hz = 110 * 2 ** generator.uniform(0, 3)
        partials = [np.sin(2 * np.pi * k * pitch_hz * time_s) / k for k in (1, 2, 3, 4)]
        notes.append(0.2 * np.exp(-4 * time_s) * np.sum(partials, axis=0))
    return np.concatenate(notes).astype(np.float32)


SONGS = [melody(rng, 8) for rng in (1, 2, 3)]


@pytest.fixture(scope="module")
def search() -> CopySearch:
    return CopySearch(SONGS)


def with_copy(song: int, song_start: int, start: int, n: int, gain: float, noise_db: float):
    generator = np.random.default_rng(7)
    sound = melody(99, 6)
    piece = SONGS[song][song_start : song_start + n]
    noise = generator.standard_normal(n) * np.sqrt(np.mean(piece**2)) * 10 ** (noise_db / 20)
    sound[start : start + n] = gain * (piece + noise)
    return sound


@pytest.mark.parametrize(
    ("gain", "noise_db"), [(1, -200), (0.5, -30), (-0.5, -30), (2, -20)], ids=str
)
@pytest.mark.parametrize(("song", "song_start", "start"), [(0, 12_345, 40_001), (2, 0, 7)])
def test_a_copied_stretch_is_found(search, song, song_start, start, gain, noise_db):
    n = round(1.5 * SECOND)
    copy = search.longest(with_copy(song, song_start, start, n, gain, noise_db))
    assert copy.song == song
    assert copy.song_start_samples - copy.start_samples == song_start - start
    assert copy.duration_s == pytest.approx(1.5, abs=0.08)
    assert copy.start_samples == pytest.approx(start, abs=0.05 * SECOND)


def test_a_copy_of_0_4_s_is_found_wherever_it_lies(search):
    n = round(0.4 * SECOND)
    for offset in range(0, 2208, 479):
        copy = search.longest(with_copy(1, 30_000 + offset, 50_000, n, 1, -200))
        assert copy.song == 1
        assert copy.duration_s == pytest.approx(0.4, abs=0.08)


def test_a_whole_song_is_one_copy_in_spite_of_its_rests(search):
    song = SONGS[1].copy()
    song[3 * SECOND : 4 * SECOND] = 0
    copy = CopySearch([SONGS[0], song]).longest(song)
    assert copy.song == 1
    assert copy.duration_s == pytest.approx(8, abs=0.02)


def test_what_is_new_is_no_copy(search):
    # A note of 0.25 s that both have by chance is all that matches.
    assert search.longest(melody(50, 8)).duration_s < 0.35
    noise = np.random.default_rng(0).standard_normal(8 * SECOND)
    assert search.longest(0.1 * noise).n_samples == 0


def test_a_song_played_backwards_is_no_copy(search):
    assert search.longest(SONGS[0][::-1]).duration_s < 0.3


@pytest.mark.parametrize("offset", [0.0, 0.3])
def test_silence_and_constants_are_no_copies(offset):
    songs = [np.full(4 * SECOND, offset), np.concatenate((SONGS[0], np.zeros(2 * SECOND)))]
    assert CopySearch(songs).longest(np.full(3 * SECOND, offset)).n_samples == 0


@pytest.mark.parametrize("pitch_hz", [55.0, 110.0, 440.0, 987.77])
def test_a_held_tone_is_no_copy_of_another(pitch_hz):
    time_s = np.arange(4 * SECOND) / SECOND
    tone = np.sin(2 * np.pi * pitch_hz * time_s) + 0.3 * np.sin(4 * np.pi * pitch_hz * time_s)
    assert CopySearch([tone]).longest(0.3 * tone[1000:]).n_samples == 0


def test_two_tones_in_a_row_are_a_copy():
    time_s = np.arange(SECOND) / SECOND
    tones = np.concatenate([np.sin(2 * np.pi * hz * time_s) for hz in (220, 440)])
    copy = CopySearch([tones]).longest(tones)
    assert copy.duration_s == pytest.approx(2, abs=0.01)


def test_very_short_sounds_and_songs():
    assert CopySearch([SONGS[0]]).longest(np.ones(1)).n_samples == 0
    assert CopySearch([np.ones(1)]).longest(SONGS[0]).n_samples == 0
