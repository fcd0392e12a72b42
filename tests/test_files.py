import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from noizenet.errors import RunError
from noizenet.files import write_text, writing


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_in_folders_that_are_made_for_it(tmp_path):
    path = tmp_path / "a" / "b" / "note.txt"
    write_text(path, "für Elise\n")
    assert path.read_text(encoding="utf-8") == "für Elise\n"
    assert names(path.parent) == ["note.txt"]


def test_the_temporary_name_keeps_the_ending_and_the_folder(tmp_path):
    with writing(tmp_path / "sound.flac") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".flac"
        assert temporary.name != "sound.flac"
        temporary.write_bytes(b"x")
    assert names(tmp_path) == ["sound.flac"]


def test_an_exception_inside_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "note.txt"
    write_text(path, "old")

    def interrupted():
        with writing(path) as temporary:
            temporary.write_text("half of the n")
            assert path.read_text() == "old"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["note.txt"]


def test_a_file_where_a_folder_should_be(tmp_path):
    (tmp_path / "runs").write_text("not a folder")
    path = tmp_path / "runs" / "mine" / "note.txt"
    with pytest.raises(RunError, match="cannot be written") as caught:
        write_text(path, "text")
    assert str(caught.value).startswith(str(path))


def test_a_folder_where_the_file_should_be(tmp_path):
    (tmp_path / "note.txt").mkdir()
    with pytest.raises(RunError, match="cannot be written"):
        write_text(tmp_path / "note.txt", "text")
    assert names(tmp_path) == ["note.txt"]


def test_a_full_disk(tmp_path):
    """A limit on the size of files stands for the disk; the old file survives."""
    path = tmp_path / "note.txt"
    write_text(path, "old")
    program = f"""
        import resource, signal
        from noizenet.errors import RunError
        from noizenet.files import write_text
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            write_text({str(path)!r}, "x" * 100_000)
        except RunError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
        check=True,
    )
    assert done.stdout.startswith(f"{path}: cannot be written (")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["note.txt"]
