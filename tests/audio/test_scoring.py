"""Runs and sounds on one scale: what stands in the tables, and whose level and songs they use."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from noizenet.audio import playing
from noizenet.audio.adaptive import adaptive_bits, code_entropy_bits
from noizenet.audio.config import AudioConfig, DataConfig, PlayConfig, SoundConfig
from noizenet.audio.judge import Judge
from noizenet.audio.score_command import ScoreCommand
from noizenet.audio.scoring import WIDTH, run_named, score_things
from noizenet.audio.session import read_library, restored_session
from noizenet.audio.train import train
from noizenet.config import FitConfig, MachineConfig, ModelConfig
from noizenet.errors import DataError, FormatError, ParameterError, RunError
from noizenet.learner.codecs import Level
from noizenet.runs import Run
from noizenet.sound.song import read_song
from noizenet.units import SAMPLE_RATE_HZ

ONE_THREAD = MachineConfig(threads=1)
TINY = AudioConfig(
    data=DataConfig(songs=2, duration_s=0.6),
    sound=SoundConfig(predictor=8),
    model=ModelConfig(hidden=4),
    fit=FitConfig(epochs=1, anneal=False),
    play=PlayConfig(seed_seconds=0.1, generate_seconds=0.3),
    machine=ONE_THREAD,
)


def noisy_tone(seconds=1.0, loudness=0.3, rng=0):
    n = round(seconds * SAMPLE_RATE_HZ)
    noise = np.random.default_rng(rng).standard_normal(n)
    return (loudness * (np.sin(np.arange(n) / 9) + 0.05 * noise)).astype(np.float32)


def write(path, samples):
    soundfile.write(path, samples, SAMPLE_RATE_HZ, subtype="FLOAT")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with the runs ``a``, of the demo, and ``b``, of a file of which nothing was kept."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(playing, "_show", lambda *a: None)
        write("own.wav", noisy_tone())
        train(TINY, "a", resume=False)
        data = DataConfig(data=str(folder / "own.wav"), valid_fraction=0.0)
        train(replace(TINY, data=data), "b", resume=False)
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch, trained):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained / "runs", tmp_path / "runs")
    return tmp_path


@pytest.fixture
def scored(here, capsys):
    """What is printed, as {(table, row): {column: cell}}, and all lines."""

    def score(*things, **settings):
        capsys.readouterr()
        score_things(ScoreCommand(things, machine=ONE_THREAD, **settings))
        lines = capsys.readouterr().out.splitlines()
        return tables(lines), lines

    return score


def tables(lines):
    found, header, table = {}, None, -1
    for line in lines:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            header = None
        elif header is None:
            header, table = cells, table + 1
        elif not line.startswith("| :"):
            found["bits" if table == 0 else "judge", cells[0]] = dict(
                zip(header[1:], cells[1:], strict=True)
            )
    return found


def two(number):
    return f"{number:.2f}"


# --- a run ---------------------------------------------------------------------------------------


def test_a_run_beside_the_linear_prediction_of_what_it_held_out(scored):
    found, lines = scored("a", orders=(2, 8))
    run = Run.open("a", AudioConfig)
    library = read_library(run.config)
    session, _, _ = restored_session(run, run.config, library)
    [unseen] = library.unseen
    levelled = session.codec.level.apply(unseen.samples)
    linear = [bits.mean() for bits in adaptive_bits(levelled, (2, 8))]
    model = session.examine().bits_per_sample
    assert found["bits", "run a"] == {
        "s": "0.6",
        "code": two(code_entropy_bits(levelled)),
        "LP 2": two(linear[0]),
        "LP 8": two(linear[1]),
        "model": two(model),
    }
    # the same music without the network
    assert found["bits", f"(unseen) {unseen.name}"] == found["bits", "run a"] | {"model": "–"}
    words = [
        f"{two(abs(bits - model))} {'below' if model < bits else 'above'} LP {order}"
        for bits, order in zip(linear, (2, 8), strict=True)
    ]
    assert f"run a: {two(model)} bits, {', '.join(words)}" in lines
    assert lines[0].endswith("at the level of run a")


def test_the_sounds_of_a_run_and_the_anchors_are_judged(scored, here):
    shutil.copy(here / "runs/a/audio/perlin-t1-rng0.wav", here / "runs/a/audio/learning-30s.wav")
    found, lines = scored("a")
    library = read_library(Run.open("a", AudioConfig).config)
    judge = Judge([song.samples for song in library.train], [song.name for song in library.train])
    judged = [row for table, row in found if table == "judge"]
    assert judged == ["a/perlin-t1-rng0.wav", f"(unseen) {library.unseen[0].name}", "(white noise)"]
    verdict = judge.judge(read_song(here / "runs/a/audio/perlin-t1-rng0.wav").samples)
    assert found["judge", "a/perlin-t1-rng0.wav"] == {
        "alive": "yes" if verdict.alive else "no",
        "Fréchet": two(verdict.frechet_ratio),
        "1 s": "–",
        "4 s": "–",
        "noise": two(verdict.noisiness),
        "dB": f"{verdict.level_db:+.1f}",
        "copy": f"{verdict.copied_s:.1f}",
    }
    noise = found["judge", "(white noise)"]
    assert noise["alive"] == "no"
    assert float(noise["noise"]) == pytest.approx(0.58, abs=0.02)
    # by their medians: the songs of half a second begin softly
    songs = np.concatenate([song.samples for song in library.train])
    rms_db = 10 * np.log10(np.mean(songs.astype(float) ** 2))
    median = np.median([np.mean(song.samples.astype(float) ** 2) for song in library.train])
    assert float(noise["dB"]) == pytest.approx(rms_db - 10 * np.log10(median), abs=0.3)
    assert f"Judged against the 2 songs of run a (noise {verdict.songs_noisiness:.2f})" in lines
    assert "(white noise): not alive: hiss" in lines


def test_files_are_at_the_level_of_the_first_run(scored, here):
    write(here / "quiet.wav", noisy_tone(0.5, 0.02))
    samples = read_song(here / "quiet.wav").samples
    session, _, _ = restored_session(*opened("a"))
    found, _ = scored("quiet.wav", "a", orders=(4,))
    for level, rows in (
        (session.codec.level, found),
        (Level.measure([samples]), scored("quiet.wav", orders=(4,))[0]),
    ):
        [bits] = adaptive_bits(level.apply(samples), [4])
        assert rows["bits", "quiet.wav"]["LP 4"] == two(bits.mean())


def opened(name):
    run = Run.open(name, AudioConfig)
    return run, run.config, read_library(run.config)


def test_the_order_is_that_of_the_command_and_nothing_comes_twice(scored, here):
    write(here / "x.wav", noisy_tone(0.3))
    found, lines = scored("x.wav", "b", "runs/a/", "a", "./runs/b", "x.wav", seconds=0.3)
    rows = [row for table, row in found if table == "bits"]
    assert rows == [
        *("x.wav", "run b", "b/perlin-t1-rng0.wav", "run a", "a/perlin-t1-rng0.wav"),
        "(white noise)",  # b, the first one, held nothing out
    ]
    assert sum(line.startswith("| run a ") for line in lines) == 1


def test_a_run_that_held_nothing_out(scored):
    found, lines = scored("b", seconds=0.3)
    assert found["bits", "run b"] == {
        **{"s": "0.0", "code": "–", "LP 32": "–", "LP 128": "–", "model": "–"}
    }
    assert "b: it held nothing out; --songs says what it is to be scored on" in lines
    assert ("judge", "b/perlin-t1-rng0.wav") in found


def test_runs_of_other_levels_are_told_apart(scored):
    _, lines = scored("a", "b", seconds=0.3)
    gains = [restored_session(*opened(name))[0].codec.level.gain for name in "ab"]
    difference_db = 20 * np.log10(gains[1] / gains[0])
    expected = f"b: its level is {difference_db:+.1f} dB from that of a, so its codes are others"
    assert expected in lines


# --- other songs ---------------------------------------------------------------------------------


def test_a_run_on_other_songs(scored, here):
    (here / "other").mkdir()
    for i, seconds in enumerate((0.4, 0.8)):
        write(here / "other" / f"{i}.wav", noisy_tone(seconds, rng=i))
    (here / "other" / "text.wav").write_text("hello")
    found, lines = scored("a", songs="other", duration_s=0.5, seconds=0.6)
    session, _, _ = restored_session(*opened("a"))
    songs = [read_song(here / "other" / f"{i}.wav", 0.5).samples for i in range(2)]
    bits = [session.score(song).bits_per_sample for song in songs]
    expected = np.average(bits, weights=[len(song) for song in songs])
    assert found["bits", "run a"]["model"] == two(expected)
    assert found["bits", "run a"]["s"] == "0.9"
    assert any(line.startswith("Judged against the 2 songs of --songs other") for line in lines)
    assert any(line.startswith("other/text.wav: not decodable") for line in lines)
    assert not any(row.startswith("(unseen)") for _, row in found)


def test_of_the_demo_songs_the_unseen_one_is_scored(scored):
    """Which is what a run of the demo held out anyway."""
    found, _ = scored("a", songs="demo", duration_s=0.6, orders=(4,))
    assert found["bits", "run a"] == scored("a", orders=(4,))[0]["bits", "run a"]


@pytest.mark.parametrize("songs", ["own.wav", "."])
def test_songs_that_a_run_has_learned_are_said_to_be_known(songs, scored, trained, monkeypatch):
    monkeypatch.chdir(trained)
    _, lines = scored("b", songs=songs, seconds=0.2)
    assert f"b: it learned from --songs {songs}, which are not unseen" in lines


def test_files_alone_beside_songs_use_the_songs_level(scored, here):
    write(here / "x.wav", noisy_tone(0.3, 0.05))
    found, lines = scored("x.wav", songs="demo", duration_s=0.5, orders=(4,), seconds=0.5)
    demo = read_library(AudioConfig(data=DataConfig(duration_s=0.5)))
    level = Level.measure([song.samples for song in demo.train])
    [bits] = adaptive_bits(level.apply(read_song("x.wav").samples), [4])
    assert found["bits", "x.wav"]["LP 4"] == two(bits.mean())
    assert ("judge", f"(unseen) {demo.unseen[0].name}") in found
    assert lines[0].endswith("at the level of --songs demo")


def test_a_file_alone_is_not_judged(scored, here):
    write(here / "x.wav", noisy_tone(0.3))
    found, lines = scored("x.wav")
    assert list(found) == [("bits", "x.wav")]
    assert lines[-1] == "without a run or --songs there is nothing to judge against"


# --- the page ------------------------------------------------------------------------------------


def test_only_the_first_seconds_count(scored, here):
    write(here / "long.wav", noisy_tone(1.0))
    write(here / "short.wav", noisy_tone(1.0)[: SAMPLE_RATE_HZ // 4])
    found, _ = scored("long.wav", "short.wav", "a", seconds=0.25)
    assert found["bits", "long.wav"] == found["bits", "short.wav"]
    assert {row["s"] for (table, _), row in found.items() if table == "bits"} == {"0.2"}


def test_the_page_is_narrow_and_kept(scored, here):
    name = "a name that is far too long for a table of a hundred columns to hold it " * 2 + ".wav"
    write(here / name, noisy_tone(0.3))
    _, lines = scored("a", name, orders=(0, 32, 128, 1024), out=here / "kept" / "table.md")
    assert {len(line) for line in lines if line.startswith("|")} == {WIDTH}
    assert any(line.startswith("| …") and "to hold it .wav |" in line for line in lines)
    assert (here / "kept" / "table.md").read_text() == "\n".join(lines) + "\n"
    assert [path.name for path in (here / "kept").iterdir()] == ["table.md"]


# --- what cannot be scored -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("thing", "error", "words"),
    [
        ("nope", ParameterError, "nope: neither a run nor an audio file; there are a, b"),
        ("nope.wav", DataError, "nope.wav: no such file"),
        ("runs", DataError, "runs: is a folder, not an audio file"),
        ("text.wav", FormatError, "text.wav: not decodable"),
        ("silent.wav", DataError, "silent.wav: is silent"),
        ("short.wav", DataError, "short.wav: its 0.005 s are too short to score; 0.1 s are the"),
        ("damaged", RunError, "runs/damaged/checkpoints/last.safetensors: not a whole checkpoint"),
    ],
)
def test_what_is_broken_is_named_and_stops_no_other(thing, error, words, here, capsys):
    (here / "text.wav").write_text("hello")
    write(here / "silent.wav", np.zeros(9000))
    write(here / "short.wav", noisy_tone(0.005))
    write(here / "fine.wav", noisy_tone(0.3))
    shutil.copytree(here / "runs/a", here / "runs/damaged")
    (here / "runs/damaged/checkpoints/last.safetensors").write_bytes(b"cut short")
    if thing != "damaged":
        shutil.rmtree(here / "runs/damaged")
    with pytest.raises(error) as raised:
        score_things(ScoreCommand((thing, "fine.wav"), machine=ONE_THREAD))
    assert str(raised.value).startswith(words)
    found = tables(capsys.readouterr().out.splitlines())
    assert list(found) == [("bits", "fine.wav")]
    with pytest.raises(error):
        score_things(ScoreCommand((thing,), machine=ONE_THREAD, out=here / "t.md"))
    assert capsys.readouterr().out == ""
    assert not (here / "t.md").exists()


def test_a_run_whose_sound_is_broken(here, capsys):
    (here / "runs/a/audio/another.wav").write_text("hello")
    with pytest.raises(FormatError, match=r"^runs/a/audio/another.wav: not decodable"):
        score_things(ScoreCommand(("a",), machine=ONE_THREAD))
    assert ("judge", "a/perlin-t1-rng0.wav") in tables(capsys.readouterr().out.splitlines())


def test_a_run_whose_songs_are_gone(here, capsys):
    config = (here / "runs/a/config.json").read_text()
    (here / "runs/a/config.json").write_text(config.replace('"demo"', '"gone/away.wav"'))
    with pytest.raises(DataError, match=r"^runs/a: 'gone/away.wav': no such file or folder"):
        score_things(ScoreCommand(("a", "b"), machine=ONE_THREAD, seconds=0.3))
    assert ("bits", "run b") in tables(capsys.readouterr().out.splitlines())


def test_runs_by_name_and_by_folder(here):
    assert [run_named(thing) for thing in ("a", "runs/a", "./runs/a/")] == ["a"] * 3
    assert [run_named(thing) for thing in ("c", "x/a", "", "runs", ".", "../a")] == [None] * 6


# --- the flags -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"things": ()}, "name a run or an audio file"),
        ({"orders": ()}, "--orders takes 1 to 4 of them"),
        ({"orders": (1, 2, 3, 4, 5)}, "--orders takes 1 to 4 of them"),
        ({"orders": (-1,)}, "--orders -1 must be a number of past samples of at least 0"),
        ({"orders": (1025,)}, "--orders 1025 must be a number of past samples of at most 1,024"),
        ({"seconds": 0.01}, "--seconds 0.01 must be a number of seconds of at least 0.1"),
        ({"seconds": 1e6}, "--seconds 1e\\+06 must be a number of seconds of at most 3,600"),
        ({"duration_s": 1.0}, "--duration goes with --songs; a run keeps its own"),
        ({"songs": "demo", "duration_s": -1.0}, "--duration -1 must be"),
    ],
)
def test_settings_that_cannot_be(settings, words):
    with pytest.raises(ParameterError, match=f"^{words}"):
        ScoreCommand(**({"things": ("a",)} | settings))


def test_songs_that_are_not_there(here):
    with pytest.raises(DataError, match=r"^--songs nope: no such file or folder; it takes demo"):
        score_things(ScoreCommand(("a",), songs="nope"))
