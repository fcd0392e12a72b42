"""The scripts in this process, in an empty folder, and a run to play from."""

import runpy
import shutil
import sys

import pytest
from scripting import SCRIPTS, TINY, Ended

from noizenet.audio import playing


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder; drawing, which takes seconds, is left out."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(playing, "_show", lambda *a: None)
    return tmp_path


@pytest.fixture
def script(here, monkeypatch, capsys):
    def run(name, *arguments):
        path = SCRIPTS / f"{name}.py"
        monkeypatch.setattr(sys, "argv", [str(path), *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(path), run_name="__main__")
        return Ended(end.value.code, *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with the run ``a``."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(playing, "_show", lambda *a: None)
        patch.setattr(sys, "argv", ["train.py", *TINY, "--run", "a"])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(SCRIPTS / "train.py"), run_name="__main__")
    assert end.value.code == 0
    return folder


@pytest.fixture
def run_a(here, trained):
    shutil.copytree(trained / "runs", here / "runs")
    return here / "runs" / "a"
