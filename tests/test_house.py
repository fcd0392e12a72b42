"""The house stands as drawn: imports go down only, files are of one room, scripts are thin."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = (
    "errors",
    "units",
    "files",
    "config",
    "kernels",
    "sound",
    "learner",
    "runs",
    "drawing",
    "views",
    "benchmarks",
)
TASKS = ("audio", "symbolic", "lyrics", "pitch")  # above all rooms, and strangers to each other
LONGEST_MODULE, LONGEST_SCRIPT = 400, 80  # lines
HEAVY = {"torch", "torchaudio", "numpy", "scipy", "numba", "librosa", "sklearn", "matplotlib"}


def python_files(folder):
    return sorted(folder.rglob("*.py"))


def absolute(node, path, root):
    """The module that ``from … import`` names, without its dots."""
    if not node.level:
        return node.module or ""
    package = path.relative_to(root).with_suffix("").parts[: -node.level]
    return ".".join((*package, *([node.module] if node.module else [])))


def imports(path, root, nodes=None):
    """(line, module) of every import in a file, in functions too, and by importlib's name."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree) if nodes is None else nodes(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            module = absolute(node, path, root)
            for alias in node.names:
                yield node.lineno, f"{module}.{alias.name}"
        elif isinstance(node, ast.Call) and "import" in ast.unparse(node.func):
            for argument in node.args[:1]:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield node.lineno, argument.value


def room_of(module):
    """``noizenet.sound.song`` -> ``sound``; None for what is not of the house."""
    parts = module.split(".")
    if parts[0] != "noizenet":
        return None
    return parts[1] if len(parts) > 1 else ""


def floor_of(room):
    """How high a room lies; an unknown one is an error."""
    if room in TASKS:
        return len(ROOMS)
    if room not in ROOMS:
        raise ValueError(f"{room!r} is not drawn in the house: add it to ROOMS or TASKS")
    return ROOMS.index(room)


def wrong_imports(root):
    """One line for each import of noizenet/ and scripts/ that goes where it must not."""
    wrong = []

    def note(path, line, module, why):
        wrong.append(f"{path.relative_to(root)}:{line}: {module} {why}")

    for path in python_files(root / "noizenet"):
        parts = path.relative_to(root / "noizenet").with_suffix("").parts
        for line, module in imports(path, root):
            room = room_of(module)
            if module.split(".")[0] == "scripts":
                note(path, line, module, "is a script")
            if room is None:
                continue
            if parts == ("__init__",):
                note(path, line, module, "is loaded with the whole house")
            elif floor_of(room) > floor_of(parts[0]):
                note(path, line, module, "is further up")
            elif room != parts[0] and {room, parts[0]} <= set(TASKS):
                note(path, line, module, "is another task")
    for path in python_files(root / "scripts"):
        for line, module in imports(path, root):
            if module.split(".")[0] == "scripts":
                note(path, line, module, "is another script")
    return wrong


def too_long(root):
    """One line for each file with more lines than one room should need."""
    limits = (("noizenet", LONGEST_MODULE), ("scripts", LONGEST_SCRIPT))
    return [
        f"{path.relative_to(root)}: {n_lines} lines, at most {limit}"
        for folder, limit in limits
        for path in python_files(root / folder)
        if (n_lines := len(path.read_text(encoding="utf-8").splitlines())) > limit
    ]


def heavy_configs(root):
    """One line for each heavy import that runs when a config module is loaded."""
    return [
        f"{path.relative_to(root)}:{line}: {module} makes --help wait"
        for path in python_files(root / "noizenet")
        if path.name == "config.py"
        for line, module in imports(path, root, when_loaded)
        if module.split(".")[0] in HEAVY
    ]


def when_loaded(tree):
    """The nodes that run when a module is loaded: all but the bodies of functions."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            waiting.extend(ast.iter_child_nodes(node))


# --- the house as it is --------------------------------------------------------------------------


def test_imports_go_down_only():
    assert wrong_imports(ROOT) == []


def test_no_file_is_too_long():
    assert too_long(ROOT) == []


def test_configs_are_light():
    assert heavy_configs(ROOT) == []


def test_there_is_something_to_walk():
    assert len(python_files(ROOT / "noizenet")) > 20
    assert len(python_files(ROOT / "scripts")) >= 2
    found = [
        module for path in python_files(ROOT / "noizenet") for _, module in imports(path, ROOT)
    ]
    assert "noizenet.errors.ParameterError" in found
    assert "numpy" in found


# --- a house that was built wrongly --------------------------------------------------------------


@pytest.fixture
def build(tmp_path):
    """Write files of a small house; the arguments are (path, source) pairs."""

    def build(*files):
        for name, source in files:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source)
        return tmp_path

    return build


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("units.py", "from noizenet.errors import ParameterError\nimport numpy\nimport noise"),
        ("sound/song.py", "from noizenet.sound.library import Library\nfrom . import library"),
        ("learner/fit.py", "import noizenet.config\nfrom ..kernels import recurrent"),
        ("audio/task.py", "from noizenet import runs, views\nfrom noizenet.learner import fit"),
        ("lyrics/task.py", "def f():\n    from noizenet.learner.fit import Trainer"),
    ],
)
def test_what_is_allowed(name, source, build):
    assert wrong_imports(build((f"noizenet/{name}", source))) == []


@pytest.mark.parametrize(
    ("name", "source", "found"),
    [
        ("errors.py", "import noizenet.units", "errors.py:1: noizenet.units is further up"),
        ("units.py", "\nfrom noizenet import runs", "units.py:2: noizenet.runs is further up"),
        (
            "sound/a.py",
            "import os, noizenet.learner.fit",
            "sound/a.py:1: noizenet.learner.fit is f",
        ),
        ("sound/a.py", "from ..learner import fit", "sound/a.py:1: noizenet.learner.fit is f"),
        ("sound/a.py", "from .. import learner", "sound/a.py:1: noizenet.learner is f"),
        ("kernels/__init__.py", "from ..sound.song import A", "kernels/__init__.py:1: noizenet.so"),
        (
            "config.py",
            "def f():\n    import noizenet.audio.config",
            "config.py:2: noizenet.audio.c",
        ),
        (
            "config.py",
            "if 1:\n  try:\n    from noizenet.runs import Run\n  except E: 0",
            "config.py:3",
        ),
        (
            "config.py",
            "from importlib import import_module\nimport_module('noizenet.runs')",
            "conf",
        ),
        ("config.py", "__import__('noizenet.runs')", "config.py:1: noizenet.runs is further up"),
        (
            "audio/a.py",
            "from noizenet.lyrics.task import run",
            "audio/a.py:1: noizenet.lyrics.task.",
        ),
        (
            "__init__.py",
            "from noizenet.learner import fit",
            "__init__.py:1: noizenet.learner.fit is",
        ),
        (
            "learner/a.py",
            "from scripts.train import main",
            "learner/a.py:1: scripts.train.main is a",
        ),
    ],
)
def test_what_is_noticed(name, source, found, build):
    wrong = wrong_imports(build((f"noizenet/{name}", source)))
    assert len(wrong) == 1
    assert wrong[0].startswith(f"noizenet/{found}")


def test_tasks_are_strangers(build):
    root = build(("noizenet/audio/a.py", "import noizenet.pitch\nimport noizenet.audio.b"))
    assert wrong_imports(root) == ["noizenet/audio/a.py:1: noizenet.pitch is another task"]


def test_a_room_that_is_not_drawn(build):
    with pytest.raises(ValueError, match="'cellar' is not drawn in the house"):
        wrong_imports(build(("noizenet/cellar.py", "import noizenet.errors")))
    with pytest.raises(ValueError, match="'attic' is not drawn"):
        wrong_imports(
            build(("noizenet/cellar.py", ""), ("noizenet/runs.py", "import noizenet.attic"))
        )


def test_scripts_use_the_library_and_not_each_other(build):
    root = build(
        ("scripts/train.py", "from noizenet.audio.train import train"),
        ("scripts/play.py", "from scripts.train import main"),
    )
    assert wrong_imports(root) == ["scripts/play.py:1: scripts.train.main is another script"]


def test_long_files_are_noticed(build):
    root = build(
        ("noizenet/units.py", "\n" * LONGEST_MODULE),
        ("noizenet/runs.py", "\n" * (LONGEST_MODULE + 1)),
        ("scripts/a.py", "\n" * (LONGEST_SCRIPT + 1)),
    )
    assert too_long(root) == [
        "noizenet/runs.py: 401 lines, at most 400",
        "scripts/a.py: 81 lines, at most 80",
    ]


def test_heavy_configs_are_noticed(build):
    root = build(
        ("noizenet/config.py", "import json\ndef f():\n    import torch"),
        ("noizenet/audio/config.py", "class A:\n    import torch.nn\nfrom numpy import ndarray"),
        ("noizenet/sound/song.py", "import numpy"),
    )
    assert sorted(heavy_configs(root)) == [
        "noizenet/audio/config.py:2: torch.nn makes --help wait",
        "noizenet/audio/config.py:3: numpy.ndarray makes --help wait",
    ]


def test_waiting_threads_leave_the_processors_to_others():
    """Said on import of the package, so before anything of it can load torch."""
    code = "import noizenet, os, sys; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    found = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == ["passive", "False"]
