"""The recipe of the demo library: which music, on which instruments, played how.

``render_demo`` makes the FLAC files of this folder again. The scores and the SoundFont come with
optional packages (see README.md beside this file); nobody needs them to train on the files.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from noizenet.errors import RunError
from noizenet.sound.demo.performance import ScoreNote, Style, Voice, perform
from noizenet.sound.demo.rendering import INT16_FULL_SCALE, finish, read_score, synthesize
from noizenet.sound.song import write_song

PIANO, ORGAN, VIOLIN, VIOLA, CELLO, HARP, FLUTE = 0, 19, 40, 41, 42, 46, 73

SCORE_NOTE = "The composition is in the public domain; only its notes were taken from the edition."


@dataclass(frozen=True)
class Piece:
    """One line of the library's table."""

    title: str
    """The file's name without its ending."""
    composer: str
    composer_years: str
    work: str
    year: str
    corpus_path: str
    """Where music21's corpus keeps the score."""
    edition: str
    """Who made the score machine-readable."""
    measures: tuple[int, int]
    """First and last measure, both played."""
    instruments: str
    voices: tuple[Voice, ...]
    style: Style
    seed: int
    corpus_number: int | None = None
    """Which tune, where the corpus file holds several."""
    last_quarter: float | None = None
    """Stop here, where the last measure is played in part."""
    harmony: tuple[tuple[int, ...], ...] = ()
    """Chords for an accompanist, one per half measure of 2/4, as MIDI pitches played upward."""
    licence_note: str = SCORE_NOTE


# The Enchanted Valley is printed without accompaniment. This one is NoizeNet's own (CC0): broken
# chords on the harp, two quarters each, G minor with the modal F major of the tune.
G_MINOR = (43, 50, 58, 62)
B_FLAT = (46, 53, 58, 62)
C_MINOR = (48, 55, 60, 63)
E_FLAT = (39, 51, 58, 67)
F_MAJOR = (41, 53, 57, 60)
D_MINOR = (38, 50, 57, 65)
D_MAJOR = (38, 50, 57, 66)
ENCHANTED_VALLEY_HARMONY = (
    *(G_MINOR, B_FLAT, C_MINOR, F_MAJOR),
    *(G_MINOR, B_FLAT, E_FLAT, F_MAJOR),
    *(C_MINOR, D_MINOR, E_FLAT, G_MINOR),
)

PIECES = (
    Piece(
        title="01-prelude",
        composer="Johann Sebastian Bach",
        composer_years="1685-1750",
        work="The Well-Tempered Clavier I, Prelude in C major, BWV 846, measures 1-7",
        year="1722",
        corpus_path="bach/bwv846",
        edition="MusicXML from musescore.com/score/117279",
        measures=(1, 7),
        instruments="piano",
        voices=(Voice(PIANO, pedal_quarters=2.0), Voice(PIANO, pedal_quarters=2.0)),
        style=Style(82.0, phrase_quarters=16.0, rubato=0.16, ritardando_quarters=5.0),
        seed=846,
    ),
    Piece(
        title="02-chorale",
        composer="Johann Sebastian Bach",
        composer_years="1685-1750",
        work="Aus meines Herzens Grunde, chorale, BWV 269, measures 0-7",
        year="before 1750",
        corpus_path="bach/bwv269",
        edition="Margaret Greentree, 2004",
        measures=(0, 7),
        last_quarter=21.0,
        instruments="organ",
        voices=(
            Voice(ORGAN, gain=6.0, articulation=0.93),
            Voice(ORGAN, articulation=0.95),
            Voice(ORGAN, articulation=0.95),
            Voice(ORGAN, gain=3.0, articulation=0.9),
        ),
        style=Style(70.0, phrase_quarters=12.0, rubato=0.10, dynamics=0.8),
        seed=269,
    ),
    Piece(
        title="03-quartet",
        composer="Wolfgang Amadeus Mozart",
        composer_years="1756-1791",
        work="String Quartet no. 2 in D major, K. 155, second movement, measures 1-8",
        year="1772",
        corpus_path="mozart/k155/movement2",
        edition="music21 corpus (encoder not named)",
        measures=(1, 8),
        instruments="two violins, viola, cello",
        voices=(
            Voice(VIOLIN, gain=4.0, articulation=0.98),
            Voice(VIOLIN, articulation=0.98),
            Voice(VIOLA, articulation=0.98),
            Voice(CELLO, gain=4.0, articulation=0.8),
        ),
        style=Style(68.0, phrase_quarters=12.0, rubato=0.14),
        seed=155,
    ),
    Piece(
        title="04-rag",
        composer="Scott Joplin",
        composer_years="1868-1917",
        work="Maple Leaf Rag, first strain",
        year="1899",
        corpus_path="joplin/maple_leaf_rag",
        edition="MusicXML from musescore.com/user/116681/scores/145724",
        measures=(0, 16),
        instruments="piano",
        voices=(Voice(PIANO, gain=4.0), Voice(PIANO, articulation=0.8)),
        style=Style(92.0, phrase_quarters=8.0, upbeat_quarters=0.5, rubato=0.06, drift=0.02),
        seed=1899,
    ),
    Piece(
        title="05-air",
        composer="traditional Irish",
        composer_years="collected by James O'Neill",
        work="The Enchanted Valley, slow air, O'Neill's Music of Ireland no. 1",
        year="1903",
        corpus_path="oneills1850/0001-0050.abc",
        corpus_number=1,
        edition="ABC transcription by Norbert Paap",
        measures=(0, 11),
        instruments="flute, harp",
        voices=(
            Voice(FLUTE, gain=4.0, articulation=0.97),
            Voice(HARP, gain=6.0, pedal_quarters=2.0),
        ),
        style=Style(70.0, phrase_quarters=8.0, rubato=0.18, drift=0.03),
        seed=1903,
        harmony=ENCHANTED_VALLEY_HARMONY,
        licence_note=SCORE_NOTE + " The harp's part is NoizeNet's own, CC0.",
    ),
    Piece(
        title="unseen-sonata",
        composer="Wolfgang Amadeus Mozart",
        composer_years="1756-1791",
        work="Piano Sonata no. 16 in C major, K. 545, first movement, measures 1-12",
        year="1788",
        corpus_path="mozart/k545/movement1_exposition",
        edition="music21 corpus (encoder not named)",
        measures=(1, 12),
        instruments="piano",
        voices=(Voice(PIANO, gain=4.0), Voice(PIANO, articulation=0.98)),
        style=Style(138.0, phrase_quarters=16.0, rubato=0.10),
        seed=545,
    ),
)


def accompaniment(
    harmony: Sequence[Sequence[int]], part: int, chord_quarters: float = 2.0
) -> list[ScoreNote]:
    """Broken chords in eighth notes, upward, one chord after the other."""
    notes = []
    for index, chord in enumerate(harmony):
        for step, pitch_midi in enumerate(chord):
            onset = index * chord_quarters + step * chord_quarters / len(chord)
            strength = 1.0 if step == 0 else 0.25
            duration = chord_quarters / len(chord)
            notes.append(ScoreNote(onset, duration, pitch_midi, part, strength))
    return notes


def render_piece(piece: Piece) -> np.ndarray:
    """Play one piece.

    Returns
    -------
    np.ndarray
        int16, shape (samples,), at 22 050 Hz: exactly what its FLAC file holds.

    Raises
    ------
    NoizeNetError
        If an optional package is missing, or its SoundFont is another one.
    """
    notes = read_score(
        piece.corpus_path, piece.measures, number=piece.corpus_number, end=piece.last_quarter
    )
    if piece.harmony:
        notes += accompaniment(piece.harmony, part=len(piece.voices) - 1)
    rng = np.random.default_rng(piece.seed)
    played = perform(notes, piece.voices, piece.style, rng)
    return finish(synthesize(played, piece.voices))


def render_demo(folder: Path, pieces: Sequence[Piece] = PIECES) -> list[Path]:
    """Render pieces into ``folder`` as ``<title>.flac``, which appear whole or not at all."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{folder}: cannot be made ({error.strerror})") from error
    paths = []
    for piece in pieces:
        path = folder / f"{piece.title}.flac"
        # libsndfile multiplies by 32 768 and rounds, so this writes the very integers.
        write_song(path, render_piece(piece) / INT16_FULL_SCALE)
        paths.append(path)
    return paths
