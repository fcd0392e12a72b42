"""Figures: arrays in, Figure out. The same ranges everywhere, so that pictures compare.

Nothing touches pyplot, which keeps a global list of windows; matplotlib is imported late. What
is not a finite number is drawn as a gap.
"""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from noizenet.errors import ParameterError
from noizenet.files import writing
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


def waveform(samples: np.ndarray, title: str = "Waveform") -> "Figure":
    """The wave itself.

    Parameters
    ----------
    samples
        (n_samples,), at least one.
    """
    figure, axes = _figure_with_axes(title)
    samples = _checked(samples)
    _draw_wave(axes, samples)
    peak = _finite_peak(samples)
    axes.set_ylim(-peak, peak)
    return figure


def envelope(samples: np.ndarray, title: str = "Envelope") -> "Figure":
    """Its level over time: peak and RMS in decibels.

    Parameters
    ----------
    samples
        (n_samples,), at least one.
    """
    figure, axes = _figure_with_axes(title)
    samples = _checked(samples)
    time_s, rms, peak = _levels(samples)
    floor_db = LEVEL_RANGE_DB[0]
    for level, colour, label in ((peak, RAW_COLOUR, "peak"), (rms, LEVEL_COLOUR, "RMS")):
        level_db = amplitude_to_db(level, floor_db)
        axes.fill_between(time_s, floor_db, level_db, color=colour, alpha=0.25, lw=0, step="mid")
        axes.plot(time_s, level_db, color=colour, lw=1.2, label=label, drawstyle="steps-mid")
    axes.set(ylim=LEVEL_RANGE_DB, ylabel="level (dB FS)")
    _finish_time_axis(axes, len(samples))
    axes.legend(loc="lower right", ncols=2, frameon=False)
    return figure


def spectrogram(
    samples: np.ndarray, title: str = "Spectrogram", frequency: str = "linear"
) -> "Figure":
    """Which frequencies sound when.

    Parameters
    ----------
    samples
        (n_samples,), at least one.
    frequency
        "linear", 0 to 11 kHz, or "log", from the lowest key of a piano up: equal intervals are
        equally high.
    """
    if frequency not in ("linear", "log"):
        raise ParameterError(f"frequency {frequency!r} must be 'linear' or 'log'")
    figure, axes = _figure_with_axes(title)
    image = _draw_spectrogram(axes, _checked(samples), frequency)
    figure.colorbar(image, ax=axes, pad=0.015, label="level (dB FS)", extend="both")
    return figure


def spectrum(samples: np.ndarray, title: str = "Spectrum") -> "Figure":
    """The FFT of the whole sound: how much of each frequency there is in it.

    Parameters
    ----------
    samples
        (n_samples,), at least one.
    """
    figure, axes = _figure_with_axes(title)
    _draw_spectrum(axes, _checked(samples))
    axes.legend(loc="upper right", frameon=False)
    return figure


def loss_curve(
    steps: Sequence[float],
    train: Sequence[float],
    valid: Sequence[float] | None = None,
    title: str = "Learning",
    loss_unit: str = "bits per sample",
    step_unit: str = "epoch",
) -> "Figure":
    """The loss against training.

    Parameters
    ----------
    steps
        (n,), where on the axis.
    train, valid
        (n,); what is NaN was not measured there, and is passed over.
    loss_unit, step_unit
        What the axes are labelled with.
    """
    figure, axes = _figure_with_axes(title)
    steps = np.asarray(steps, dtype=np.float64)
    curves = [(train, WAVE_COLOUR, "training")]
    if valid is not None:
        curves.append((valid, LEVEL_COLOUR, "validation"))
    for values, colour, label in curves:
        values = np.asarray(values, dtype=np.float64)
        if values.shape != steps.shape:
            raise ParameterError(
                f"{label}: shape {values.shape} must be that of steps {steps.shape}"
            )
        known = np.isfinite(values) & np.isfinite(steps)
        marker = "o" if known.sum() <= 40 else None
        if known.any():
            label += f", at the end {values[known][-1]:.3g}"
        axes.plot(steps[known], values[known], color=colour, marker=marker, ms=4, label=label)
    axes.set(xlabel=step_unit, ylabel=f"loss ({loss_unit})")
    axes.legend(loc="upper right", frameon=False)
    return figure


def every_view(samples: np.ndarray, title: str = "") -> "dict[str, Figure]":
    """All the pictures of one sound, by their names.

    Parameters
    ----------
    samples
        (n_samples,), at least one.
    """
    return {
        "waveform": waveform(samples, title),
        "envelope": envelope(samples, title),
        "spectrogram": spectrogram(samples, title),
        "log-spectrogram": spectrogram(samples, title, frequency="log"),
        "spectrum": spectrum(samples, title),
    }


def overview(sounds: Mapping[str, np.ndarray], title: str = "") -> "Figure":
    """Sounds side by side, one column each: wave and level, two spectrograms, FFT.

    All share their scales: amplitude, decibels and hertz, and a second is equally wide in each
    column.

    Parameters
    ----------
    sounds
        (n_samples,) each, by name, for instance of song, seed and output.
    """
    if not sounds:
        raise ParameterError("an overview needs at least one sound")
    names, sounds = list(sounds), [_checked(samples) for samples in sounds.values()]
    longest = max(len(samples) for samples in sounds)
    widths = [max(len(samples), MIN_COLUMN_SHARE * longest) for samples in sounds]
    peak = max(_finite_peak(samples) for samples in sounds)

    figure = _new_figure((max(10.0, 4.6 * len(sounds)), 12.0), title)
    grid = figure.subplots(
        4,
        len(sounds),
        squeeze=False,
        gridspec_kw={"width_ratios": widths, "height_ratios": [1.0, 1.25, 1.25, 1.0]},
    )
    for column, (name, samples, width) in enumerate(zip(names, sounds, widths, strict=True)):
        wave, linear, log, fft = grid[:, column]
        wave.set_title(f"{name}  ({len(samples) / SAMPLE_RATE_HZ:.1f} s)", fontweight="bold")
        _draw_wave(wave, samples)
        time_s, rms, _ = _levels(samples)
        for sign in (1, -1):
            wave.plot(time_s, sign * rms, color=LEVEL_COLOUR, lw=1, label="RMS envelope")
        wave.set_ylim(-peak, peak)
        _draw_spectrogram(linear, samples, "linear")
        image = _draw_spectrogram(log, samples, "log")
        _draw_spectrum(fft, samples)
        _label_octaves(fft.xaxis, every=2)
        for axes in (wave, linear, log):
            axes.set_xlim(0, width / SAMPLE_RATE_HZ)
        for axes in (wave, linear):
            axes.set_xlabel("")
        for axes in (linear, log):
            axes.set_facecolor("white")
        if column:
            for axes in grid[:, column]:
                axes.set_ylabel("")
                axes.tick_params(labelleft=False)
        else:
            handles, labels = wave.get_legend_handles_labels()
            wave.legend(handles[:1], labels[:1], loc="upper right", frameon=False)
    grid[3, -1].legend(loc="upper right", frameon=False)
    bar = figure.colorbar(image, ax=grid[1:3, -1], pad=0.02, extend="both")
    bar.set_label("level (dB FS)")
    return figure


def figure_to_png(figure: "Figure", path: Path | str) -> None:
    """Write a PNG; it appears under its name only when it is whole.

    Raises
    ------
    RunError
        When the disk is full, the folder cannot be written, and the like.
    """
    with writing(Path(path)) as temporary:
        figure.savefig(temporary, format="png")


def figure_to_array(figure: "Figure") -> np.ndarray:
    """Its pixels, uint8 (height, width, 3)."""
    figure.canvas.draw()
    return np.array(figure.canvas.buffer_rgba())[:, :, :3].copy()


# --- what figures are made of --------------------------------------------------------------------


def _new_figure(size_inches: tuple[float, float], title: str) -> "Figure":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size_inches, dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(title, fontweight="bold")
    return figure


def _figure_with_axes(title: str) -> tuple["Figure", "Axes"]:
    figure = _new_figure(SIZE_INCHES, title)
    axes = figure.subplots()
    axes.grid(color=GRID_COLOUR, lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _checked(samples: np.ndarray) -> np.ndarray:
    samples = np.asarray(samples, dtype=np.float64)
    if samples.ndim != 1 or not len(samples):
        raise ParameterError(f"samples of shape {samples.shape} must be (n_samples,)")
    # Infinities are gaps too, and what squares to infinity cannot be drawn either.
    return np.where(np.abs(samples) < 1e100, samples, np.nan)


def _finite_peak(samples: np.ndarray) -> float:
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


def _levels(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Time in s, RMS and peak of columns of at least 10 ms; NaN where nothing is finite."""
    n_columns = max(1, min(N_COLUMNS // 2, len(samples) // (SAMPLE_RATE_HZ // 100)))
    columns, time_s = _columns(samples, n_columns)
    with _empty_columns_allowed():
        return time_s, np.sqrt(np.nanmean(columns**2, axis=1)), np.nanmax(np.abs(columns), axis=1)


def _empty_columns_allowed() -> warnings.catch_warnings:
    """Columns of nothing but NaN give NaN, which is what is wanted."""
    return warnings.catch_warnings(action="ignore", category=RuntimeWarning)


def _draw_wave(axes: "Axes", samples: np.ndarray) -> None:
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
    _finish_time_axis(axes, len(samples))


def _draw_spectrogram(axes: "Axes", samples: np.ndarray, frequency: str):
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
        _label_octaves(axes.yaxis)
        axes.set_ylim(edges_hz[0], edges_hz[-1])
        axes.set_ylabel("frequency (Hz)")
    else:
        axes.set_ylim(0, SAMPLE_RATE_HZ / 2)
        axes.yaxis.set_major_locator(_locator(2000))
        axes.yaxis.set_major_formatter(lambda hz, _: f"{hz / 1000:g}")
        axes.set_ylabel("frequency (kHz)")
    _finish_time_axis(axes, len(samples))
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


def _draw_spectrum(axes: "Axes", samples: np.ndarray) -> None:
    axes.set_xscale("log")
    _label_octaves(axes.xaxis)
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


def _label_octaves(axis, every: int = 1) -> None:
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


def _finish_time_axis(axes: "Axes", n_samples: int) -> None:
    axes.set_xlim(0, n_samples / SAMPLE_RATE_HZ)
    axes.set_xlabel("time (s)")
