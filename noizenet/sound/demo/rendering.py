"""From a score in music21's corpus to played samples: reading, synthesis, level.

The packages for this are optional and imported late.
"""

import hashlib
import importlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from noizenet.errors import NoizeNetError, ParameterError
from noizenet.sound.demo.performance import PlayedNote, ScoreNote, Voice
from noizenet.units import SAMPLE_RATE_HZ, db_to_amplitude, seconds_to_samples

# Rendered at twice the rate and then low-passed: the synthesizer does not filter what would alias.
SYNTHESIS_RATE_HZ = 2 * SAMPLE_RATE_HZ
SOUNDFONT_SHA256 = "82475b91a76de15cb28a104707d3247ba932e228bada3f47bba63c6b31aaf7a1"
PEAK_DB = -3.0
TAIL_FLOOR_DB = -40.0  # below this, relative to the peak, the last chord counts as gone
LONGEST_TAIL_S = 1.2
FADE_S = 0.05
INT16_FULL_SCALE = 32_768


def _optional(name: str):
    """Import an optional package, or say how to get it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        # tinysoundfont asks for PyAudio, which needs PortAudio's headers and is for playing live.
        raise NoizeNetError(
            f"{name}: not installed; this needs the optional packages: pip install -e .[render] "
            "&& pip install --no-deps tinysoundfont==0.3.7"
        ) from error


def soundfont_path() -> Path:
    """The SoundFont that pretty_midi brings along, checked to be the one the library was made with.

    Raises
    ------
    NoizeNetError
        If pretty_midi is missing or ships another SoundFont.
    """
    path = Path(_optional("pretty_midi").__file__).parent / "TimGM6mb.sf2"
    if not path.is_file():
        raise NoizeNetError(f"{path}: missing; install pretty_midi 0.2.11, which brings it along")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != SOUNDFONT_SHA256:
        raise NoizeNetError(
            f"{path}: another SoundFont (SHA-256 {digest[:12]}…, not {SOUNDFONT_SHA256[:12]}…); "
            "install pretty_midi 0.2.11"
        )
    return path


def read_score(
    corpus_path: str,
    measures: tuple[int, int],
    number: int | None = None,
    end: float | None = None,
) -> list[ScoreNote]:
    """The written notes of some measures of a score in music21's corpus.

    Tied notes are joined where their pitches agree (some ABC transcriptions write slurs as ties);
    grace notes are left out, since the score gives them no time of their own.

    Parameters
    ----------
    corpus_path
        As music21 names it, such as ``bach/bwv846``.
    measures
        First and last, both included.
    number
        Which tune of a file with several.
    end
        Leave out what begins at or after this many quarters.
    """
    corpus = _optional("music21.corpus")
    score = corpus.parse(corpus_path, number=number) if number else corpus.parse(corpus_path)
    excerpt = score.measures(*measures)
    notes = []
    for part_index, part in enumerate(excerpt.parts):
        sounding: dict[tuple[float, int], int] = {}  # (end, pitch) -> index in notes
        for element in part.flatten().notes:
            onset, duration = float(element.offset), float(element.quarterLength)
            if duration == 0 or (end is not None and onset >= end):
                continue
            for single in element.notes if element.isChord else (element,):
                pitch_midi = int(single.pitch.midi)
                tie = single.tie or element.tie
                joined = sounding.get((onset, pitch_midi))
                if joined is not None and tie is not None and tie.type in ("stop", "continue"):
                    first = notes[joined]
                    total = onset + duration - first.onset_quarters
                    notes[joined] = ScoreNote(
                        first.onset_quarters, total, pitch_midi, part_index, first.beat_strength
                    )
                    sounding[(onset + duration, pitch_midi)] = joined
                else:
                    sounding[(onset + duration, pitch_midi)] = len(notes)
                    strength = float(element.beatStrength)
                    notes.append(ScoreNote(onset, duration, pitch_midi, part_index, strength))
    if not notes:
        raise ParameterError(f"{corpus_path}: measures {measures} hold no notes")
    return notes


def synthesize(played: Sequence[PlayedNote], voices: Sequence[Voice]) -> np.ndarray:
    """Sound of played notes, each voice on a channel of its own.

    Returns
    -------
    np.ndarray
        float64, shape (samples,), at 22 050 Hz, at whatever level the SoundFont gives.
    """
    tinysoundfont, soxr = _optional("tinysoundfont"), _optional("soxr")
    synthesizer = tinysoundfont.Synth(samplerate=SYNTHESIS_RATE_HZ)
    soundfont = synthesizer.sfload(str(soundfont_path()))
    for channel, voice in enumerate(voices):
        synthesizer.program_select(channel, soundfont, 0, voice.program)

    # (sample, 0 = up before 1 = down, channel, pitch, velocity), in the order to be sent
    events = []
    for note in played:
        start = seconds_to_samples(note.onset_s, SYNTHESIS_RATE_HZ)
        stop = seconds_to_samples(note.onset_s + note.duration_s, SYNTHESIS_RATE_HZ)
        events.append((start, 1, note.part, note.pitch_midi, note.velocity))
        events.append((stop, 0, note.part, note.pitch_midi, 0))
    events.sort()

    blocks, now = [], 0
    for sample, is_down, channel, pitch_midi, velocity in events:
        if sample > now:
            blocks.append(bytes(synthesizer.generate(sample - now)))
            now = sample
        if is_down:
            synthesizer.noteon(channel, pitch_midi, velocity)
        else:
            synthesizer.noteoff(channel, pitch_midi)
    tail = seconds_to_samples(LONGEST_TAIL_S, SYNTHESIS_RATE_HZ)
    blocks.append(bytes(synthesizer.generate(tail)))
    stereo = np.frombuffer(b"".join(blocks), np.float32).reshape(-1, 2)  # (samples, channels)
    mono = stereo.mean(axis=1, dtype=np.float64)
    return soxr.resample(mono, SYNTHESIS_RATE_HZ, SAMPLE_RATE_HZ, quality="VHQ")


def finish(samples: np.ndarray) -> np.ndarray:
    """Cut the silence after the last chord, fade the cut, set the peak, and round to 16 bit.

    Returns
    -------
    np.ndarray
        int16, shape (samples,), as many as are left.
    """
    samples = samples - samples.mean()
    peak = np.abs(samples).max()
    audible = np.flatnonzero(np.abs(samples) > peak * db_to_amplitude(TAIL_FLOOR_DB))
    samples = samples[: audible[-1] + 1]
    n_fade = min(seconds_to_samples(FADE_S), len(samples))
    samples[-n_fade:] *= 0.5 + 0.5 * np.cos(np.pi * (np.arange(n_fade) + 1) / n_fade)
    highest = np.floor(db_to_amplitude(PEAK_DB) * INT16_FULL_SCALE)
    return np.round(samples * (highest / np.abs(samples).max())).astype(np.int16)
