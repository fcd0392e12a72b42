"""The embedded demo library, its performer, and the example seeds."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import soundfile

from noizenet.errors import NoizeNetError, RunError
from noizenet.sound.demo import rendering
from noizenet.sound.demo.performance import (
    LEAD_IN_S,
    REPEAT_GAP_S,
    ScoreNote,
    Style,
    Voice,
    perform,
    phrase_arch,
    pink_noise,
    tempo_map,
)
from noizenet.sound.demo.recipe import PIECES, accompaniment, render_demo, render_piece
from noizenet.units import SAMPLE_RATE_HZ, db_to_amplitude

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "noizenet" / "sound" / "demo"
SEEDS = ROOT / "seeds"
STIFF = Style(60.0, phrase_quarters=8.0, rubato=0.0, drift=0.0, final_tempo=1.0, melody_lead_s=0.0)


def read_int16(path):
    samples, sample_rate_hz = soundfile.read(path, dtype="int16")
    assert sample_rate_hz == SAMPLE_RATE_HZ
    assert samples.ndim == 1
    return samples


@pytest.fixture(scope="module")
def demo():
    return {path.stem: read_int16(path) for path in sorted(DEMO.glob("*.flac"))}


def test_the_library_is_what_the_recipe_says(demo):
    assert sorted(demo) == sorted(piece.title for piece in PIECES)
    assert [title[:2] for title in sorted(demo)] == ["01", "02", "03", "04", "05", "un"]
    readme = (DEMO / "README.md").read_text(encoding="utf-8")
    for piece in PIECES:
        row = next(line for line in readme.splitlines() if f"`{piece.title}.flac`" in line)
        for fact in (piece.work, piece.year, piece.composer, piece.composer_years):
            assert fact in row, f"{piece.title}: {fact!r} is not in the README's table"
        assert piece.corpus_path in row
        assert piece.instruments in row


def test_the_library_is_small(demo):
    n_bytes = sum(path.stat().st_size for path in DEMO.glob("*.flac"))
    assert n_bytes < 5e6
    assert n_bytes + sum(path.stat().st_size for path in SEEDS.glob("*.flac")) < 6e6
    for path in DEMO.glob("*.flac"):
        assert soundfile.info(path).subtype == "PCM_16"


@pytest.mark.parametrize("title", [piece.title for piece in PIECES])
def test_each_song_is_lively_and_whole(demo, title):
    samples = demo[title] / 32_768
    assert 15 <= len(samples) / SAMPLE_RATE_HZ <= 30
    assert np.abs(samples).max() == pytest.approx(db_to_amplitude(-3.0), abs=2 / 32_768)
    assert abs(samples.mean()) < 1e-3
    assert np.flatnonzero(np.abs(samples) > 0.02)[0] < 0.3 * SAMPLE_RATE_HZ
    assert abs(samples[-1]) < 1e-3, "cut off"

    half_second = SAMPLE_RATE_HZ // 2
    blocks = samples[: len(samples) // half_second * half_second].reshape(-1, half_second)
    rms = np.sqrt((blocks**2).mean(axis=1))
    assert (rms[:-2] > db_to_amplitude(-35.0)).all(), "a silence inside"
    assert np.sqrt((samples**2).mean()) > db_to_amplitude(-20.0)

    # Not a stuck note: the loudest bin of half-second spectra moves about.
    spectra = np.abs(np.fft.rfft(blocks * np.hanning(half_second), axis=1))
    assert len(set(spectra.argmax(axis=1))) >= 5
    spectra /= np.linalg.norm(spectra, axis=1, keepdims=True)
    assert np.median((spectra[:-2] * spectra[2:]).sum(axis=1)) < 0.7


def test_no_two_songs_are_the_same(demo):
    songs = list(demo.values())
    for index, first in enumerate(songs):
        for second in songs[index + 1 :]:
            n = min(len(first), len(second))
            assert abs(np.corrcoef(first[:n], second[:n])[0, 1]) < 0.2


def test_seeds_are_what_their_script_makes_now(tmp_path):
    spec = importlib.util.spec_from_file_location("make_seeds", ROOT / "scripts/make_seeds.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    made = script.make_seeds(tmp_path)
    assert sorted(path.name for path in made) == sorted(path.name for path in SEEDS.glob("*.flac"))
    readme = (SEEDS / "README.md").read_text(encoding="utf-8")
    for path in made:
        stored = read_int16(SEEDS / path.name)
        np.testing.assert_array_equal(read_int16(path), stored)
        assert len(stored) == 3 * SAMPLE_RATE_HZ
        assert 0.1 < np.abs(stored / 32_768).max() <= db_to_amplitude(-3.0)
        assert f"`{path.name}`" in readme


def test_the_song_seed_is_an_excerpt_of_the_unseen_song(demo):
    seed, song = read_int16(SEEDS / "song.flac"), demo["unseen-sonata"]
    starts = np.flatnonzero(song[: len(song) - len(seed) + 1] == seed[0])
    (start,) = (k for k in starts if np.array_equal(song[k : k + len(seed)], seed))
    readme = (SEEDS / "README.md").read_text(encoding="utf-8")
    assert f"from {start / SAMPLE_RATE_HZ:.2f} s" in readme


# --- the performer ---------------------------------------------------------------------------


def test_a_stiff_style_plays_what_is_written():
    notes = [ScoreNote(0.5 * k, 0.5, 60 + k, 0) for k in range(8)]
    played = perform(notes, (Voice(0, articulation=1.0),), STIFF, np.random.default_rng(0))
    assert [note.pitch_midi for note in played] == list(range(60, 68))
    np.testing.assert_allclose(
        [note.onset_s for note in played], LEAD_IN_S + 0.5 * np.arange(8), atol=1e-4
    )
    np.testing.assert_allclose([note.duration_s for note in played], 0.5, atol=2e-4)


def test_the_tempo_map_keeps_the_tempo_over_whole_phrases():
    style = Style(90.0, phrase_quarters=8.0, rubato=0.1, drift=0.0, final_tempo=1.0)
    quarters, seconds = tempo_map(16.0, style, np.random.default_rng(0))
    assert (np.diff(seconds) > 0).all()
    # The mean of 1 / (1 + r arch) over a phrase is 1 + r^2 var(arch) + …, and var(arch) = 4/45.
    assert seconds[-1] == pytest.approx(16 * 60 / 90 * (1 + 0.01 * 4 / 45), rel=1e-4)
    at = np.interp([0, 1, 4, 5, 7, 8], quarters, seconds)
    assert at[1] - at[0] > at[3] - at[2], "a phrase begins slower than its middle"
    assert at[5] - at[4] > at[3] - at[2], "and ends slower"


def test_the_ritardando_ends_at_the_final_tempo():
    style = Style(60.0, 8.0, rubato=0.0, drift=0.0, ritardando_quarters=4.0, final_tempo=0.5)
    quarters, seconds = tempo_map(12.0, style, np.random.default_rng(0))
    tempo = np.diff(quarters) / np.diff(seconds)  # quarters per second
    np.testing.assert_allclose(tempo[quarters[1:] <= 8], 1.0, rtol=1e-9)
    assert tempo[-1] == pytest.approx(0.5, abs=0.02)
    assert (np.diff(tempo[quarters[1:] > 8]) < 0).all()


def test_the_arch_has_no_mean_and_starts_at_its_foot():
    style = Style(60.0, phrase_quarters=8.0, upbeat_quarters=1.0)
    assert phrase_arch(np.array([0.0, 0.5, 1.0, 9.0]), style) == pytest.approx([-2 / 3] * 4)
    assert phrase_arch(np.array(5.0), style) == pytest.approx(1 / 3)
    assert phrase_arch(1 + np.arange(8000) / 1000, style).mean() == pytest.approx(0, abs=1e-6)


def test_the_melody_leads_its_chords():
    chord = [ScoreNote(float(k), 1.0, pitch, 0) for k in range(6) for pitch in (60, 64, 72)]
    style = Style(60.0, 8.0, rubato=0.0, drift=0.0, melody_lead_s=0.014)
    played = perform(chord, (Voice(0),), style, np.random.default_rng(0))
    melody = [note.onset_s for note in played if note.pitch_midi == 72]
    for pitch in (60, 64):
        late = np.subtract([n.onset_s for n in played if n.pitch_midi == pitch], melody)
        assert (late > 0.0095).all()
        assert (late < 0.0201).all()
    loud = {
        pitch: np.mean([n.velocity for n in played if n.pitch_midi == pitch]) for pitch in (60, 72)
    }
    assert loud[72] > loud[60] + 5


def test_a_repeated_key_comes_up_first_and_the_pedal_holds_the_others():
    notes = [ScoreNote(0.0, 0.5, 48, 0), ScoreNote(0.5, 0.5, 60, 0), ScoreNote(1.0, 0.5, 60, 0)]
    notes.append(ScoreNote(4.0, 1.0, 50, 0))
    played = perform(notes, (Voice(0, pedal_quarters=2.0),), STIFF, np.random.default_rng(0))
    assert played[0].duration_s == pytest.approx(2.0, abs=1e-3)
    assert played[1].onset_s + played[1].duration_s == pytest.approx(
        played[2].onset_s - REPEAT_GAP_S, abs=1e-3
    )


def test_playing_is_human_and_repeatable():
    notes = [ScoreNote(0.5 * k, 0.5, 60 + k % 5, 0, 1.0 if k % 8 == 0 else 0.25) for k in range(64)]
    style = Style(100.0, 16.0)
    first, again, other = (
        perform(notes, (Voice(0),), style, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other
    gaps = np.diff([note.onset_s for note in first])[:-8]  # without the ritardando
    # The arch's standard deviation is sqrt(4/45), and the drift's is given.
    expected = np.hypot(style.rubato * np.sqrt(4 / 45), style.drift)
    assert gaps.std() / gaps.mean() == pytest.approx(expected, rel=0.3)
    velocities = np.array([note.velocity for note in first])
    assert 4 < velocities.std() < 15
    assert velocities[::8].mean() > velocities.mean() + 3


def test_pink_noise_falls_as_one_over_f():
    rng = np.random.default_rng(0)
    n = 512
    power = np.mean([np.abs(np.fft.rfft(pink_noise(n, rng))) ** 2 for _ in range(400)], axis=0)
    frequency = np.arange(1, n // 2)
    slope = np.polyfit(np.log(frequency), np.log(power[1 : n // 2]), 1)[0]
    assert slope == pytest.approx(-1.0, abs=0.03)
    noise = pink_noise(n, rng)
    assert (noise.mean(), noise.std()) == pytest.approx((0.0, 1.0), abs=1e-9)
    assert pink_noise(1, rng) == pytest.approx([0.0])


def test_accompaniment_breaks_each_chord_upward():
    notes = accompaniment([(43, 50, 58, 62), (38, 57)], part=1)
    assert [(note.onset_quarters, note.pitch_midi) for note in notes] == [
        (0.0, 43), (0.5, 50), (1.0, 58), (1.5, 62), (2.0, 38), (3.0, 57),
    ]  # fmt: skip
    assert {note.part for note in notes} == {1}


# --- rendering -------------------------------------------------------------------------------


def test_finish_cuts_the_tail_and_sets_the_peak():
    time_s = np.arange(2 * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    tone = 0.01 * np.sin(2 * np.pi * 441 * time_s) * (time_s < 1.0)
    finished = rendering.finish(tone)
    assert finished.dtype == np.int16
    assert len(finished) == pytest.approx(SAMPLE_RATE_HZ, abs=30)
    assert np.abs(finished.astype(int)).max() == int(32_768 * 10 ** (-3 / 20))
    assert abs(int(finished[-1])) <= 1
    # The fade is a raised cosine: at half of its 50 ms the tone has half of its height.
    middle = finished[len(finished) - 551 - 25 : len(finished) - 551 + 25]
    assert np.abs(middle).max() / 23_197 == pytest.approx(0.5, abs=0.05)


def test_a_missing_package_says_how_to_get_it(monkeypatch, tmp_path):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(rendering.importlib, "import_module", missing)
    with pytest.raises(NoizeNetError, match=r"pip install -e \.\[render\]"):
        render_demo(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="file"):
        render_demo(tmp_path / "file")


def test_another_soundfont_is_refused(monkeypatch):
    pytest.importorskip("pretty_midi")
    monkeypatch.setattr(rendering, "SOUNDFONT_SHA256", "0" * 64)
    with pytest.raises(NoizeNetError, match=r"TimGM6mb\.sf2: another SoundFont"):
        rendering.soundfont_path()


def test_one_piece_renders_bit_for_bit(demo):
    for package in ("music21", "pretty_midi", "tinysoundfont"):
        pytest.importorskip(package)
    np.testing.assert_array_equal(render_piece(PIECES[0]), demo[PIECES[0].title])


def test_the_synthesizer_is_in_tune():
    for package in ("pretty_midi", "tinysoundfont"):
        pytest.importorskip(package)
    voice = Voice(40)
    for pitch_midi in (60, 69, 81):
        note = rendering.PlayedNote(0.05, 1.0, pitch_midi, 80, 0)
        samples = rendering.synthesize([note], [voice])[SAMPLE_RATE_HZ // 4 : SAMPLE_RATE_HZ]
        spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 1 << 18))
        frequency = np.fft.rfftfreq(1 << 18, 1 / SAMPLE_RATE_HZ)
        expected_hz = 440 * 2 ** ((pitch_midi - 69) / 12)
        near = (frequency > expected_hz / 1.4) & (frequency < expected_hz * 1.4)
        peak_hz = frequency[near][spectrum[near].argmax()]
        assert 12 * abs(np.log2(peak_hz / expected_hz)) < 0.15
        assert spectrum[near].max() > 0.1 * spectrum.max()
