"""Libraries of songs: which ones train the network, and which ones it never hears."""

import os
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from noizenet.errors import DataError, FormatError, ParameterError
from noizenet.sound.song import Song, check_duration, is_silent, read_song
from noizenet.units import samples_to_seconds

DEMO = "demo"  # a folder of that name is reached as ./demo
DEMO_FOLDER = Path(__file__).parent / "demo"
UNSEEN_PREFIX = "unseen-"
MAX_VALID_FRACTION = 0.9

AUDIO_ENDINGS = frozenset(
    {".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc"}
    | {".au", ".snd", ".caf", ".w64", ".rf64"}
)


@dataclass(frozen=True, eq=False)
class Library:
    """Songs to learn from, songs to be examined with, and what was noticed on the way."""

    train: tuple[Song, ...]
    """At least one."""
    unseen: tuple[Song, ...]
    """Never trained on; may be empty where ``valid_fraction`` is 0."""
    skipped: tuple[str, ...] = ()
    """The files that were left out: one line of reason each, beginning with the path."""
    notes: tuple[str, ...] = ()
    """What the user should know and need not mend: fewer songs than asked for, padding."""


def load_library(
    data: str,
    n_songs: int | None,
    duration_s: float | None,
    valid_fraction: float,
    min_samples: int = 0,
) -> Library:
    """Read the songs that ``--data`` names, and hold some of them out.

    Parameters
    ----------
    data
        ``demo``: the embedded library; its ``unseen-`` song is always held out.
        A file: the last ``valid_fraction`` of it, cut to ``duration_s``, is held out.
        A folder, searched recursively: whole songs are held out, ``valid_fraction`` of them
        and at least one where there are two. Which ones depends on their names alone, so they
        lie anywhere in the folder, and stay the same from run to run.
    n_songs
        At most this many songs to train on; None takes all. Of a folder no more songs are
        decoded than that needs.
    duration_s
        Each song is cut to its first ``duration_s`` seconds; None keeps all of it.
    valid_fraction
        In [0, 0.9]; 0 holds nothing out.
    min_samples
        Shorter songs are filled up with silence at their end, and a note says so.

    Raises
    ------
    ParameterError
        A value that is not allowed.
    DataError
        Nothing there, no audio files, or none that can be read.
    FormatError
        ``data`` is one file, and broken. In a folder it would be skipped and listed.
    """
    if n_songs is not None and n_songs < 1:
        raise ParameterError(f"--songs {n_songs} must be a whole number above 0")
    check_duration(duration_s)
    if not 0 <= valid_fraction <= MAX_VALID_FRACTION:
        raise ParameterError(
            f"--valid-fraction {valid_fraction} must be between 0 and {MAX_VALID_FRACTION}"
        )
    path = Path(data)
    if data == DEMO:
        library = _load_demo(n_songs, duration_s)
    elif data.strip() and path.is_dir():
        library = _load_folder(path, n_songs, duration_s, valid_fraction)
    elif data.strip() and path.exists():
        library = _split(read_song(path, duration_s), str(path), valid_fraction)
    else:
        raise DataError(
            f"{data!r}: no such file or folder; --data takes demo, an audio file or a folder"
        )
    notes = list(library.notes)
    if n_songs is not None and len(library.train) < n_songs:
        notes.append(f"{data}: --songs {n_songs}, but there are {len(library.train)} to train on")
    train = tuple(_pad(song, min_samples, notes) for song in library.train)
    unseen = tuple(_pad(song, min_samples, notes) for song in library.unseen)
    return Library(train, unseen, library.skipped, tuple(notes))


def _load_demo(n_songs: int | None, duration_s: float | None) -> Library:
    paths = sorted(DEMO_FOLDER.glob("*.flac"))
    unseen = [path for path in paths if path.name.startswith(UNSEEN_PREFIX)]
    train = [path for path in paths if path not in unseen][:n_songs]
    if not train:
        raise DataError(f"{DEMO_FOLDER}: the embedded songs are missing; install NoizeNet again")
    return Library(
        tuple(read_song(path, duration_s) for path in train),
        tuple(read_song(path, duration_s) for path in unseen),
    )


def _load_folder(
    folder: Path, n_songs: int | None, duration_s: float | None, valid_fraction: float
) -> Library:
    paths, skipped = _find_audio_files(folder)
    if not paths:
        raise DataError(f"{folder}: no audio files in it ({' '.join(sorted(AUDIO_ENDINGS))})")

    # How many files make n_songs to train on, once their share is held out? A whole song is
    # held out for a single one too, if there is another.
    n_files = len(paths)
    if n_songs is not None:
        n_least = max(n_songs, 2) if valid_fraction > 0 else n_songs
        for n_files in range(min(n_least, len(paths)), len(paths) + 1):
            if n_files - _n_held_out(n_files, valid_fraction) >= n_songs:
                break
    n_unseen = _n_held_out(n_files, valid_fraction)

    def read(candidates: Iterable[Path], n_wanted: int) -> dict[Path, Song | None]:
        """Read until there are enough; the unreadable ones, listed, are None."""
        songs: dict[Path, Song | None] = {}
        for path in candidates:
            if n_wanted == 0:
                break
            try:
                name = path.relative_to(folder).with_suffix("").as_posix()
                songs[path] = replace(read_song(path, duration_s), name=name)
                n_wanted -= 1
            except (FormatError, DataError) as error:
                songs[path] = None
                skipped.append(f"{error}; skipped")
        return songs

    # By a hash of the names: neither the last album nor the last track only, and a larger
    # share holds out the same songs and more. crc32 does not change from run to run.
    by_hash = sorted(paths, key=lambda p: (zlib.crc32(os.fsencode(p.relative_to(folder))), p))
    held_out = read(by_hash, n_unseen)
    others = read((p for p in paths if p not in held_out), n_files - n_unseen)

    unseen = [path for path, song in held_out.items() if song is not None]
    songs = {path: song for path, song in (held_out | others).items() if song is not None}
    if not songs:
        n_tried = len(held_out) + len(others)
        first = skipped[0].removesuffix("; skipped")
        raise DataError(f"{folder}: none of {n_tried} audio files can be read; first {first}")
    if len(songs) == 1:
        [(path, song)] = songs.items()
        return replace(_split(song, str(path), valid_fraction), skipped=tuple(skipped))
    # Broken files can leave too few to train on: the share is one of the readable songs.
    unseen = unseen[: _n_held_out(len(songs), valid_fraction)]
    return Library(
        tuple(songs[path] for path in sorted(songs) if path not in unseen),
        tuple(songs[path] for path in sorted(unseen)),
        tuple(skipped),
    )


def _n_held_out(n_songs: int, valid_fraction: float) -> int:
    """How many of ``n_songs`` are held out; at least one remains to train on."""
    if valid_fraction == 0 or n_songs < 2:
        return 0
    return min(max(1, round(valid_fraction * n_songs)), n_songs - 1)


def _find_audio_files(folder: Path) -> tuple[list[Path], list[str]]:
    """The audio files below a folder, sorted by path, and why some folders are not searched.

    Hidden files are left out: they are leftovers of file managers, and of interrupted writing.
    """
    problems: list[str] = []

    def note_problem(error: OSError) -> None:
        problems.append(f"{error.filename}: cannot be searched ({error.strerror}); skipped")

    paths = [
        Path(parent) / name
        for parent, _, names in os.walk(folder, onerror=note_problem)
        for name in names
        if Path(name).suffix.lower() in AUDIO_ENDINGS and not name.startswith(".")
    ]
    return sorted(paths), problems


def _split(song: Song, path: str, valid_fraction: float) -> Library:
    """Of a single song the beginning trains, and the end is held out."""
    n_samples = len(song.samples)
    n_train = n_samples - min(round(valid_fraction * n_samples), n_samples - 1)
    train = Song(song.name, song.samples[:n_train])
    if is_silent(train.samples):
        raise DataError(
            f"{path}: its first {train.duration_s:.2f} s, those to train on, are silent; "
            "lower --valid-fraction"
        )
    if n_train == n_samples:
        return Library((train,), ())
    unseen = Song(f"{song.name}-unseen", song.samples[n_train:])
    notes = ()
    if is_silent(unseen.samples):
        notes = (f"{path}: its last {unseen.duration_s:.2f} s, which are held out, are silent",)
    return Library((train,), (unseen,), notes=notes)


def _pad(song: Song, min_samples: int, notes: list[str]) -> Song:
    """Fill a song up with silence to ``min_samples``, and say so."""
    n_missing = min_samples - len(song.samples)
    if n_missing <= 0:
        return song
    notes.append(
        f"{song.name}: {song.duration_s:.3f} s is shorter than the window; padded with silence "
        f"to {samples_to_seconds(min_samples):.3f} s"
    )
    return Song(song.name, np.pad(song.samples, (0, n_missing)))
