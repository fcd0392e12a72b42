"""What of an audio run's settings is refused, and where the defaults of a command come from."""

import json
from pathlib import Path

import pytest

from noizenet.audio.config import (
    HIGHEST_PERLIN_HZ,
    LARGEST_RNG,
    LONGEST_PLAY_S,
    MOST_PERLIN_OCTAVES,
    PRESETS,
    AudioConfig,
    DataConfig,
    PlayConfig,
    SoundConfig,
    parse_generate,
    parse_train,
)
from noizenet.config import to_dict
from noizenet.errors import ParameterError
from noizenet.sound.seeds import MAX_PERLIN_OCTAVES
from noizenet.units import SAMPLE_RATE_HZ


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (SoundConfig, {"representation": "fft", "scaling": "log"}, "--scaling log has no effect"),
        (SoundConfig, {"loss": "mse", "mixtures": 7}, "--mixtures 7 goes with --loss mixture"),
        (SoundConfig, {"frame_samples": 8196}, "--frame-samples 8196 must be a multiple of 4, 4 t"),
        (SoundConfig, {"predictor": 22_051}, "--predictor 22051 must be a number of samples of at"),
        (PlayConfig, {"rng": LARGEST_RNG + 1}, "--rng "),
        (PlayConfig, {"seed_seconds": 601.0}, "--seed-seconds 601 must be a number of seconds of"),
        (PlayConfig, {"generate_seconds": 1201.0, "count": 3}, "--generate-seconds 1201 × --count"),
        (PlayConfig, {"count": 2, "temperature": 0.0}, "--count 2 with --temperature 0 would play"),
        (PlayConfig, {"perlin_hz": 11_026.0}, "--perlin-hz 11026 must be a frequency of at most"),
        (PlayConfig, {"perlin_octaves": 13}, "--perlin-octaves 13 must be a number of octaves of"),
    ],
)
def test_settings_beyond_their_bounds(kind, settings, message):
    with pytest.raises(ParameterError) as caught:
        kind(**settings)
    assert str(caught.value).startswith(message)


def test_settings_on_their_bounds():
    PlayConfig(rng=LARGEST_RNG, seed_seconds=600.0, perlin_hz=11_025.0, perlin_octaves=12)
    PlayConfig(generate_seconds=LONGEST_PLAY_S / 4, count=4)
    SoundConfig(representation="fft", frame_samples=8192)
    SoundConfig(predictor=22_050)


def test_bounds_agree_with_what_they_bound():
    assert MOST_PERLIN_OCTAVES == MAX_PERLIN_OCTAVES
    assert 2 * HIGHEST_PERLIN_HZ == SAMPLE_RATE_HZ


def test_a_file_then_flags(tmp_path):
    path = tmp_path / "config.json"
    config = AudioConfig(data=DataConfig(songs=3), play=PlayConfig(rng=5))
    path.write_text(json.dumps(to_dict(config)))
    command = parse_train(["--config", str(path), "--songs", "2"])
    assert command.config == AudioConfig(data=DataConfig(songs=2), play=PlayConfig(rng=5))


def test_a_preset_then_flags():
    command = parse_train(["--preset", "classic", "--hidden", "7"])
    assert command.config.model.hidden == 7
    assert command.config.sound == PRESETS["classic"].sound


def test_generate_plays_as_its_run_did_unless_told_otherwise(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = Path("runs") / "a"
    folder.mkdir(parents=True)
    play = PlayConfig(seed="random", temperature=0.5, count=3)
    (folder / "config.json").write_text(json.dumps(to_dict(AudioConfig(play=play))))
    assert parse_generate(["--run", "a"]).play == play
    command = parse_generate(["--run", "a", "--seconds", "30", "--seed", "perlin"])
    assert command.play == PlayConfig(
        seed="perlin", temperature=0.5, count=3, generate_seconds=30.0
    )
    assert command.out is None
    assert command.checkpoint == "last"
