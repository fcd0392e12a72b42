"""What of an audio run's settings is refused, and where the defaults of a command come from."""

import json
from pathlib import Path

import pytest

from noizenet.audio.config import (
    DUET,
    FRAMES,
    GUIDE_ORDER,
    HIGHEST_PERLIN_HZ,
    LARGEST_RNG,
    LONGEST_PLAY_S,
    MOST_CODES,
    MOST_PERLIN_OCTAVES,
    PRESETS,
    STACK,
    AudioConfig,
    ConductorConfig,
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

FFT = {"model": "frames", "representation": "fft"}


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (SoundConfig, {**FFT, "scaling": "log"}, "--scaling log has no effect"),
        (SoundConfig, {"loss": "mse", "mixtures": 7}, "--mixtures 7 goes with --loss mixture"),
        (SoundConfig, {"frame_samples": 8196}, "--frame-samples 8196 must be a multiple of 4, 4 t"),
        (SoundConfig, {"predictor": 22_051}, "--predictor 22051 must be a number of samples of at"),
        (PlayConfig, {"rng": LARGEST_RNG + 1}, "--rng "),
        (PlayConfig, {"seed_seconds": 601.0}, "--seed-seconds 601 must be a number of seconds of"),
        (PlayConfig, {"generate_seconds": 1201.0, "count": 3}, "--generate-seconds 1201 × --count"),
        (
            PlayConfig,
            {"count": 2, "temperature": 0.0},
            "--count 2 goes with a --temperature",
        ),
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
    SoundConfig(**FFT, frame_samples=8192)
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


# --- which model is meant ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "start"),
    [
        ("", DUET),
        ("--hidden 7", DUET),
        ("--codes 5", DUET),
        ("--representation waveform", DUET),
        ("--model duet", DUET),
        ("--model stack", STACK),
        ("--model=frames", FRAMES),
        ("--representation fft", FRAMES),
        ("--representation fft --loss mse", FRAMES),
        ("--loss mulaw", STACK),
        ("--loss=mixture", DUET),
        ("--scaling zscore", DUET),
        ("--predictor 8", STACK),
        ("--preset classic", PRESETS["classic"]),
        ("--preset frames --predictor 0", FRAMES),
    ],
)
def test_the_model_that_the_flags_speak_of(flags, start):
    config = parse_train(flags.split()).config
    assert config.sound.model == start.sound.model
    assert config.fit == start.fit
    assert config.data == start.data


def test_the_duets_order_is_decided():
    assert DUET.sound.predictor_order == GUIDE_ORDER
    assert STACK.sound.predictor_order == 1024
    assert FRAMES.sound.predictor_order == 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--model duet --loss mse", "--loss mse goes with --model stack; the duet has"),
        ("--model duet --scaling log", "--scaling log goes with --model stack; the duet has"),
        ("--model duet --predictor 8", "--predictor 8 goes with --model stack; the duet has"),
        ("--model duet --representation fft", "--model duet contradicts --representation fft; FFT"),
        ("--model stack --representation fft", "--model stack contradicts --representation fft"),
        ("--model frames --representation waveform", "--model frames contradicts --represent"),
        ("--preset classic --model duet", "--loss mse goes with --model stack; the duet has"),
        ("--preset duet --loss mae", "--loss mae goes with --model stack; the duet has"),
        ("--model stack --codes 5", "--codes 5 goes with --model duet; the stack has no condu"),
        ("--loss mse --conductor-lr 0.1", "--conductor-lr 0.1 goes with --model duet; the stack"),
        ("--representation fft --conductor-steps 9", "--conductor-steps 9 goes with --model duet"),
        ("--model trio", "invalid choice 'trio' for argument '--model'"),
        ("--model", "argument --model: expected one argument"),
        ("--codes 0", "--codes 0 must be a number of codes of at least 1"),
        ("--codes 4097", "--codes 4097 must be a number of codes of at most 4,096"),
        ("--conductor-hidden 0", "--conductor-hidden 0 must be a number of units"),
        ("--conductor-dropout 1", "--conductor-dropout 1 must be at least 0 and below 1"),
        ("--conductor-lr nan", "--conductor-lr nan must be a learning rate above 0"),
        ("--conductor-steps 0", "--conductor-steps 0 must be a number of steps"),
        ("--training one-shot --batch 3", "--batch 3 goes with --training windows"),
    ],
)
def test_models_that_contradict_what_they_are_told(flags, message):
    with pytest.raises(ParameterError) as caught:
        parse_train(flags.split())
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_conductor_at_its_limits():
    ConductorConfig(codes=MOST_CODES, conductor_hidden=1, conductor_dropout=0.0, conductor_steps=1)


@pytest.mark.parametrize("start", [[], ["--preset", "windows"], ["--model", "duet"]])
def test_one_shot_leaves_the_windows_of_its_start_behind(start):
    fit = parse_train([*start, "--training", "one-shot"]).config.fit
    assert (fit.training, fit.window_samples, fit.batch) == ("one-shot", None, None)
