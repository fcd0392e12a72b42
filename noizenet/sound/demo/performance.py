"""A performer: from notes as they are written to notes as they are played.

A score played as written is a machine: every beat equally long, every note equally loud. What
this model adds, each part small, is what measurements of human players show:

- *tempo*: an arch over each phrase, slow at its ends and flowing in the middle (Todd 1992), a
  drift with a 1/f spectrum (Gilden 2001), and a final ritardando that follows the speed of a
  runner who comes to a stop (Friberg and Sundberg 1999);
- *loudness*: the same arch, the metre, the height of the melody, and correlated noise;
- *togetherness*: in a chord the melody is heard 10 to 20 ms before the rest (Palmer 1989);
- *articulation*: notes last longer or shorter than written, and a pedal can hold them.

Everything is a function of the notes, the style and the generator's seed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

GRID_PER_QUARTER = 96  # where tempo is integrated; divides all written durations here
LEAD_IN_S = 0.05  # the first note is not cut by the file's first sample
ONSET_ROUNDING_DIGITS = 4  # 0.1 ms: the last bits of a libm never reach the sound
REPEAT_GAP_S = 0.012  # a repeated key must come up before it goes down again
SHORTEST_NOTE_S = 0.04


@dataclass(frozen=True)
class ScoreNote:
    """One written note: times in quarter notes from the start, pitch as a MIDI number."""

    onset_quarters: float
    duration_quarters: float
    pitch_midi: int
    part: int
    """Index of the player, in the order of the piece's voices."""
    beat_strength: float = 0.5
    """Metric weight in (0, 1]: 1 on a downbeat."""


@dataclass(frozen=True)
class PlayedNote:
    """One sounding note."""

    onset_s: float
    duration_s: float
    pitch_midi: int
    velocity: int
    part: int


@dataclass(frozen=True)
class Voice:
    """How one player plays."""

    program: int
    """General MIDI program, counted from 0."""
    gain: float = 0.0
    """Added to the velocity of every note, in MIDI steps."""
    articulation: float = 0.95
    """Sounding part of the written duration; above 1 the notes overlap."""
    pedal_quarters: float = 0.0
    """Notes ring until the next multiple of this time; 0 is no pedal."""


@dataclass(frozen=True)
class Style:
    """How a piece is shaped."""

    tempo_quarters_per_minute: float
    phrase_quarters: float
    """Length of the arch."""
    upbeat_quarters: float = 0.0
    """The first phrase is this much longer, by the upbeat before it."""
    rubato: float = 0.12
    """Depth of the tempo arch, relative to the tempo."""
    drift: float = 0.025
    """Standard deviation of the tempo's 1/f drift, relative to the tempo."""
    ritardando_quarters: float = 4.0
    final_tempo: float = 0.55
    """Tempo at the last note's end, relative to the tempo."""
    velocity: float = 76.0
    dynamics: float = 1.0
    """Scale of everything that makes one note louder than another."""
    melody_lead_s: float = 0.014


def phrase_arch(quarters: np.ndarray, style: Style) -> np.ndarray:
    """The arch 4 p (1 - p) over each phrase, p from 0 to 1, less its mean of 2/3."""
    position = np.mod(quarters - style.upbeat_quarters, style.phrase_quarters)
    # Within the upbeat the modulus gives the end of a phrase that was not played: it is the start.
    position = np.where(quarters < style.upbeat_quarters, 0.0, position / style.phrase_quarters)
    return 4 * position * (1 - position) - 2 / 3


def pink_noise(n_values: int, rng: np.random.Generator) -> np.ndarray:
    """Noise with power falling as 1/f, mean 0 and variance 1 (0 where there is one value)."""
    spectrum = np.fft.rfft(rng.standard_normal(n_values))
    spectrum[0] = 0
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    noise = np.fft.irfft(spectrum, n_values)
    return noise / max(float(noise.std()), np.finfo(float).tiny)


def tempo_map(end_quarters: float, style: Style, rng: np.random.Generator):
    """When each moment of the score is played.

    Returns
    -------
    quarters, seconds : np.ndarray
        Matching times, both rising from 0; interpolate linearly between them.
    """
    n_steps = int(np.ceil(end_quarters * GRID_PER_QUARTER))
    quarters = np.arange(n_steps + 1) / GRID_PER_QUARTER
    middles = quarters[:-1] + 0.5 / GRID_PER_QUARTER
    n_beats = max(int(np.ceil(end_quarters)) + 1, 2)
    drift = style.drift * pink_noise(n_beats, rng)
    relative = 1 + style.rubato * phrase_arch(middles, style)
    relative *= 1 + np.interp(middles, np.arange(n_beats), drift)
    # Friberg and Sundberg 1999, equation 5 with q = 3: v(x) = [1 + (w^3 - 1) x]^(1/3).
    x = np.clip(1 - (end_quarters - middles) / style.ritardando_quarters, 0, 1)
    relative *= np.cbrt(1 + (style.final_tempo**3 - 1) * x)
    step_s = 60 / (GRID_PER_QUARTER * style.tempo_quarters_per_minute * relative)
    return quarters, np.concatenate(([0.0], np.cumsum(step_s)))


def perform(
    notes: Sequence[ScoreNote], voices: Sequence[Voice], style: Style, rng: np.random.Generator
) -> list[PlayedNote]:
    """Play written notes.

    Parameters
    ----------
    notes
        In any order; the highest pitch of part 0 at each onset is the melody.
    voices
        One for each part that the notes name.
    style, rng
        The shape of the piece, and where its chance comes from.

    Returns
    -------
    list of PlayedNote
        By onset; the first begins at ``LEAD_IN_S``.
    """
    notes = sorted(notes, key=lambda note: (note.onset_quarters, note.part, -note.pitch_midi))
    end_quarters = max(note.onset_quarters + note.duration_quarters for note in notes)
    quarters, seconds = tempo_map(end_quarters, style, rng)
    melody = _melody(notes)
    centre_midi = float(np.median(list(melody.values())))

    played = []
    # One correlated step per moment and an independent one per finger.
    onsets = sorted({note.onset_quarters for note in notes})
    breath = dict(zip(onsets, pink_noise(max(len(onsets), 2), rng), strict=False))
    for note in notes:
        voice = voices[note.part]
        is_melody = note.part == 0 and melody.get(note.onset_quarters) == note.pitch_midi
        end = _written_end(note, voice, end_quarters)
        onset_s = float(np.interp(note.onset_quarters, quarters, seconds))
        end_s = float(np.interp(end, quarters, seconds))
        late_s = 0.0 if is_melody else style.melody_lead_s * rng.uniform(0.7, 1.4)
        loudness = (
            10 * (note.beat_strength - 0.4)
            + 9 * float(phrase_arch(np.array(note.onset_quarters), style))
            + 0.5 * np.clip(note.pitch_midi - centre_midi, -12, 12) * is_melody
            + 3 * breath[note.onset_quarters]
            + 1.5 * rng.standard_normal()
        )
        velocity = style.velocity + voice.gain + style.dynamics * loudness
        velocity -= 0 if is_melody else 8
        played.append(
            PlayedNote(
                onset_s=round(LEAD_IN_S + onset_s + late_s, ONSET_ROUNDING_DIGITS),
                duration_s=round(max(end_s - onset_s, SHORTEST_NOTE_S), ONSET_ROUNDING_DIGITS),
                pitch_midi=note.pitch_midi,
                velocity=int(np.clip(round(velocity), 20, 120)),
                part=note.part,
            )
        )
    return _lift_before_repeats(sorted(played, key=lambda note: (note.onset_s, note.part)))


def _melody(notes: Sequence[ScoreNote]) -> dict[float, int]:
    """The highest pitch of part 0 at each of its onsets."""
    melody: dict[float, int] = {}
    for note in notes:
        if note.part == 0:
            known = melody.get(note.onset_quarters, note.pitch_midi)
            melody[note.onset_quarters] = max(known, note.pitch_midi)
    return melody


def _written_end(note: ScoreNote, voice: Voice, end_quarters: float) -> float:
    """Where a note stops, in quarters: its articulated length, or the pedal if that is later."""
    end = note.onset_quarters + note.duration_quarters * voice.articulation
    if voice.pedal_quarters:
        up = (np.floor(note.onset_quarters / voice.pedal_quarters) + 1) * voice.pedal_quarters
        end = max(end, float(up))
    # The last chord rings as long as it is written, whatever the touch.
    if note.onset_quarters + note.duration_quarters >= end_quarters:
        end = end_quarters
    return min(end, end_quarters)


def _lift_before_repeats(played: Sequence[PlayedNote]) -> list[PlayedNote]:
    """Shorten every note that would still sound when the same player strikes the same key."""
    lifted, next_onset_s = [], {}
    for note in reversed(played):
        key = (note.part, note.pitch_midi)
        room_s = next_onset_s.get(key, np.inf) - note.onset_s - REPEAT_GAP_S
        duration_s = max(min(note.duration_s, room_s), SHORTEST_NOTE_S)
        lifted.append(
            PlayedNote(
                note.onset_s,
                round(float(duration_s), ONSET_ROUNDING_DIGITS),
                note.pitch_midi,
                note.velocity,
                note.part,
            )
        )
        next_onset_s[key] = note.onset_s
    return lifted[::-1]
