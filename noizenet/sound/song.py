"""One sound: reading it in the house's form, and writing it so that it never clips silently."""

import io
import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from noizenet.errors import DataError, FormatError, ParameterError, RunError
from noizenet.files import writing
from noizenet.units import SAMPLE_RATE_HZ, db_to_amplitude, seconds_to_samples

SILENCE_AMPLITUDE = 1e-5  # -100 dBFS, a third of the smallest step of 16 bits
MIN_SOURCE_RATE_HZ = 1000  # below it a header is broken, and resampling would fill the memory
BLOCK_FRAMES = 65_536  # decoded and encoded at a time; libvorbis overflows its stack on much more

# ending -> (libsndfile's format, its subtype, the highest peak written in dBFS)
WRITABLE = {
    ".wav": ("WAV", "PCM_16", -1.0),
    ".flac": ("FLAC", "PCM_16", -1.0),
    ".ogg": ("OGG", "VORBIS", -2.0),
    ".mp3": ("MP3", "MPEG_LAYER_III", -2.0),
}
LOSSY = {".ogg", ".mp3"}
MAX_LOSSY_ATTEMPTS = 5  # clipped noise, the worst sound that was tried, needs 2


@dataclass(frozen=True, eq=False)
class Song:
    """A mono sound at ``SAMPLE_RATE_HZ``."""

    name: str
    """What it is called in tables and pictures; a file's name without its ending."""
    samples: np.ndarray
    """float32 (n_samples,), nominally in [-1, 1]."""

    @property
    def duration_s(self) -> float:
        """The duration in seconds."""
        return len(self.samples) / SAMPLE_RATE_HZ


def check_duration(duration_s: float | None) -> None:
    """Refuse a ``--duration`` that is not None and not a finite number of seconds above 0."""
    if duration_s is not None and not 0 < duration_s < math.inf:
        raise ParameterError(f"--duration {duration_s} must be a number of seconds above 0")


def is_silent(samples: np.ndarray) -> bool:
    """Whether nothing but a constant, to within ``SILENCE_AMPLITUDE``, is to be heard."""
    samples = np.asarray(samples, dtype=np.float64)
    return samples.size == 0 or bool(np.all(np.abs(samples - samples.mean()) < SILENCE_AMPLITUDE))


def read_song(path: str | Path, duration_s: float | None = None) -> Song:
    """Read a file, mix it to mono, resample it to 22 050 Hz and cut it.

    Parameters
    ----------
    path
        Anything that libsndfile decodes: WAV, FLAC, OGG, MP3, AIFF …, of any sample format,
        number of channels and rate.
    duration_s
        Keep only this much from the beginning; None keeps all. No more than that is decoded
        and resampled.

    Returns
    -------
    Song
        float32 (n_samples,); the channels' mean.

    Raises
    ------
    FormatError
        The file cannot be decoded, has no samples, or some of them are NaN or infinite.
    DataError
        There is no such file, it is a folder, it may not be read, or all of it is silent.
    """
    check_duration(duration_s)
    path = Path(path)
    n_samples = None if duration_s is None else max(1, seconds_to_samples(duration_s))
    source, source_rate_hz = _decode(path, n_samples)
    if not np.isfinite(source).all():
        raise FormatError(f"{path}: has samples that are NaN or infinite; export it again")
    samples = source
    if source_rate_hz != SAMPLE_RATE_HZ:
        samples = soxr.resample(source, source_rate_hz, SAMPLE_RATE_HZ, quality="HQ")
    # A copy of the cut, so that the margin's memory is given back.
    samples = np.array(samples[:n_samples], dtype=np.float32)
    if not len(samples):
        raise FormatError(f"{path}: has no sound in it (zero length)")
    if is_silent(samples):
        raise DataError(f"{path}: is silent for all of its {len(samples) / SAMPLE_RATE_HZ:.2f} s")
    return Song(path.stem, samples)


def _decode(path: Path, n_samples: int | None) -> tuple[np.ndarray, int]:
    """Mono float32 at the file's own rate, as much of it as ``n_samples`` at 22 050 Hz need."""
    if not path.exists():
        raise DataError(f"{path}: no such file")
    if path.is_dir():
        raise DataError(f"{path}: is a folder, not an audio file")
    if not os.access(path, os.R_OK):
        raise DataError(f"{path}: may not be read (permission denied)")
    if path.suffix.lower() == ".raw":
        raise FormatError(f"{path}: not decodable (raw samples name no rate and no format)")
    try:
        with soundfile.SoundFile(str(path)) as file:
            rate_hz = file.samplerate
            if rate_hz < MIN_SOURCE_RATE_HZ:
                raise FormatError(f"{path}: not decodable (a sample rate of {rate_hz} Hz)")
            n_left = file.frames
            if n_samples is not None:
                # A quarter of a second more than is kept: many times soxr's filter, so that
                # the cut sounds as if the whole had been resampled.
                n_needed = math.ceil(n_samples * rate_hz / SAMPLE_RATE_HZ) + rate_hz // 4
                n_left = min(n_left, n_needed)
            blocks = []
            # Block by block: a broken header may promise more than there is memory for.
            while n_left > 0:
                block = file.read(min(n_left, BLOCK_FRAMES), dtype="float32", always_2d=True)
                if not len(block):
                    break
                blocks.append(block.mean(axis=1))
                n_left -= len(block)
    except (soundfile.SoundFileError, OSError) as error:
        raise FormatError(f"{path}: not decodable ({_reason(error)})") from error
    if not blocks:
        raise FormatError(f"{path}: has no sound in it (zero length)")
    return np.concatenate(blocks), rate_hz


def write_song(
    path: str | Path, samples: np.ndarray, sample_rate_hz: int = SAMPLE_RATE_HZ
) -> float:
    """Write a sound as WAV or FLAC (16 bit), OGG or MP3, by the name's ending.

    A sound whose peak is above -1 dBFS (OGG, MP3: -2 dBFS) is made quieter as a whole until
    it fits; lossy encodings are decoded again, and made quieter still if they overshoot. The
    file appears under its name only when it is complete.

    Parameters
    ----------
    path
        The ending chooses the format; an existing file is replaced.
    samples
        (n_samples,), at least one, finite.

    Returns
    -------
    float
        The gain in dB that was applied: 0.0 if the sound fitted, negative if not.

    Raises
    ------
    ParameterError
        Another ending, no samples, or samples that are not finite.
    RunError
        The file cannot be written: a full disk, a missing or protected folder.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in WRITABLE:
        raise ParameterError(f"{path}: must end in .wav, .flac, .ogg or .mp3")
    samples = np.asarray(samples, dtype=np.float32)
    if samples.ndim != 1 or not len(samples):
        raise ParameterError(f"{path}: samples of shape {samples.shape} must be (n_samples,)")
    if not np.isfinite(samples).all():
        raise ParameterError(f"{path}: NaN or infinite samples cannot be written")

    peak = float(np.abs(samples).max())
    highest_peak = float(db_to_amplitude(WRITABLE[suffix][2]))
    gain = highest_peak / peak if peak > highest_peak else 1.0
    try:
        encoded = _encode(samples * np.float32(gain), sample_rate_hz, suffix)
        for _ in range(MAX_LOSSY_ATTEMPTS if suffix in LOSSY else 0):
            decoded_peak = _peak_of_encoded(encoded)
            if decoded_peak <= 1:
                break
            gain *= float(db_to_amplitude(-0.5)) / decoded_peak
            encoded = _encode(samples * np.float32(gain), sample_rate_hz, suffix)
    except soundfile.SoundFileError as error:
        raise RunError(f"{path}: cannot be written ({_reason(error)})") from error
    with writing(path) as temporary:
        temporary.write_bytes(encoded)
    return 20 * math.log10(gain)


def _encode(samples: np.ndarray, sample_rate_hz: int, suffix: str) -> bytes:
    """The bytes of an audio file.

    They are made in memory, so that a full disk is met by plain Python, whose errors say what
    happened; libsndfile says "System error".
    """
    file_format, subtype, _ = WRITABLE[suffix]
    buffer = io.BytesIO()
    with soundfile.SoundFile(
        buffer, "w", sample_rate_hz, channels=1, format=file_format, subtype=subtype
    ) as file:
        for start in range(0, len(samples), BLOCK_FRAMES):
            file.write(samples[start : start + BLOCK_FRAMES])
    return buffer.getvalue()


def _peak_of_encoded(encoded: bytes) -> float:
    with soundfile.SoundFile(io.BytesIO(encoded)) as file:
        blocks = file.blocks(BLOCK_FRAMES, dtype="float32")
        return max((float(np.abs(block).max()) for block in blocks if len(block)), default=0.0)


def _reason(error: Exception) -> str:
    """The essence of one of libsndfile's messages."""
    text = getattr(error, "error_string", None) or str(error)
    return text.removeprefix("Error : ").removeprefix("Error in ").rstrip(". \n") or "unknown error"
