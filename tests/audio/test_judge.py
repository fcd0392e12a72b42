import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.signal import lfilter

import noizenet
from noizenet.audio.judge import Judge, rank
from noizenet.errors import DataError, ParameterError
from noizenet.units import SAMPLE_RATE_HZ

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")

SECOND = SAMPLE_RATE_HZ
DEMO = Path(noizenet.__file__).parent / "sound" / "demo"
NAMES = ["01-prelude", "04-rag", "05-air"]
TIME_S = np.arange(6 * SECOND) / SECOND


def read(name: str) -> np.ndarray:
    return soundfile.read(DEMO / f"{name}.flac", dtype="float32")[0]


SONGS = {name: read(name) for name in NAMES}
UNSEEN = read("unseen-sonata")
LEVEL = float(np.sqrt(np.mean(np.concatenate(list(SONGS.values())) ** 2)))


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge(list(SONGS.values()), NAMES)


def at_level(samples: np.ndarray) -> np.ndarray:
    return samples * LEVEL / np.sqrt(np.mean(samples**2))


def white(duration_s: float = 6) -> np.ndarray:
    return np.random.default_rng(5).standard_normal(round(duration_s * SECOND))


def excerpt() -> np.ndarray:
    return UNSEEN[2 * SECOND : 8 * SECOND].copy()


@pytest.mark.parametrize("start_s", [0, 5, 11])
def test_unseen_music_is_alive(judge, start_s):
    verdict = judge.judge(UNSEEN[start_s * SECOND : (start_s + 10) * SECOND])
    assert verdict.alive
    assert verdict.problems == ()
    assert verdict.headline() == "alive"
    assert 0.3 < verdict.frechet_ratio < 2
    assert 0.4 < verdict.movement_1s < 2.5
    assert 0.4 < verdict.movement_4s < 2.5
    assert abs(verdict.level_db) < 6
    assert verdict.copied_s < 0.5


def test_white_noise_at_the_songs_level_is_the_other_anchor(judge):
    verdict = judge.judge(at_level(white(10)))
    assert 3 < verdict.noise_ratio < 11
    assert verdict.frechet_ratio == pytest.approx(verdict.noise_ratio, rel=0.1)
    assert verdict.flatness == pytest.approx(0.56, abs=0.02)
    assert verdict.problems == ("hiss",)
    assert not verdict.alive


@pytest.mark.parametrize("pole", [0.5, 0.9, 0.98])
def test_noise_of_any_colour_is_hiss(judge, pole):
    assert judge.judge(at_level(lfilter([1], [1, -pole], white()))).problems == ("hiss",)


@pytest.mark.parametrize("name", NAMES)
def test_an_excerpt_of_a_training_song_is_alive_but_a_copy(judge, name):
    verdict = judge.judge(SONGS[name][3 * SECOND : 9 * SECOND])
    assert verdict.alive
    assert verdict.problems == (f"copied 6.0 s of {name}",)
    assert verdict.copied_song == name


def test_a_copied_stretch_is_named(judge):
    sound = excerpt()
    copied = SONGS["04-rag"][5 * SECOND : round(6.5 * SECOND)]
    sound[2 * SECOND : 2 * SECOND + len(copied)] = 0.5 * copied
    verdict = judge.judge(sound)
    assert verdict.alive
    assert verdict.copied_s == pytest.approx(1.5, abs=0.1)
    assert verdict.copied_song == "04-rag"


@pytest.mark.parametrize(
    ("samples", "problem"),
    [
        (np.zeros(6 * SECOND), "silent"),
        (1e-4 * np.sin(2 * np.pi * 440 * TIME_S), "silent"),
        (np.full(6 * SECOND, 0.3), "constant"),
        (0.5 * np.sin(2 * np.pi * 0.5 * TIME_S), "constant"),
        (np.zeros(1), "silent"),
    ],
    ids=["zeros", "faint", "offset", "drift", "one sample"],
)
def test_what_does_not_sound_is_not_alive(judge, samples, problem):
    verdict = judge.judge(samples)
    assert not verdict.alive
    assert verdict.problems == (problem,)
    assert all(math.isfinite(value) for value in verdict.scalars().values())


def test_a_tone_is_a_drone_though_not_dead(judge):
    verdict = judge.judge(at_level(np.sin(2 * np.pi * 300 * TIME_S)))
    assert verdict.alive
    assert verdict.problems == ("drone",)
    assert verdict.headline() == "alive, but: drone"
    assert verdict.movement_1s < 0.02


def test_growth_without_end_is_runaway(judge):
    growing = 0.01 * np.exp(0.8 * TIME_S) * np.sin(2 * np.pi * 220 * TIME_S)
    assert "runaway" in judge.judge(growing).problems
    assert "runaway" in judge.judge(10 * excerpt()).problems
    assert "runaway" in judge.judge(np.exp(TIME_S)).problems  # an offset that grows
    # A crescendo within the songs' levels is none.
    assert judge.judge(excerpt() * 10 ** (TIME_S / 6 - 1)).alive


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_samples_that_are_no_numbers_are_runaway(judge, bad):
    samples = excerpt()
    samples[5 * SECOND :] = bad
    verdict = judge.judge(samples)
    assert not verdict.alive
    assert verdict.problems[0] == "runaway after 5.0 s"
    assert all(math.isfinite(value) for value in verdict.scalars().values())


@pytest.mark.parametrize("rest", [0.0, 0.1], ids=["silent", "constant"])
def test_collapse_is_dated(judge, rest):
    samples = excerpt()
    samples[3 * SECOND :] = rest
    verdict = judge.judge(samples)
    assert not verdict.alive
    word, at = verdict.problems[0].rsplit(" after ", 1)
    assert word == "collapsed"
    assert float(at.removesuffix(" s")) == pytest.approx(3, abs=0.2)


def test_a_hole_is_dated_and_a_rest_is_music(judge):
    samples = excerpt()
    samples[2 * SECOND : 4 * SECOND] = 0
    assert judge.judge(samples).problems[0] == "silent from 2.0 to 4.0 s"
    samples = excerpt()
    samples[2 * SECOND : round(2.6 * SECOND)] = 0
    assert judge.judge(samples).alive


def test_clipping(judge):
    samples = excerpt()
    clipped = np.clip(samples, *(np.array([-0.4, 0.4]) * np.abs(samples).max()))
    verdict = judge.judge(clipped)
    assert verdict.problems == ("clipped",)
    assert verdict.clipped_share > 0.002
    assert judge.judge(samples).clipped_share == 0
    # A deep tone has broad tops, but they are round.
    assert judge.judge(at_level(np.sin(2 * np.pi * 40 * TIME_S))).clipped_share == 0


@pytest.mark.parametrize("duration_s", [0.01, 0.7, 1.5, 4.5])
def test_short_sounds_leave_out_what_they_cannot_tell(judge, duration_s):
    verdict = judge.judge(UNSEEN[SECOND : SECOND + round(duration_s * SECOND)])
    scalars = verdict.scalars()
    assert ("movement_1s" in scalars) == (duration_s > 1)
    assert ("movement_4s" in scalars) == (duration_s > 4)
    assert all(math.isfinite(value) for value in scalars.values())


def test_a_sound_longer_than_the_songs(judge):
    short = Judge([song[: 4 * SECOND] for song in SONGS.values()])
    verdict = short.judge(UNSEEN[: 12 * SECOND])
    assert verdict.alive
    assert 0.2 < verdict.frechet_ratio < 3


def test_lines_are_an_aligned_table(judge):
    verdict = judge.judge(excerpt())
    headline, *rows = verdict.lines()
    assert headline == "alive"
    assert all(len(row) < 100 for row in rows)
    names = [row[2:16].strip() for row in rows]
    assert names == [
        "loudness",
        "flatness",
        "noisiness",
        "harmony in 1 s",
        "harmony in 4 s",
        "spectrum",
        "longest copy",
    ]
    meanings = [row.index(row.split("   ")[-1]) for row in rows]
    assert len(set(meanings)) == 1
    assert f"white noise {verdict.noise_ratio:.1f}" in rows[5]


def test_judging_is_reproducible_whatever_came_before(judge):
    first = judge.judge(excerpt(), rng=3)
    judge.judge(white(1))
    assert Judge(list(SONGS.values()), NAMES).judge(excerpt(), rng=3) == first


def test_rank(judge):
    music = judge.judge(excerpt())
    far = replace(music, frechet_ratio=music.frechet_ratio * 8)
    nearer_than_real = replace(music, frechet_ratio=0.01)
    drone = replace(music, problems=("drone",))
    still = replace(music, movement_1s=0.1, movement_4s=0.1)
    dead = replace(music, alive=False, problems=("silent",))
    short = replace(music, movement_1s=math.nan, movement_4s=math.nan)
    assert rank([dead, far, drone, music]) == [3, 1, 2, 0]
    assert rank([still, music]) == [1, 0]
    assert rank([nearer_than_real, music]) == [1, 0]
    assert rank([music, music, music]) == [0, 1, 2]
    assert sorted(rank([short, dead, music])) == [0, 1, 2]
    assert rank([]) == []


def test_bad_songs_and_sounds_are_refused(judge):
    with pytest.raises(DataError, match="no sound"):
        Judge([])
    with pytest.raises(DataError, match="no sound"):
        Judge([np.zeros(SECOND), np.full(SECOND, 0.5)])
    with pytest.raises(ParameterError, match="finite"):
        Judge([np.array([np.nan])])
    with pytest.raises(ParameterError, match="names"):
        Judge([excerpt()], ["one", "two"])
    for samples in (np.zeros(0), np.zeros((2, 9))):
        with pytest.raises(ParameterError, match="shape"):
            judge.judge(samples)
