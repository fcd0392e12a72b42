import dataclasses
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from noizenet.audio.config import (
    PRESETS,
    AudioConfig,
    ConductorConfig,
    DataConfig,
    PlayConfig,
    SoundConfig,
    parse_train,
)
from noizenet.config import (
    FitConfig,
    MachineConfig,
    ModelConfig,
    differences,
    from_dict,
    parse_command_line,
    read_json,
    to_dict,
)
from noizenet.errors import ParameterError

ROOT = Path(__file__).parents[1]
BLOCKS = [
    *(DataConfig, SoundConfig, ModelConfig, ConductorConfig),
    *(FitConfig, PlayConfig, MachineConfig),
]


def run_python(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )


def parse(*flags):
    return parse_command_line(AudioConfig, list(flags), "a test")


# --- JSON ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_presets_return_from_json(name, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(to_dict(PRESETS[name])))
    again = read_json(AudioConfig, path)
    assert again == PRESETS[name]
    assert differences(again, PRESETS[name]) == []


def test_presets_are_different_from_each_other():
    assert len(set(PRESETS.values())) == len(PRESETS) - 1
    assert PRESETS["default"] == PRESETS["duet"]  # the default by its own name


def test_what_is_absent_keeps_its_default():
    config = from_dict(AudioConfig, {"model": {"hidden": 7}}, "here")
    assert config == dataclasses.replace(AudioConfig(), model=ModelConfig(hidden=7))


def test_a_whole_number_may_stand_for_another():
    config = from_dict(FitConfig, {"lr": 1, "budget_minutes": 2}, "here")
    assert config.lr == 1.0
    assert isinstance(config.lr, float)
    assert isinstance(config.budget_minutes, float)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"modell": {}}, "c.json: unknown key 'modell'; known are conductor, data, f"),
        (
            {"model": {"hiden": 5}},
            "c.json: model: unknown key 'hiden'; known are cell, dropout, hi",
        ),
        ({"model": {"hidden": "64"}}, "c.json: model: hidden: '64' must be of type int"),
        ({"model": {"hidden": 64.0}}, "c.json: model: hidden: 64.0 must be of type int"),
        ({"model": {"hidden": True}}, "c.json: model: hidden: True must be of type int"),
        ({"model": {"hidden": None}}, "c.json: model: hidden: None must be of type int"),
        ({"model": {"cell": "lstn"}}, "c.json: model: cell: 'lstn' must be one of lstm, rnn, gru"),
        ({"model": {"cell": ["lstm"]}}, "c.json: model: cell: ['lstm'] must be one of lstm, rnn"),
        ({"fit": {"lr": "fast"}}, "c.json: fit: lr: 'fast' must be of type float"),
        ({"fit": {"anneal": 1}}, "c.json: fit: anneal: 1 must be of type bool"),
        ({"fit": {"epochs": 2.5}}, "c.json: fit: epochs: 2.5 must be of type int or null"),
        ({"data": {"duration_s": "20"}}, "c.json: data: duration_s: '20' must be of type float or"),
        ({"model": 64}, "c.json: model: must be an object"),
        ([1, 2], "c.json: must be an object"),
        ({"fit": {"lr": 0}}, "--lr 0 must be a learning rate above 0"),
        ({"fit": {"lr": math.nan}}, "--lr nan must be a learning rate above 0"),
    ],
)
def test_json_that_is_not_allowed(values, message):
    with pytest.raises(ParameterError) as caught:
        from_dict(AudioConfig, values, "c.json")
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe{}", b'{"model": }'])
def test_a_config_file_that_is_not_json(content, tmp_path):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(ParameterError, match="not a readable JSON config") as caught:
        read_json(AudioConfig, path)
    assert str(caught.value).startswith(str(path))


def test_a_config_file_that_is_missing_or_a_folder(tmp_path):
    with pytest.raises(ParameterError, match="there is no such config file"):
        read_json(AudioConfig, tmp_path / "none.json")
    with pytest.raises(ParameterError, match="not a readable JSON config"):
        read_json(AudioConfig, tmp_path)


def test_differences_name_what_changed():
    new = dataclasses.replace(
        AudioConfig(), model=ModelConfig(hidden=7), fit=FitConfig(lr=0.5, epochs=3)
    )
    assert differences(AudioConfig(), new) == [
        ("hidden", AudioConfig().model.hidden, 7),
        ("lr", AudioConfig().fit.lr, 0.5),
        ("epochs", None, 3),
    ]


# --- what is allowed -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "settings", "flag"),
    [
        (ModelConfig, {"hidden": 0}, "--hidden 0"),
        (ModelConfig, {"hidden": -3}, "--hidden -3"),
        (ModelConfig, {"layers": 0}, "--layers 0"),
        (ModelConfig, {"layers": 5}, "--layers 5"),
        (ModelConfig, {"dropout": 1.0}, "--dropout 1"),
        (ModelConfig, {"dropout": -0.1}, "--dropout -0.1"),
        (ModelConfig, {"dropout": math.nan}, "--dropout nan"),
        (FitConfig, {"lr": 0.0}, "--lr 0"),
        (FitConfig, {"lr": -1.0}, "--lr -1"),
        (FitConfig, {"lr": math.inf}, "--lr inf"),
        (FitConfig, {"clip": 0.0}, "--clip 0"),
        (FitConfig, {"weight_decay": -1e-9}, "--weight-decay -1e-09"),
        (FitConfig, {"epochs": 0}, "--epochs 0"),
        (FitConfig, {"budget_minutes": 0.0}, "--budget-minutes 0"),
        (FitConfig, {"budget_minutes": math.nan}, "--budget-minutes nan"),
        (FitConfig, {"training": "windows", "window_samples": 1}, "--window-samples 1"),
        (FitConfig, {"training": "windows", "batch": 0}, "--batch 0"),
        (FitConfig, {"window_samples": 100}, "--window-samples 100 goes with --training windows"),
        (FitConfig, {"batch": 8}, "--batch 8 goes with --training windows"),
        (
            FitConfig,
            {"training": "windows", "song_order": "block"},
            "--songs-per-step and --song-order block go with --training one-shot",
        ),
        (
            FitConfig,
            {"training": "windows", "songs_per_step": 2},
            "--songs-per-step and --song-order block go with --training one-shot",
        ),
        (FitConfig, {"song_order": "block"}, "--song-order block needs --epochs"),
        (
            FitConfig,
            {"song_order": "block", "epochs": 2, "songs_per_step": 2},
            "--song-order block reads one song at a time; leave out --songs-per-step 2",
        ),
        (MachineConfig, {"threads": 0}, "--threads 0"),
        (MachineConfig, {"engine": "numba", "device": "cuda"}, "--engine numba"),
        (DataConfig, {"songs": 0}, "--songs 0"),
        (DataConfig, {"duration_s": 0.0}, "--duration 0 must be a number of seconds above 0"),
        (DataConfig, {"valid_fraction": 0.9}, "--valid-fraction 0.9"),
        (SoundConfig, {"mixtures": 0}, "--mixtures 0"),
        (SoundConfig, {"predictor": -1}, "--predictor -1"),
        (SoundConfig, {"frame_samples": 2}, "--frame-samples 2"),
        (SoundConfig, {"frame_samples": 1023}, "--frame-samples 1023"),
        (
            SoundConfig,
            {"model": "frames", "loss": "mulaw", "representation": "fft"},
            "--loss mulaw",
        ),
        (SoundConfig, {"loss": "mulaw", "scaling": "log"}, "--scaling log has no effect"),
        (
            SoundConfig,
            {"model": "frames", "predictor": 8, "representation": "fft"},
            "--predictor 8",
        ),
        (SoundConfig, {"predictor": 8, "loss": "mulaw"}, "--predictor 8"),
        (PlayConfig, {"rng": -1}, "--rng -1"),
        (PlayConfig, {"seed_seconds": 0.0}, "--seed-seconds 0"),
        (PlayConfig, {"generate_seconds": -1.0}, "--generate-seconds -1"),
        (PlayConfig, {"temperature": -0.1}, "--temperature -0.1"),
        (PlayConfig, {"count": 0}, "--count 0"),
        (PlayConfig, {"perlin_hz": 0.0}, "--perlin-hz 0"),
        (PlayConfig, {"perlin_octaves": 0}, "--perlin-octaves 0"),
    ],
)
def test_values_that_are_refused(kind, settings, flag):
    with pytest.raises(ParameterError) as caught:
        kind(**settings)
    assert str(caught.value).startswith(flag)
    assert "\n" not in str(caught.value)


def test_values_on_the_edge_that_are_allowed():
    ModelConfig(hidden=1, layers=4, dropout=0.99)
    FitConfig(training="windows", window_samples=2, batch=1, epochs=1, weight_decay=0.0)
    SoundConfig(predictor=0, loss="mulaw")
    SoundConfig(frame_samples=4, mixtures=1)
    PlayConfig(temperature=0.0, rng=0, count=1)


def test_the_budget_is_two_minutes_unless_epochs_are_given():
    assert FitConfig().budget_s == 120
    assert FitConfig(epochs=3).budget_s == math.inf
    assert FitConfig(budget_minutes=0.5).budget_s == 30
    assert FitConfig(epochs=3, budget_minutes=0.5).budget_s == 30


# --- the command line ----------------------------------------------------------------------------


def test_flags_set_what_they_name():
    config = parse(
        *("--hidden", "7", "--cell", "gru", "--lr", "0.5", "--duration", "3", "--loss", "mse"),
        *("--no-anneal", "--temperature", "0", "--device", "cpu"),
    )
    assert config == AudioConfig(
        data=dataclasses.replace(AudioConfig().data, duration_s=3.0),
        sound=SoundConfig(loss="mse"),
        model=dataclasses.replace(AudioConfig().model, hidden=7, cell="gru"),
        fit=dataclasses.replace(AudioConfig().fit, lr=0.5, anneal=False),
        play=dataclasses.replace(AudioConfig().play, temperature=0.0),
        machine=MachineConfig(device="cpu"),
    )
    assert parse() == AudioConfig()


def test_flags_change_what_they_start_from():
    start = PRESETS["classic"]
    config = parse_command_line(AudioConfig, ["--hidden", "9"], "a test", start)
    assert differences(start, config) == [("hidden", start.model.hidden, 9)]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--hiden", "5"], ["--hiden"]),
        (["--hidden", "many"], ["--hidden", "many"]),
        (["--hidden", "2.5"], ["--hidden", "2.5"]),
        (["--hidden"], ["--hidden"]),
        (["--cell", "lstn"], ["--cell", "lstn", "gru"]),
        (["stray"], ["stray"]),
        (["--lr", "0"], ["--lr 0 must be a learning rate above 0"]),
        (["--batch", "4"], ["--batch 4 goes with --training windows"]),
        (["--training", "windows", "--song-order", "block"], ["--song-order block"]),
        (
            ["--model", "frames", "--loss", "mulaw", "--representation", "fft"],
            ["--loss mulaw", "--representation"],
        ),
    ],
)
def test_wrong_flags_are_one_line(flags, words, capsys):
    with pytest.raises(ParameterError) as caught:
        parse(*flags)
    message = str(caught.value)
    assert "\n" not in message
    assert not set("│╭╮╰╯─") & set(message)
    for word in words:
        assert word in message
    assert capsys.readouterr().err == ""


def test_presets_and_files_are_where_flags_start(tmp_path):
    assert parse_train(["--preset", "classic"]).config == PRESETS["classic"]
    path = tmp_path / "config.json"
    path.write_text(json.dumps(to_dict(PRESETS["n8"])))
    config = parse_train(["--config", str(path), "--layers", "3"]).config
    assert differences(PRESETS["n8"], config) == [("layers", 2, 3)]
    with pytest.raises(ParameterError, match="--preset nine is unknown; there are default, "):
        parse_train(["--preset", "nine"])
    with pytest.raises(ParameterError, match="--preset and --config each say where to start"):
        parse_train(["--preset", "classic", "--config", str(path)])


def test_every_field_says_what_it_is_and_units_are_in_the_help():
    with_help = run_python(ROOT / "scripts" / "train.py", "--help")
    assert with_help.returncode == 0, with_help.stderr
    text = with_help.stdout
    names = set(re.findall(r"--[a-z-]+", text))
    # the names that the project promised to keep
    promised = """
        data songs duration valid-fraction representation scaling cell hidden layers dropout loss
        optimizer lr clip weight-decay training window-samples batch epochs budget-minutes seed rng
        seed-seconds generate-seconds temperature preset config run resume device threads
        model codes conductor-hidden conductor-dropout conductor-lr conductor-steps
    """
    assert {f"--{name}" for name in promised.split()} <= names
    words = " ".join(text.replace("│", " ").split())
    for unit in ("seconds taken", "samples", "hertz", "minutes of training", "gigabytes"):
        assert unit in words
    for block in BLOCKS:
        source = Path(sys.modules[block.__module__].__file__).read_text()
        for field in dataclasses.fields(block):
            assert re.search(rf'^    {field.name}: .*=.*\n    """', source, re.MULTILINE), (
                field.name
            )


def test_help_loads_nothing_heavy():
    heavy = ("torch", "numpy", "librosa", "numba", "scipy", "sklearn", "matplotlib", "soundfile")
    program = (
        "import sys, noizenet.audio.config, noizenet.config\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = run_python("-c", program)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_a_wrong_flag_ends_the_script_with_one_line():
    done = run_python(ROOT / "scripts" / "train.py", "--duration", "0")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "ParameterError: --duration 0 must be a number of seconds above 0\n"
