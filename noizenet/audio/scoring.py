"""Runs and sounds on one scale: their bits per sample, and what the judge says of them."""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from noizenet import views
from noizenet.audio.adaptive import adaptive_bits, code_entropy_bits
from noizenet.audio.config import AudioConfig
from noizenet.audio.judge import Judge, Verdict
from noizenet.audio.score_command import SHORTEST_SCORED_S, ScoreCommand
from noizenet.audio.session import read_library, restored_session
from noizenet.errors import DataError, NoizeNetError, ParameterError
from noizenet.files import RUNS, known_runs, run_folder, write_text
from noizenet.learner.codecs import Level
from noizenet.runs import Run
from noizenet.sound.library import AUDIO_ENDINGS, DEMO, Library, load_library
from noizenet.sound.song import Song, read_song
from noizenet.units import samples_to_seconds, seconds_to_samples

NOISE_S = 20.0  # of white noise, where no unseen song says how long
WIDTH = 100  # columns
UNKNOWN = "–"
LEARNING = "learning-"  # sounds played on the way, which are not the run's last word
SAME_LEVEL_DB = 0.1

BITS_LEGEND = (
    "code: entropy of the codes alone; LP n: linear prediction of order n that is fitted to the",
    "past as it goes; model: the run's own network, on what it never heard",
)
JUDGE_LEGEND = (
    "Fréchet: spectra, 1 a real excerpt; 1 s, 4 s: the harmony moves as in the songs 1, a drone 0;",
    "noise: noisiness, above 0.35 of any colour; dB: loudness, the songs' 0; copy: seconds copied",
)


@dataclass(frozen=True, eq=False)
class Reference:
    """Songs that all is measured by."""

    name: str
    library: Library


@dataclass(frozen=True, eq=False)
class Row:
    """One line of the tables."""

    name: str
    sounds: tuple[np.ndarray, ...]
    """What its bits are of."""
    level: Level
    model_bits: float | None = None
    is_judged: bool = True

    def bits(self, orders: Sequence[int]) -> list[float]:
        """The code's entropy, then each order's linear prediction."""
        levelled = [self.level.apply(sound) for sound in self.sounds]
        if not levelled:
            return [math.nan] * (1 + len(orders))
        of_orders = zip(*(adaptive_bits(sound, orders) for sound in levelled), strict=True)
        told = [float(np.concatenate(bits).mean()) for bits in of_orders]
        return [code_entropy_bits(np.concatenate(levelled)), *told]

    @property
    def duration_s(self) -> float:
        """Seconds of it that are scored."""
        return samples_to_seconds(sum(len(sound) for sound in self.sounds))


@dataclass(frozen=True, eq=False)
class ScoredRun:
    """A run, its bits, and where its sounds are."""

    row: Row
    library: Library
    sounds: tuple[Path, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Scale:
    """What rows are measured with."""

    reference: Reference | None
    """None: there is nothing to judge against."""
    level: Level | None
    """Of files; None: each has its own."""
    level_of: str


def score_things(command: ScoreCommand) -> None:
    """Print the tables of runs and sounds: what ``scripts/score.py`` does.

    What cannot be scored is left out of them.

    Raises
    ------
    NoizeNetError
        In the end, the last reason why something was left out; the others are on stderr by then.
    """
    failures: list[NoizeNetError] = []
    songs = _read_songs(command)
    things = {(name or thing): name for thing in command.things for name in [run_named(thing)]}
    runs: dict[str, ScoredRun] = {}
    for name in tqdm([*filter(None, things.values())], "runs", disable=None, leave=False):
        try:
            runs[name] = _score_run(name, command, songs)
        except NoizeNetError as error:
            is_named = str(run_folder(name)) in str(error)
            failures.append(error if is_named else type(error)(f"{run_folder(name)}: {error}"))
    scale = _scale(songs, runs)

    rows = _rows(things, runs, scale.level, command.seconds, failures)
    if rows:
        notes = [*(songs.library.skipped if songs else ()), *_level_notes(runs)]
        notes += [note for run in runs.values() for note in run.notes]
        rows += _anchors(scale, command.seconds)
        text = "\n".join(_report(rows, scale, command.orders, notes))
        print(text)
        if command.out is not None:
            write_text(command.out, text + "\n")
        if command.picture is not None:
            sounds = {Path(row.name).stem: row.sounds[0] for row in rows if row.is_judged}
            views.figure_to_png(views.overview(sounds), command.picture)
    for error in failures[:-1]:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
    if failures:
        raise failures[-1]


def _rows(
    things: dict[str, str | None],
    runs: dict[str, ScoredRun],
    level: Level | None,
    seconds: float,
    failures: list[NoizeNetError],
) -> list[Row]:
    """Each run with its sounds, and each file, in the order they were named."""
    rows = []
    for thing, name in things.items():
        sounds = [("", thing, level)]
        if name is not None:
            if name not in runs:
                continue
            run = runs[name]
            rows.append(run.row)
            sounds = [(f"{name}/", path, run.row.level) for path in run.sounds]
        for prefix, path, own_level in sounds:
            try:
                rows.append(_sound_row(prefix, path, own_level, seconds))
            except NoizeNetError as error:
                failures.append(error)
    return rows


def _scale(songs: Reference | None, runs: dict[str, ScoredRun]) -> Scale:
    """``--songs`` judge, or else those of the first run; levels are those of the first run."""
    for name, run in runs.items():
        level, of_run = run.row.level, f"run {name}"
        return Scale(songs or Reference(of_run, run.library), level, f"the level of {of_run}")
    if songs is None:
        return Scale(None, None, "each its own level")
    level = Level.measure([song.samples for song in songs.library.train])
    return Scale(songs, level, f"the level of {songs.name}")


def run_named(thing: str) -> str | None:
    """The run that is meant by its name or its folder's path; None if it is no run."""
    path = Path(thing)
    name = path.name if path.parent == RUNS else thing
    try:
        return name if (run_folder(name) / "config.json").is_file() else None
    except ParameterError:
        return None


# --- reading -------------------------------------------------------------------------------------


def _read_songs(command: ScoreCommand) -> Reference | None:
    """``--songs``, none of which is held out but the demo's own."""
    songs = command.songs
    if songs is None:
        return None
    if songs != DEMO and not (songs.strip() and Path(songs).exists()):
        raise DataError(
            f"--songs {songs}: no such file or folder; it takes demo, an audio file or a folder"
        )
    library = load_library(songs, None, command.duration_s, 0.0)
    return Reference(f"--songs {Path(songs).name or songs}", library)


def _score_run(name: str, command: ScoreCommand, songs: Reference | None) -> ScoredRun:
    """Restore a run, and let it tell what it held out, or ``--songs``."""
    run = Run.open(name, AudioConfig)
    config = replace(run.config, machine=command.machine)
    library = read_library(config)
    session, _, _ = restored_session(run, config, library, command.checkpoint)
    notes = []
    told = library.unseen
    if songs is not None:
        told = songs.library.unseen or songs.library.train
        if _learned_from(config.data.data, command.songs):
            notes.append(f"{name}: it learned from --songs {command.songs}, which are not unseen")
    if not told:
        notes.append(f"{name}: it held nothing out; --songs says what it is to be scored on")
    n_samples = seconds_to_samples(command.seconds)
    sounds = tuple(_long_enough(song, song.name).samples[:n_samples] for song in told)
    bits = None
    if sounds:
        lengths = [len(sound) for sound in sounds]
        each = [session.score(sound).bits_per_sample for sound in sounds]
        bits = float(np.average(each, weights=lengths))
    paths = sorted((run.folder / "audio").glob("*.wav"))
    return ScoredRun(
        Row(f"run {name}", sounds, session.codec.level, bits, is_judged=False),
        library,
        tuple(path for path in paths if not path.name.startswith(LEARNING)),
        tuple(notes),
    )


def _learned_from(data: str, songs: str) -> bool:
    """Whether a run's songs and ``--songs`` share files; the demo's unseen song is nobody's."""
    if DEMO in (data, songs):
        return False
    learned, asked = Path(data).resolve(), Path(songs).resolve()
    return learned == asked or learned in asked.parents or asked in learned.parents


def _sound_row(prefix: str, path: str | Path, level: Level | None, seconds: float) -> Row:
    """The row of an audio file; one of a run, whose name is the prefix, is named without folder."""
    path = Path(path)
    if not path.exists() and path.suffix.lower() not in AUDIO_ENDINGS:
        raise ParameterError(f"{path}: neither a run nor an audio file; {known_runs()}")
    samples = _long_enough(read_song(path, seconds), str(path)).samples
    name = f"{prefix}{path.name}" if prefix else str(path)
    return Row(name, (samples,), level or Level.measure([samples]))


def _long_enough(song: Song, name: str) -> Song:
    if song.duration_s < SHORTEST_SCORED_S:
        raise DataError(
            f"{name}: its {song.duration_s:.3f} s are too short to score; "
            f"{SHORTEST_SCORED_S:g} s are the least"
        )
    return song


def _anchors(scale: Scale, seconds: float) -> list[Row]:
    """The unseen song and white noise as loud as the songs: real music, and none."""
    if scale.reference is None:
        return []
    library = scale.reference.library
    n_samples = seconds_to_samples(min(seconds, NOISE_S))
    rows = []
    for song in library.unseen[:1]:
        samples = song.samples[: seconds_to_samples(seconds)]
        n_samples = len(samples)
        rows.append(Row(f"(unseen) {song.name}", (samples,), scale.level))
    songs = np.concatenate([song.samples for song in library.train])
    rms = math.sqrt(np.mean(np.square(songs, dtype=np.float64)))
    noise = np.random.default_rng(0).standard_normal(n_samples) * rms
    rows.append(Row("(white noise)", (noise.astype(np.float32),), scale.level))
    return rows


def _level_notes(runs: dict[str, ScoredRun]) -> list[str]:
    """Runs whose codes are not those of the first."""
    [first, *others] = [(name, run.row.level.gain) for name, run in runs.items()] or [("", 1.0)]
    return [
        f"{name}: its level is {20 * math.log10(gain / first[1]):+.1f} dB from that of {first[0]}, "
        "so its codes are others"
        for name, gain in others
        if abs(20 * math.log10(gain / first[1])) > SAME_LEVEL_DB
    ]


# --- tables --------------------------------------------------------------------------------------


def _report(
    rows: Sequence[Row], scale: Scale, orders: Sequence[int], notes: Sequence[str]
) -> list[str]:
    """All that is printed, line by line."""
    lines = [f"Bits per sample of the 8-bit mu-law code, at {scale.level_of}", ""]
    bits = [row.bits(orders) for row in tqdm(rows, "bits", disable=None, leave=False)]
    cells = [
        [row.name, f"{row.duration_s:.1f}", *map(_number, [*found, row.model_bits])]
        for row, found in zip(rows, bits, strict=True)
    ]
    lines += _table(["sound", "s", "code", *(f"LP {order}" for order in orders), "model"], cells)
    lines += ["", *BITS_LEGEND]
    for row, (_, *linear) in zip(rows, bits, strict=True):
        if row.model_bits is not None:
            lines.append(_comparison(row, linear, orders))
    lines += notes

    judged = [row for row in rows if row.is_judged]
    if scale.reference is None:
        return [*lines, "", "without a run or --songs there is nothing to judge against"]
    songs = scale.reference.library.train
    judge = Judge([song.samples for song in songs], [song.name for song in songs])
    verdicts = [
        judge.judge(row.sounds[0]) for row in tqdm(judged, "judge", disable=None, leave=False)
    ]
    n_songs = "the song" if len(songs) == 1 else f"the {len(songs)} songs"
    noisiness = verdicts[0].songs_noisiness
    lines += ["", f"Judged against {n_songs} of {scale.reference.name} (noise {noisiness:.2f})", ""]
    cells = [
        _verdict_cells(row.name, verdict) for row, verdict in zip(judged, verdicts, strict=True)
    ]
    header = ["sound", "alive", "Fréchet", "1 s", "4 s", "noise", "dB", "copy"]
    lines += [*_table(header, cells), "", *JUDGE_LEGEND]
    for row, verdict in zip(judged, verdicts, strict=True):
        if verdict.problems:
            lines.append(f"{row.name}: {verdict.headline()}")
    return lines


def _comparison(row: Row, linear: Sequence[float], orders: Sequence[int]) -> str:
    """How far a run's network is below each linear prediction of the same sound."""
    against = [
        f"{abs(bits - row.model_bits):.2f} {'below' if row.model_bits <= bits else 'above'} LP {n}"
        for bits, n in zip(linear, orders, strict=True)
    ]
    return f"{row.name}: {row.model_bits:.2f} bits, {', '.join(against)}"


def _verdict_cells(name: str, verdict: Verdict) -> list[str]:
    return [
        name,
        "yes" if verdict.alive else "no",
        _number(verdict.frechet_ratio),
        _number(verdict.movement_1s),
        _number(verdict.movement_4s),
        _number(verdict.noisiness),
        f"{verdict.level_db:+.1f}",
        f"{verdict.copied_s:.1f}",
    ]


def _number(value: float | None) -> str:
    return f"{value:.2f}" if value is not None and math.isfinite(value) else UNKNOWN


def _table(header: Sequence[str], cells: Sequence[Sequence[str]]) -> list[str]:
    """Markdown that is a table to the eye too; long names lose their beginning."""
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    widths[0] = min(widths[0], WIDTH - (3 * len(widths) + 1) - sum(widths[1:]))

    def line(row: Sequence[str]) -> str:
        name = row[0]
        if len(name) > widths[0]:
            name = "…" + name[len(name) - widths[0] + 1 :]
        padded = [f"{name:<{widths[0]}}"]
        padded += [f"{cell:>{w}}" for cell, w in zip(row[1:], widths[1:], strict=True)]
        return f"| {' | '.join(padded)} |"

    rule = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]
    return [line(header), line(rule), *map(line, cells)]
