import json
import math
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from noizenet import runs
from noizenet.config import ModelConfig, read_json, to_dict
from noizenet.errors import ParameterError, RunError
from noizenet.learner.fit import HEARD_PART, StepReport
from noizenet.runs import CHECKPOINT_VERSION, Run, load_checkpoint, save_checkpoint

ROOT = Path(__file__).parents[1]
TENSORS = {
    "model.weight": torch.arange(6, dtype=torch.float32).view(2, 3),
    "model.scalar": torch.tensor(0.1),
    "model.nothing": torch.zeros(0),
    "optimizer.0.step": torch.tensor(7.0),
    "codec.fit": torch.tensor([0.1, 1e-300, -math.inf], dtype=torch.float64),
    "codes": torch.tensor([1, 2**62]),
}
FACTS = {"progress": {"step": 3, "best_valid_bits": math.inf}, "note": "für Elise"}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Runs are kept below the current folder: an empty one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "checkpoints" / "last.safetensors"
    save_checkpoint(path, TENSORS, FACTS)
    return path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# --- checkpoints ---------------------------------------------------------------------------------


def test_a_checkpoint_returns_every_bit(checkpoint):
    tensors, facts = load_checkpoint(checkpoint)
    assert facts == FACTS
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)
    assert names(checkpoint.parent) == ["last.safetensors"]


def test_views_are_saved_as_they_look(tmp_path):
    whole = torch.arange(12.0).view(3, 4)
    save_checkpoint(tmp_path / "c.safetensors", {"turned": whole.T, "row": whole[1]}, {})
    tensors, _ = load_checkpoint(tmp_path / "c.safetensors")
    assert torch.equal(tensors["turned"], whole.T)
    assert torch.equal(tensors["row"], whole[1])


@pytest.mark.parametrize("kept", [0, 1, 7, 8, 100, -100, -8, -1])
def test_a_checkpoint_cut_short(checkpoint, kept):
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[:kept])
    with pytest.raises(RunError, match="not a whole checkpoint") as caught:
        load_checkpoint(checkpoint)
    assert str(caught.value).startswith(str(checkpoint))


def test_any_byte_that_was_changed_is_noticed(checkpoint):
    """All of them, header and numbers; no other error than ours comes through."""
    whole = bytearray(checkpoint.read_bytes())
    for place in range(len(whole)):
        for change in (1, 0x80):
            whole[place] ^= change
            checkpoint.write_bytes(whole)
            with pytest.raises(RunError) as caught:
                load_checkpoint(checkpoint)
            assert str(caught.value).startswith(f"{checkpoint}: ")
            whole[place] ^= change


def test_a_changed_number_is_called_so(checkpoint):
    whole = bytearray(checkpoint.read_bytes())
    whole[-1] ^= 1
    checkpoint.write_bytes(whole)
    with pytest.raises(RunError, match="changed after it was written; not loaded"):
        load_checkpoint(checkpoint)


def test_bytes_after_the_end(checkpoint):
    with checkpoint.open("ab") as file:
        file.write(b"more")
    with pytest.raises(RunError, match="not a whole checkpoint"):
        load_checkpoint(checkpoint)


def test_a_checkpoint_of_another_version(checkpoint, monkeypatch):
    monkeypatch.setattr(runs, "CHECKPOINT_VERSION", CHECKPOINT_VERSION + 1)
    with pytest.raises(RunError) as caught:
        load_checkpoint(checkpoint)
    assert str(caught.value).startswith(
        f"{checkpoint}: checkpoint of version {CHECKPOINT_VERSION}, this NoizeNet reads version "
    )


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_safetensors_of_another_program(tmp_path, metadata):
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(3)}, path, metadata)
    with pytest.raises(RunError, match="checkpoint of version None"):
        load_checkpoint(path)


@pytest.mark.parametrize("content", [b"", b"not weights at all", b"\0" * 64, b"RIFF" * 10_000])
def test_something_else_in_its_place(tmp_path, content):
    path = tmp_path / "last.safetensors"
    path.write_bytes(content)
    with pytest.raises(RunError, match="not a whole checkpoint"):
        load_checkpoint(path)


def test_a_missing_checkpoint(tmp_path):
    (tmp_path / "folder.safetensors").mkdir()
    for name in ("none.safetensors", "folder.safetensors", "none/none.safetensors"):
        with pytest.raises(RunError, match="no such checkpoint") as caught:
            load_checkpoint(tmp_path / name)
        assert str(caught.value).startswith(str(tmp_path / name))


def test_loading_runs_no_code(tmp_path):
    """A pickle, as torch.save writes it, is not even looked into."""
    path = tmp_path / "last.safetensors"
    torch.save({"weight": torch.zeros(3)}, path)
    with pytest.raises(RunError, match="not a whole checkpoint"):
        load_checkpoint(path)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_interrupted_save_leaves_the_old_checkpoint(checkpoint, monkeypatch, error):
    def save_half(tensors, path, metadata):
        Path(path).write_bytes(b"half")
        raise error

    monkeypatch.setattr(runs, "save_file", save_half)
    with pytest.raises(error):
        save_checkpoint(checkpoint, {"model.weight": torch.ones(2, 3)}, {})
    assert names(checkpoint.parent) == ["last.safetensors"]
    assert torch.equal(load_checkpoint(checkpoint)[0]["model.weight"], TENSORS["model.weight"])


def test_a_save_on_a_full_disk_leaves_the_old_checkpoint(checkpoint):
    """A limit on the size of files stands for the disk."""
    program = f"""
        import resource, signal
        from pathlib import Path
        import torch
        from noizenet.errors import RunError
        from noizenet.runs import save_checkpoint
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        try:
            save_checkpoint(Path({str(checkpoint)!r}), {{"weight": torch.zeros(100_000)}}, {{}})
        except RunError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.stdout.startswith(f"{checkpoint}: cannot be written ("), done.stderr
    assert done.stdout.count("\n") == 1
    assert names(checkpoint.parent) == ["last.safetensors"]
    assert load_checkpoint(checkpoint)[1] == FACTS


def test_a_file_where_the_folder_should_be(tmp_path):
    (tmp_path / "checkpoints").write_text("in the way")
    with pytest.raises(RunError, match="cannot be written"):
        save_checkpoint(tmp_path / "checkpoints" / "last.safetensors", TENSORS, {})


# --- making and finding runs ---------------------------------------------------------------------


def test_a_run_keeps_its_config_and_its_circumstances(here):
    config = ModelConfig(hidden=7, cell="gru")
    run = Run.create("first", config)
    assert names(here / "runs" / "first") == ["config.json", "run.json"]
    assert read_json(ModelConfig, run.folder / "config.json") == config
    facts = json.loads((run.folder / "run.json").read_text())
    assert facts["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert facts["versions"]["numpy"] == np.__version__
    assert isinstance(facts["command"], list)
    again = Run.open("first", ModelConfig)
    assert again.folder == run.folder
    assert again.config == config


def test_a_name_that_is_taken(here):
    Run.create("first", ModelConfig())
    (here / "runs" / "empty").mkdir()
    (here / "runs" / "file").write_text("")
    for name in ("first", "empty", "file"):
        with pytest.raises(RunError, match="exists already; --resume continues it") as caught:
            Run.create(name, ModelConfig(hidden=9))
        assert str(caught.value).startswith(f"runs/{name}: ")
    assert Run.open("first", ModelConfig).config == ModelConfig()


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", ".hidden", "a/b", "/tmp/a", "../a", "a\\b", "a\0b", "x" * 300, "ü" * 150],
)
def test_names_that_are_no_names(name, here):
    for make in (Run.create, Run.open):
        with pytest.raises(ParameterError, match="--run") as caught:
            make(name, ModelConfig)
        assert "\n" not in str(caught.value)
    assert names(here) == []


def test_unusual_names_that_are_names(here):
    for name in ("a b", "für Elise", "x" * 200, "-1", "a.b"):
        Run.create(name, ModelConfig())
        assert Run.open(name, ModelConfig).config == ModelConfig()


def test_an_unknown_run_names_the_known(here):
    with pytest.raises(RunError, match="runs/none: there is no such run; there is none yet"):
        Run.open("none", ModelConfig)
    for name in ("b", "a"):
        Run.create(name, ModelConfig())
    (here / "runs" / "not a run").mkdir()
    with pytest.raises(RunError, match=r"runs/none: there is no such run; there are a, b$"):
        Run.open("none", ModelConfig)
    with pytest.raises(RunError, match="there is no such run"):
        Run.open("not a run", ModelConfig)


def test_a_run_whose_config_was_spoilt(here):
    run = Run.create("first", ModelConfig())
    (run.folder / "config.json").write_text('{"hiden": 3}')
    with pytest.raises(ParameterError, match="unknown key 'hiden'") as caught:
        Run.open("first", ModelConfig)
    assert str(caught.value).startswith("runs/first/config.json: ")


def test_a_folder_that_cannot_be_made(here):
    (here / "runs").write_text("in the way")
    with pytest.raises(RunError, match="cannot be written") as caught:
        Run.create("first", ModelConfig())
    assert str(caught.value).startswith("runs/first: ")


def test_a_discarded_run_was_never_there(here):
    run = Run.create("first", ModelConfig())
    run.discard()
    assert names(here / "runs") == []
    Run.create("first", ModelConfig())


# --- writing down --------------------------------------------------------------------------------


def report(step):
    return StepReport(
        step=step,
        part=HEARD_PART,
        epoch=step // 3,
        song=None,
        loss=1 / step,
        gradient_norm=2.5,
        lr=1e-3,
        numbers_per_s=1e4,
        elapsed_s=step / 8,
        share_done=step / 10,
    )


def test_what_is_said_is_seen_and_kept(here, capsys):
    run = Run.create("first", ModelConfig())
    run.say("für Elise")
    run.say()
    run.say("begins")
    assert capsys.readouterr().out == "für Elise\n\nbegins\n"
    assert (run.folder / "log.txt").read_text(encoding="utf-8") == "für Elise\n\nbegins\n"


def test_a_log_that_cannot_be_written(here):
    run = Run.create("first", ModelConfig())
    (run.folder / "log.txt").mkdir()
    with pytest.raises(RunError, match="cannot be written") as caught:
        run.say("lost")
    assert str(caught.value).startswith("runs/first/log.txt: ")


def test_steps_and_validations_are_written_down(here, capsys):
    run = Run.create("first", ModelConfig())
    assert run.metrics() == []
    with run.progress_bar(0.0):
        run.step(report(1))
        run.say("between")
        run.validated(1, 6.5, True)
        run.step(report(2))
    run.close()
    assert [line.get("loss") for line in run.metrics()] == [1.0, None, 0.5]
    assert run.metrics()[0] == vars(report(1))
    assert run.metrics()[1] == {"step": 1, "valid_bits_per_sample": 6.5, "best": True}
    assert "between" in capsys.readouterr().out
    # and TensorBoard reads the same
    events = EventAccumulator(str(run.folder / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {
        "train/loss",
        "train/gradient_norm",
        "train/learning_rate",
        "train/samples_per_second",
        "valid/bits_per_sample",
    }
    assert [(e.step, e.value) for e in events.Scalars("train/loss")] == [(1, 1.0), (2, 0.5)]
    assert [(e.step, e.value) for e in events.Scalars("valid/bits_per_sample")] == [(1, 6.5)]


def test_sounds_pictures_and_hparams_reach_tensorboard(here):
    run = Run.create("first", ModelConfig())
    run.add_sound("output", np.array([0.5, -2.0, 0.0], np.float32), 22_050, 3)
    run.add_picture("overview", np.zeros((4, 6, 3), np.uint8), 3)
    run.add_hparams({"cell": "lstm", "songs": None, "lr": 0.1}, {"bits": 6.5})
    run.close()
    events = EventAccumulator(str(run.folder / "tensorboard"))
    events.Reload()
    assert events.Tags()["audio"] == ["output"]
    assert events.Audio("output")[0].sample_rate == 22_050
    assert events.Tags()["images"] == ["overview"]
    assert (events.Images("overview")[0].width, events.Images("overview")[0].height) == (6, 4)
    assert events.Scalars("result/bits")[0].value == 6.5
    # the table's row belongs to this run, not to a folder below it
    assert len([p for p in (run.folder / "tensorboard").rglob("*") if p.is_file()]) == 1


def test_a_run_saves_its_last_and_its_best_with_config_and_codec(here):
    run = Run.create("first", ModelConfig(hidden=7))
    run.extra = {"codec.fit": torch.tensor([0.5])}
    for best, value in ((False, 1.0), (True, 2.0), (False, 3.0)):
        run.save({"model.weight": torch.tensor([value])}, {"step": int(value)}, best)
    assert names(run.folder / "checkpoints") == ["best.safetensors", "last.safetensors"]
    for name, value in (("best", 2.0), ("last", 3.0)):
        tensors, facts = load_checkpoint(run.checkpoint(name))
        assert tensors["model.weight"].item() == value
        assert tensors["codec.fit"].item() == 0.5
        assert facts == {"progress": {"step": value}, "config": to_dict(run.config)}
