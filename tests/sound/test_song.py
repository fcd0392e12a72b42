import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from noizenet.errors import DataError, FormatError, ParameterError, RunError
from noizenet.sound import song as song_module
from noizenet.sound.song import is_silent, read_song, write_song
from noizenet.units import SAMPLE_RATE_HZ


def sine(duration_s, rate_hz=SAMPLE_RATE_HZ, frequency_hz=440.0, amplitude=0.5):
    return amplitude * np.sin(
        2 * np.pi * frequency_hz * np.arange(round(duration_s * rate_hz)) / rate_hz
    )


@pytest.mark.parametrize(
    ("name", "subtype", "tolerance"),
    [
        ("a.wav", "PCM_U8", 2**-7),
        ("a.wav", "PCM_16", 2**-15),
        ("a.wav", "PCM_24", 2**-23),
        ("a.wav", "PCM_32", 1e-7),
        ("a.wav", "FLOAT", 1e-7),
        ("a.wav", "DOUBLE", 1e-7),
        ("a.flac", "PCM_24", 2**-23),
        ("a.aiff", "PCM_S8", 2**-7),
        ("a.AIFF", "PCM_16", 2**-15),
        ("a.au", "ULAW", 0.02),
    ],
)
def test_every_sample_format_is_read_to_its_own_precision(tmp_path, name, subtype, tolerance):
    samples = sine(0.2)
    soundfile.write(tmp_path / name, samples, SAMPLE_RATE_HZ, subtype=subtype)
    song = read_song(tmp_path / name)
    assert (song.name, song.samples.dtype, song.duration_s) == ("a", np.float32, 0.2)
    np.testing.assert_allclose(song.samples, samples, rtol=0, atol=tolerance)


@pytest.mark.parametrize("ending", [".ogg", ".mp3"])
def test_lossy_files_are_read_in_step(tmp_path, ending):
    samples = sine(1.0)
    soundfile.write(tmp_path / f"a{ending}", samples, SAMPLE_RATE_HZ)
    read = read_song(tmp_path / f"a{ending}").samples
    assert len(read) == len(samples)
    np.testing.assert_allclose(read[1000:-1000], samples[1000:-1000], atol=0.02)


def test_channels_are_averaged(tmp_path):
    left, right = sine(0.1), sine(0.1, frequency_hz=1000)
    silent = np.zeros_like(left)
    channels = np.stack([left, right, silent, left], axis=1)
    soundfile.write(tmp_path / "a.wav", channels, SAMPLE_RATE_HZ, subtype="FLOAT")
    np.testing.assert_allclose(
        read_song(tmp_path / "a.wav").samples, (2 * left + right) / 4, atol=1e-6
    )


@pytest.mark.parametrize("rate_hz", [8000, 11025, 44100, 48000, 96000])
def test_a_tone_keeps_its_time_level_and_pitch_at_every_rate(tmp_path, rate_hz):
    soundfile.write(tmp_path / "a.wav", sine(1.0, rate_hz), rate_hz, subtype="FLOAT")
    samples = read_song(tmp_path / "a.wav").samples
    assert len(samples) == SAMPLE_RATE_HZ
    inner = slice(2000, -2000)  # away from the steps at the ends, where any filter rings
    np.testing.assert_allclose(samples[inner], sine(1.0)[inner], atol=1e-4)


def test_resampling_leaves_no_alias(tmp_path):
    tone = sine(1.0, 48000, 15000) * np.hanning(48000)  # above half of 22 050 Hz
    soundfile.write(tmp_path / "a.wav", tone + sine(1.0, 48000), 48000, subtype="FLOAT")
    samples = read_song(tmp_path / "a.wav").samples
    np.testing.assert_allclose(samples[2000:-2000], sine(1.0)[2000:-2000], atol=1e-4)


@pytest.mark.parametrize("rate_hz", [SAMPLE_RATE_HZ, 48000])
def test_a_cut_is_the_beginning_of_the_whole(tmp_path, rate_hz):
    noise = np.random.default_rng(0).normal(0, 0.1, (3 * rate_hz, 2))
    soundfile.write(tmp_path / "a.wav", noise, rate_hz, subtype="FLOAT")
    whole = read_song(tmp_path / "a.wav")
    cut = read_song(tmp_path / "a.wav", duration_s=1.3)
    assert len(cut.samples) == round(1.3 * SAMPLE_RATE_HZ)
    np.testing.assert_allclose(cut.samples, whole.samples[: len(cut.samples)], atol=1e-6)
    assert read_song(tmp_path / "a.wav", duration_s=99).duration_s == 3.0


def test_no_more_is_resampled_than_the_cut_needs(tmp_path, monkeypatch):
    soundfile.write(tmp_path / "a.wav", sine(20.0, 44100), 44100)
    lengths = []

    def resample(samples, *args, **options):
        lengths.append(len(samples))
        return samples[::2]

    monkeypatch.setattr(song_module.soxr, "resample", resample)
    read_song(tmp_path / "a.wav", duration_s=1.0)
    assert lengths == [44100 + 44100 // 4]


def wav_bytes(tmp_path):
    soundfile.write(tmp_path / "good.wav", sine(0.1), SAMPLE_RATE_HZ)
    return (tmp_path / "good.wav").read_bytes()


def test_broken_files_are_format_errors_that_begin_with_the_path(tmp_path):
    path = tmp_path / "a.wav"
    flac = tmp_path / "a.flac"
    soundfile.write(flac, np.random.default_rng(0).normal(0, 0.1, 50_000), SAMPLE_RATE_HZ)
    cases = {
        path: [b"", b"la la la, this is a text\n" * 9, wav_bytes(tmp_path)[:20]],
        flac: [flac.read_bytes()[:60], flac.read_bytes()[:20_000]],
        tmp_path / "a.mp3": [b"ID3 and nothing else"],
        tmp_path / "a.raw": [b"\0\1" * 5000],
    }
    for broken, contents in cases.items():
        for content in contents:
            broken.write_bytes(content)
            with pytest.raises(FormatError) as caught:
                read_song(broken)
            assert str(caught.value).startswith(f"{broken}: not decodable (")
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_samples_are_refused(tmp_path, bad):
    samples = sine(0.1)
    samples[777] = bad
    soundfile.write(tmp_path / "a.wav", samples, SAMPLE_RATE_HZ, subtype="FLOAT")
    with pytest.raises(FormatError, match=r"a\.wav: has samples that are NaN or infinite"):
        read_song(tmp_path / "a.wav")


def test_zero_length_is_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(0), SAMPLE_RATE_HZ)
    with pytest.raises(FormatError, match=r"a\.wav: .*zero length"):
        read_song(tmp_path / "a.wav")


@pytest.mark.parametrize("constant", [0.0, 0.3])
def test_silence_is_no_data_even_with_an_offset(tmp_path, constant):
    soundfile.write(tmp_path / "a.wav", np.full(1000, constant), SAMPLE_RATE_HZ, subtype="FLOAT")
    with pytest.raises(DataError, match=r"a\.wav: is silent"):
        read_song(tmp_path / "a.wav")


def test_silence_ends_at_its_threshold():
    assert is_silent(sine(0.1, amplitude=0.99e-5) + 0.2)
    assert not is_silent(sine(0.1, amplitude=1.1e-5) + 0.2)


def test_missing_files_and_folders_are_data_errors(tmp_path):
    with pytest.raises(DataError, match=r"none\.wav: no such file"):
        read_song(tmp_path / "none.wav")
    with pytest.raises(DataError, match="is a folder"):
        read_song(tmp_path)


def test_an_absurd_sample_rate_is_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", sine(0.1), 3)
    with pytest.raises(FormatError, match="a sample rate of 3 Hz"):
        read_song(tmp_path / "a.wav")


@pytest.mark.parametrize("duration_s", [0, -1, float("nan"), float("inf")])
def test_durations_must_be_above_zero(tmp_path, duration_s):
    with pytest.raises(ParameterError, match=r"^--duration .* must be a number of seconds above 0"):
        read_song(tmp_path / "a.wav", duration_s)


@pytest.mark.parametrize(
    ("ending", "file_format", "subtype"),
    [
        (".wav", "WAV", "PCM_16"),
        (".FLAC", "FLAC", "PCM_16"),
        (".ogg", "OGG", "VORBIS"),
        (".mp3", "MP3", "MPEG_LAYER_III"),
    ],
)
def test_the_ending_chooses_the_format(tmp_path, ending, file_format, subtype):
    path = tmp_path / f"a{ending}"
    samples = sine(1.0)
    assert write_song(path, samples) == 0.0
    info = soundfile.info(str(path))
    assert (info.format, info.subtype, info.samplerate) == (file_format, subtype, SAMPLE_RATE_HZ)
    assert (info.frames, info.channels) == (len(samples), 1)
    tolerance = 2**-15 if subtype == "PCM_16" else 0.02
    np.testing.assert_allclose(
        soundfile.read(path)[0][1000:-1000], samples[1000:-1000], atol=tolerance
    )
    assert os.listdir(tmp_path) == [path.name]


def test_a_loud_sound_is_scaled_as_a_whole_and_the_gain_is_told(tmp_path):
    samples = sine(0.5, amplitude=1.0) * np.linspace(0, 4, SAMPLE_RATE_HZ // 2)
    gain_db = write_song(tmp_path / "a.wav", samples)
    peak = 10 ** (-1 / 20)
    assert gain_db == pytest.approx(20 * np.log10(peak / np.abs(samples).max()), abs=1e-5)
    written = soundfile.read(tmp_path / "a.wav")[0]
    np.testing.assert_allclose(written, samples * peak / np.abs(samples).max(), atol=2**-15)


def test_headroom_begins_above_minus_one_decibel(tmp_path):
    for level_db, expected_db in ((-1.01, 0.0), (-0.5, -0.5)):
        samples = np.zeros(100)
        samples[50] = -(10 ** (level_db / 20))
        gain_db = write_song(tmp_path / "a.flac", samples)
        assert gain_db == pytest.approx(expected_db, abs=1e-5)


@pytest.mark.parametrize("ending", [".ogg", ".mp3"])
def test_lossy_encodings_do_not_overshoot_even_on_clipped_noise(tmp_path, ending):
    # Measured: 7 dB (OGG) and 10 dB (MP3) of overshoot, far more than a fixed headroom holds.
    samples = np.clip(np.random.default_rng(0).normal(0, 5, 2 * SAMPLE_RATE_HZ), -1, 1)
    gain_db = write_song(tmp_path / f"a{ending}", samples)
    assert np.abs(soundfile.read(tmp_path / f"a{ending}")[0]).max() <= 1.0
    assert -15 < gain_db < -2


def test_a_long_ogg_is_written(tmp_path):
    samples = np.random.default_rng(0).normal(0, 0.1, 100 * SAMPLE_RATE_HZ)
    write_song(tmp_path / "a.ogg", samples)
    assert soundfile.info(tmp_path / "a.ogg").frames == len(samples)


@pytest.mark.parametrize("name", ["a.aiff", "a", "a.wave", ".wav"])
def test_other_endings_are_refused(tmp_path, name):
    with pytest.raises(ParameterError, match=r"must end in \.wav, \.flac, \.ogg or \.mp3"):
        write_song(tmp_path / name, sine(0.1))


@pytest.mark.parametrize("samples", [[0.1, np.nan], [np.inf], [], [[0.1], [0.2]]])
def test_what_is_no_sound_is_not_written(tmp_path, samples):
    with pytest.raises(ParameterError, match=r"a\.wav: "):
        write_song(tmp_path / "a.wav", np.array(samples))
    assert os.listdir(tmp_path) == []


def test_an_unwritable_place_is_a_run_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"a\.wav: cannot be written \((File exists|Not a dir)"):
        write_song(tmp_path / "file" / "a.wav", sine(0.1))
    (tmp_path / "file").unlink()
    (tmp_path / "folder.wav").mkdir()
    with pytest.raises(RunError, match=r"folder\.wav: cannot be written \(.*directory"):
        write_song(tmp_path / "folder.wav", sine(0.1))
    assert os.listdir(tmp_path) == ["folder.wav"]


def test_a_rate_that_the_format_does_not_know_is_a_run_error(tmp_path):
    with pytest.raises(RunError, match=r"a\.mp3: cannot be written"):
        write_song(tmp_path / "a.mp3", sine(0.1), sample_rate_hz=12345)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("ending", [".wav", ".flac", ".ogg", ".mp3"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, ending):
    """A limit on the size of files stands for the full disk; it is set in a process apart."""
    path = tmp_path / f"a{ending}"
    write_song(path, sine(0.1))
    before = path.read_bytes()
    script = (
        "import resource, sys, numpy\n"
        "from noizenet.sound.song import write_song\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "write_song(sys.argv[1], numpy.random.default_rng(0).normal(0, 0.1, 22050 * 10))\n"
    )
    command = [sys.executable, "-c", script, str(path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert f"RunError: {path}: cannot be written (File too large)" in result.stderr
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]
