import numpy as np
import pytest
import soundfile

from noizenet.errors import DataError, FormatError, ParameterError
from noizenet.sound import library as library_module
from noizenet.sound.library import AUDIO_ENDINGS, load_library
from noizenet.units import SAMPLE_RATE_HZ

SECOND = SAMPLE_RATE_HZ


def make_song(path, duration_s=1.0, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(seed).normal(0, 0.1, round(duration_s * SAMPLE_RATE_HZ))
    soundfile.write(path, samples, SAMPLE_RATE_HZ, subtype="FLOAT", format="WAV")
    return samples.astype(np.float32)


def make_folder(folder, n_songs):
    for index in range(n_songs):
        make_song(folder / f"{index:02d}.wav", 0.05, index)
    return str(folder)


def names(songs):
    return [song.name for song in songs]


def test_the_end_of_a_file_is_held_out(tmp_path):
    samples = make_song(tmp_path / "a.wav", 2.0)
    library = load_library(str(tmp_path / "a.wav"), None, None, 0.25)
    (train,), (unseen,) = library.train, library.unseen
    assert (train.name, unseen.name) == ("a", "a-unseen")
    np.testing.assert_array_equal(train.samples, samples[: 3 * SECOND // 2])
    np.testing.assert_array_equal(unseen.samples, samples[3 * SECOND // 2 :])
    assert library.skipped == library.notes == ()


def test_the_share_of_a_file_is_one_of_the_part_that_is_kept(tmp_path):
    samples = make_song(tmp_path / "a.wav", 2.0)
    library = load_library(str(tmp_path / "a.wav"), None, 1.0, 0.1)
    np.testing.assert_array_equal(library.train[0].samples, samples[: round(0.9 * SECOND)])
    np.testing.assert_array_equal(library.unseen[0].samples, samples[round(0.9 * SECOND) : SECOND])
    assert load_library(str(tmp_path / "a.wav"), None, 1.0, 0.0).unseen == ()


def test_a_file_that_begins_or_ends_in_silence(tmp_path):
    samples = make_song(tmp_path / "a.wav", 1.0)
    path = tmp_path / "b.wav"
    soundfile.write(path, np.pad(samples, (0, 3 * SECOND)), SECOND, subtype="FLOAT")
    (note,) = load_library(str(path), None, None, 0.1).notes
    assert note == f"{path}: its last 0.40 s, which are held out, are silent"
    soundfile.write(path, np.pad(samples, (3 * SECOND, 0)), SECOND, subtype="FLOAT")
    with pytest.raises(DataError, match=r"b\.wav: its first 2\.00 s, .* are silent"):
        load_library(str(path), None, None, 0.5)


def test_a_folder_is_searched_to_its_bottom_and_sorted(tmp_path):
    for index, name in enumerate(["b/2.flac", "b/1.WAV", "a/x/9.wav", "c.aiff"]):
        make_song(tmp_path / name, 0.05, index)
    (tmp_path / "cover.jpg").write_bytes(b"no sound")
    (tmp_path / "b" / "._1.wav").write_bytes(b"what a file manager left")
    library = load_library(str(tmp_path), None, None, 0)
    assert names(library.train) == ["a/x/9", "b/1", "b/2", "c"]
    assert library.unseen == library.skipped == ()


@pytest.mark.parametrize(
    ("n_files", "valid_fraction", "n_unseen"),
    [(2, 0.01, 1), (2, 0.9, 1), (10, 0.1, 1), (10, 0.3, 3), (10, 0.9, 9), (10, 0, 0)],
)
def test_a_share_of_a_folder_is_held_out(tmp_path, n_files, valid_fraction, n_unseen):
    library = load_library(make_folder(tmp_path, n_files), None, None, valid_fraction)
    assert len(library.unseen) == n_unseen
    assert sorted(names(library.train) + names(library.unseen)) == [
        f"{index:02d}" for index in range(n_files)
    ]
    assert names(library.train) == sorted(names(library.train))


def test_held_out_songs_are_spread_and_do_not_change(tmp_path):
    folder = make_folder(tmp_path / "a", 30)
    few = names(load_library(folder, None, None, 0.1).unseen)
    many = names(load_library(folder, None, None, 0.5).unseen)
    assert set(few) < set(many)
    assert few == names(load_library(make_folder(tmp_path / "b", 30), None, None, 0.1).unseen)
    assert few[-1] != "29"  # so it is with these names; crc32 does not change
    places = np.array([int(name) for name in many])
    assert places.min() < 5
    assert places.max() > 24
    assert set(few) == set(names(load_library(folder, 27, None, 0.1).unseen))


def test_no_more_songs_are_decoded_than_are_needed(tmp_path, monkeypatch):
    folder = make_folder(tmp_path, 30)
    decoded = []

    def read_song(path, duration_s):
        decoded.append(path)
        return original(path, duration_s)

    original = library_module.read_song
    monkeypatch.setattr(library_module, "read_song", read_song)
    for n_songs, n_unseen in ((1, 1), (5, 1), (9, 1), (20, 2)):
        decoded.clear()
        library = load_library(folder, n_songs, None, 0.1)
        assert (len(library.train), len(library.unseen)) == (n_songs, n_unseen)
        assert len(decoded) == n_songs + n_unseen
        assert library.notes == ()


def test_unreadable_files_are_skipped_listed_and_replaced(tmp_path):
    folder = make_folder(tmp_path, 6)
    (tmp_path / "00.wav").write_text("la la la")
    soundfile.write(tmp_path / "03.wav", np.zeros(1000), SAMPLE_RATE_HZ)
    library = load_library(folder, None, None, 0.2)
    assert (len(library.train), len(library.unseen)) == (3, 1)
    text, silent = sorted(library.skipped)
    assert text.startswith(f"{tmp_path / '00.wav'}: not decodable (")
    assert text.endswith("; skipped")
    assert silent == f"{tmp_path / '03.wav'}: is silent for all of its 0.05 s; skipped"
    assert len(load_library(folder, 3, None, 0.2).train) == 3


@pytest.mark.parametrize("survivor", range(4))
def test_a_single_readable_song_is_treated_as_a_file(tmp_path, survivor):
    folder = make_folder(tmp_path, 4)
    for index in set(range(4)) - {survivor}:
        (tmp_path / f"{index:02d}.wav").write_text("la la la")
    library = load_library(folder, None, None, 0.2)
    assert names(library.train) == [f"{survivor:02d}"]
    assert names(library.unseen) == [f"{survivor:02d}-unseen"]
    assert len(library.skipped) == 3


@pytest.mark.parametrize("broken", [(0, 1), (2, 3), (0, 3), (1, 2)])
def test_broken_files_never_leave_all_songs_held_out(tmp_path, broken):
    folder = make_folder(tmp_path, 4)
    for index in broken:
        (tmp_path / f"{index:02d}.wav").write_text("la la la")
    library = load_library(folder, None, None, 0.75)
    assert (len(library.train), len(library.unseen)) == (1, 1)


def test_fewer_songs_than_asked_for_are_used_and_noted(tmp_path):
    folder = make_folder(tmp_path, 3)
    library = load_library(folder, 9, None, 0.1)
    assert (len(library.train), len(library.unseen)) == (2, 1)
    assert library.notes == (f"{folder}: --songs 9, but there are 2 to train on",)
    path = str(tmp_path / "00.wav")
    assert load_library(path, 2, None, 0.1).notes == (
        f"{path}: --songs 2, but there are 1 to train on",
    )


def test_short_songs_are_padded_and_noted(tmp_path):
    samples = make_song(tmp_path / "short.wav", 0.5)
    make_song(tmp_path / "long.wav", 2.0, 1)
    library = load_library(str(tmp_path), None, None, 0, min_samples=SECOND)
    long, short = library.train
    assert len(long.samples) == 2 * SECOND
    np.testing.assert_array_equal(short.samples, np.pad(samples, (0, SECOND - len(samples))))
    assert short.samples.dtype == np.float32
    assert library.notes == (
        "short: 0.500 s is shorter than the window; padded with silence to 1.000 s",
    )


def test_nothing_to_read_is_a_data_error(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("la la la")
    for name in ("empty", "texts"):
        with pytest.raises(DataError, match=rf"{name}: no audio files in it \(.*\.wav"):
            load_library(str(tmp_path / name), None, None, 0.1)
    for missing in (str(tmp_path / "none"), ""):
        with pytest.raises(DataError, match="no such file or folder; --data takes demo"):
            load_library(missing, None, None, 0.1)
    for name in ("a.wav", "b.mp3", "c.flac"):
        (tmp_path / "texts" / name).write_text("la la la")
    with pytest.raises(DataError, match=r"none of 3 audio files can be read; first .*/[abc]\."):
        load_library(str(tmp_path / "texts"), None, None, 0.1)
    with pytest.raises(FormatError, match=r"a\.wav: not decodable"):
        load_library(str(tmp_path / "texts" / "a.wav"), None, None, 0.1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((0, None, 0.1), "--songs 0 must be a whole number above 0"),
        ((-3, None, 0.1), "--songs -3 must be a whole number above 0"),
        ((None, 0, 0.1), "--duration 0 must be a number of seconds above 0"),
        ((None, float("nan"), 0.1), "--duration nan must be a number of seconds above 0"),
        ((None, None, -0.1), r"--valid-fraction -0\.1 must be between 0 and 0\.9"),
        ((None, None, 0.91), r"--valid-fraction 0\.91 must be between 0 and 0\.9"),
        ((None, None, float("nan")), r"--valid-fraction nan must be between 0 and 0\.9"),
    ],
)
def test_values_that_are_not_allowed(values, message):
    with pytest.raises(ParameterError, match=f"^{message}$"):
        load_library("demo", *values)


def test_the_demo_library_holds_out_its_unseen_song(tmp_path, monkeypatch):
    for index, name in enumerate(["02-b.flac", "01-a.flac", "unseen-z.flac", "03-c.flac"]):
        make_song(tmp_path / name, 0.3, index)
    monkeypatch.setattr(library_module, "DEMO_FOLDER", tmp_path)
    library = load_library("demo", None, None, 0)
    assert names(library.train) == ["01-a", "02-b", "03-c"]
    assert names(library.unseen) == ["unseen-z"]
    library = load_library("demo", 2, 0.1, 0.5)
    assert names(library.train) == ["01-a", "02-b"]
    assert {len(song.samples) for song in library.train + library.unseen} == {SECOND // 10}
    assert load_library("demo", 7, None, 0).notes == (
        "demo: --songs 7, but there are 3 to train on",
    )


def test_a_missing_demo_library_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(library_module, "DEMO_FOLDER", tmp_path)
    with pytest.raises(DataError, match="the embedded songs are missing"):
        load_library("demo", None, None, 0.1)


def test_every_ending_that_is_looked_for_is_one_of_libsndfile():
    formats = {ending[1:].upper() for ending in AUDIO_ENDINGS}
    other_names = {"OGA": "OGG", "OPUS": "OGG", "AIF": "AIFF", "AIFC": "AIFF", "SND": "AU"}
    assert {other_names.get(name, name) for name in formats} <= set(soundfile.available_formats())
