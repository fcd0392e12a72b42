"""What figures are made of: axes drawn with the same ranges, units and colours everywhere.

Matplotlib is imported late. What is not a finite number is drawn as a gap.
"""

import warnings
from typing import TYPE_CHECKING

import numpy as np

from noizenet.errors import ParameterError
from noizenet.units import A4_HZ, SAMPLE_RATE_HZ, amplitude_to_db

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 120
SIZE_INCHES = (10.0, 4.2)  # 1200 x 504 pixels

WAVE_COLOUR = "#3b6ea5"
LEVEL_COLOUR = "#d1495b"
RAW_COLOUR = "#9db4cf"
GRID_COLOUR = "#d9d9d9"
COLOUR_MAP = "magma"

LEVEL_RANGE_DB = (-80.0, 0.0)  # of the envelope: 0 is full scale
SPECTROGRAM_RANGE_DB = (-110.0, -20.0)  # 0 is a sine at full scale; music fills this range
SPECTRUM_RANGE_DB = (-130.0, -20.0)  # per hertz
LOWEST_HZ = A4_HZ / 16  # 27.5, the lowest key of a piano

N_COLUMNS = 1200  # of pixels; more points than that are summed up in each
N_SPECTROGRAM_COLUMNS = 900
LINEAR_FRAME_SAMPLES = 1024  # 46 ms
LOG_FRAME_SAMPLES = 4096  # 186 ms: 5.4 Hz, which tells notes apart from 90 Hz up
BINS_PER_OCTAVE = 36
SMOOTHING_OCTAVES = 1 / 3  # about as wide as the ear's critical bands
MIN_COLUMN_SHARE = 0.3  # of the longest sound's width: a short one is still to be seen


def new_figure(size_inches: tuple[float, float], title: str) -> "Figure":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size_inches, dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(title, fontweight="bold")
    return figure


def figure_with_axes(title: str) -> tuple["Figure", "Axes"]:
    figure = new_figure(SIZE_INCHES, title)
    axes = figure.subplots()
    axes.grid(color=GRID_COLOUR, lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def checked(samples: np.ndarray) -> np.ndarray:
    samples = np.asarray(samples, dtype=np.float64)
    if samples.ndim != 1 or not len(samples):
        raise ParameterError(f"samples of shape {samples.shape} must be (n_samples,)")
    # Infinities are gaps too, and what squares to infinity cannot be drawn either.
    return np.where(np.abs(samples) < 1e100, samples, np.nan)


def finite_peak(samples: np.ndarray) -> float:
    """The limit of an amplitude axis: a bit beyond the peak, and 1 at least for silence."""
    finite = samples[np.isfinite(samples)]
    peak = float(np.abs(finite).max()) if len(finite) else 0.0
    return 1.05 * peak if peak > 0 else 1.0


def _columns(samples: np.ndarray, n_columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Samples in equal columns, NaN beyond the end: (n_columns, n), and their centres in s."""
    n_each = -(-len(samples) // n_columns)
    n_used = -(-len(samples) // n_each)
    padded = np.pad(samples, (0, n_used * n_each - len(samples)), constant_values=np.nan)
    return padded.reshape(n_used, n_each), (np.arange(n_used) + 0.5) * n_each / SAMPLE_RATE_HZ


def levels(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Time in s, RMS and peak of columns of at least 10 ms; NaN where nothing is finite."""
    n_columns = max(1, min(N_COLUMNS // 2, len(samples) // (SAMPLE_RATE_HZ // 100)))
    columns, time_s = _columns(samples, n_columns)
    with _empty_columns_allowed():
        return time_s, np.sqrt(np.nanmean(columns**2, axis=1)), np.nanmax(np.abs(columns), axis=1)


def _empty_columns_allowed() -> warnings.catch_warnings:
    """Columns of nothing but NaN give NaN, which is what is wanted."""
    return warnings.catch_warnings(action="ignore", category=RuntimeWarning)


def draw_wave(axes: "Axes", samples: np.ndarray) -> None:
    if len(samples) <= 2 * N_COLUMNS:
        time_s = np.arange(len(samples)) / SAMPLE_RATE_HZ
        marker = "o" if len(samples) <= 100 else None
        axes.plot(time_s, samples, color=WAVE_COLOUR, lw=0.8, marker=marker, ms=4)
    else:
        columns, time_s = _columns(samples, N_COLUMNS)
        with _empty_columns_allowed():
            low, high = np.nanmin(columns, axis=1), np.nanmax(columns, axis=1)
        axes.fill_between(time_s, low, high, color=WAVE_COLOUR, lw=0.4)
    axes.axhline(0, color=GRID_COLOUR, lw=0.6, zorder=0)
    axes.set_ylabel("amplitude (1 = full scale)")
    finish_time_axis(axes, len(samples))


def draw_spectrogram(axes: "Axes", samples: np.ndarray, frequency: str):
    """The image, for a colour bar."""
    is_log = frequency == "log"
    frame_samples = LOG_FRAME_SAMPLES if is_log else LINEAR_FRAME_SAMPLES
    power, edges_s = _frame_power(samples, frame_samples)  # (n_columns, n_bins)
    bins_hz = np.arange(power.shape[1]) * SAMPLE_RATE_HZ / frame_samples
    if is_log:
        edges_hz = _octave_edges_hz(BINS_PER_OCTAVE)
        centres_hz = np.sqrt(edges_hz[1:] * edges_hz[:-1])
        # Between bins where they are far apart, the loudest where they are close together.
        between = np.array([np.interp(centres_hz, bins_hz, column) for column in power])
        low, high = np.searchsorted(bins_hz, edges_hz[:-1]), np.searchsorted(bins_hz, edges_hz[1:])
        for row in np.flatnonzero(high > low):
            between[:, row] = power[:, low[row] : high[row]].max(axis=1)
        power = between
    else:
        half_bin = SAMPLE_RATE_HZ / frame_samples / 2
        edges_hz = np.concatenate(([0], bins_hz[1:] - half_bin, [SAMPLE_RATE_HZ / 2]))
    levels_db = np.ma.masked_invalid(amplitude_to_db(np.sqrt(power), -200.0))
    low_db, high_db = SPECTROGRAM_RANGE_DB
    image = axes.pcolormesh(
        edges_s, edges_hz, levels_db.T, cmap=COLOUR_MAP, vmin=low_db, vmax=high_db, rasterized=True
    )
    axes.grid(False)
    if is_log:
        axes.set_yscale("log")
        label_octaves(axes.yaxis)
        axes.set_ylim(edges_hz[0], edges_hz[-1])
        axes.set_ylabel("frequency (Hz)")
    else:
        axes.set_ylim(0, SAMPLE_RATE_HZ / 2)
        axes.yaxis.set_major_locator(_locator(2000))
        axes.yaxis.set_major_formatter(lambda hz, _: f"{hz / 1000:g}")
        axes.set_ylabel("frequency (kHz)")
    finish_time_axis(axes, len(samples))
    return image


def _frame_power(samples: np.ndarray, frame_samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Power spectra in columns of time, and the columns' edges in s.

    A sine at full scale has power 1 in its bin. A column that holds a NaN is NaN.
    """
    # A quarter of a frame shows all there is; short sounds are drawn finer, to look smooth.
    hop = int(
        np.clip(len(samples) // N_SPECTROGRAM_COLUMNS, frame_samples // 16, frame_samples // 4)
    )
    hop = min(hop, len(samples))
    n_frames = max(1, -(-len(samples) // hop))
    window = np.hanning(frame_samples + 1)[:-1]
    # Frame k is centred on the middle of the k-th hop.
    before = (frame_samples - hop) // 2
    after = (n_frames - 1) * hop + frame_samples - before - len(samples)
    padded = np.pad(samples, (before, max(0, after)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, frame_samples)[::hop][:n_frames]
    n_each = -(-n_frames // N_SPECTROGRAM_COLUMNS)
    columns = []
    for start in range(0, n_frames, n_each):
        spectra = np.fft.rfft(frames[start : start + n_each] * window) * 2 / window.sum()
        columns.append((np.abs(spectra) ** 2).mean(axis=0))
    edges = np.minimum(np.arange(len(columns) + 1) * n_each * hop, len(samples))
    return np.array(columns), edges / SAMPLE_RATE_HZ


def draw_spectrum(axes: "Axes", samples: np.ndarray) -> None:
    axes.set_xscale("log")
    label_octaves(axes.xaxis)
    axes.set(
        xlim=(LOWEST_HZ, SAMPLE_RATE_HZ / 2),
        ylim=SPECTRUM_RANGE_DB,
        xlabel="frequency (Hz)",
        ylabel="level (dB FS per Hz)",
    )
    axes.grid(color=GRID_COLOUR, lw=0.6)
    axes.set_axisbelow(True)
    # Gaps are silence here: one NaN would leave nothing of the whole sound.
    finite = np.nan_to_num(samples, nan=0.0)
    n_fft = max(len(finite), LOG_FRAME_SAMPLES)
    window = np.hanning(len(finite) + 2)[1:-1]
    bins = np.fft.rfft(finite * window, n_fft)
    density = 2 * np.abs(bins) ** 2 / (SAMPLE_RATE_HZ * np.sum(window**2))
    bins_hz = np.arange(len(bins)) * SAMPLE_RATE_HZ / n_fft
    running = np.concatenate(([0], np.cumsum(density)))

    centres_hz = _octave_edges_hz(BINS_PER_OCTAVE * 2)
    floor_db = SPECTRUM_RANGE_DB[0] - 10

    low = np.searchsorted(bins_hz, centres_hz * 2 ** (-1 / (4 * BINS_PER_OCTAVE)))
    high = np.searchsorted(bins_hz, centres_hz * 2 ** (1 / (4 * BINS_PER_OCTAVE)))
    low = np.minimum(low, len(density) - 1)
    high = np.maximum(high, low + 1)
    power = np.maximum(running[high] - running[low], 0) / (high - low)
    # A Hann window this long is half as high at a third of an octave between its flanks.
    kernel = np.hanning(round(4 * SMOOTHING_OCTAVES * BINS_PER_OCTAVE) + 1)
    smooth = np.convolve(power, kernel, "same") / np.convolve(np.ones_like(power), kernel, "same")
    raw_db, smooth_db = (amplitude_to_db(np.sqrt(p), floor_db) for p in (power, smooth))
    axes.fill_between(centres_hz, floor_db, raw_db, color=RAW_COLOUR, alpha=0.35, lw=0)
    axes.plot(centres_hz, raw_db, color=RAW_COLOUR, lw=0.8, label="FFT")
    axes.plot(centres_hz, smooth_db, color=LEVEL_COLOUR, lw=1.6, label="smoothed, 1/3 octave")


def _octave_edges_hz(bins_per_octave: int) -> np.ndarray:
    """From the lowest key of a piano to the highest frequency there is."""
    n_octaves = np.log2(SAMPLE_RATE_HZ / 2 / LOWEST_HZ)
    return LOWEST_HZ * 2 ** np.linspace(0, n_octaves, round(n_octaves * bins_per_octave) + 1)


def label_octaves(axis, every: int = 1) -> None:
    """A tick at each A, in hertz, as musicians count; ``every`` other one is labelled."""
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    ticks_hz = [LOWEST_HZ * 2**octave for octave in range(9)]
    axis.set_major_locator(FixedLocator(ticks_hz))
    axis.set_major_formatter(
        FixedFormatter([f"{hz:g}" if i % every == 0 else "" for i, hz in enumerate(ticks_hz)])
    )
    axis.set_minor_locator(NullLocator())


def _locator(step: float):
    from matplotlib.ticker import MultipleLocator

    return MultipleLocator(step)


def finish_time_axis(axes: "Axes", n_samples: int) -> None:
    axes.set_xlim(0, n_samples / SAMPLE_RATE_HZ)
    axes.set_xlabel("time (s)")
