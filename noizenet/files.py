"""Files appear whole or not at all; a run's folder has one place."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from noizenet.errors import ParameterError, RunError

RUNS = Path("runs")
LONGEST_NAME_BYTES = 200  # file systems allow 255 for a name with its temporary ending


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; it takes the name only when the block succeeds.

    The temporary name keeps the ending, which libraries choose the format by.

    Raises
    ------
    RunError
        When the disk is full, the folder cannot be made or written, and the like.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.tmp{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror or error})") from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file."""
    with writing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def run_folder(name: str) -> Path:
    """The folder of a run, ``runs/<name>`` below the current folder.

    Raises
    ------
    ParameterError
        When the name is not one plain part of a path.
    """
    if not name or name.startswith(".") or any(mark in name for mark in "/\\\0"):
        raise ParameterError(f"--run {name!r} must be a plain name, without slashes")
    if len(os.fsencode(name)) > LONGEST_NAME_BYTES:
        raise ParameterError(f"--run {name[:20]}… must be at most {LONGEST_NAME_BYTES} bytes long")
    return RUNS / name


def known_runs() -> str:
    """Which runs there are, for an error's "what to do"."""
    there = sorted(path.parent.name for path in RUNS.glob("*/config.json"))
    return f"there are {', '.join(there[-8:])}" if there else "there is none yet"
