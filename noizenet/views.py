"""Figures: arrays in, Figure out. The same ranges everywhere, so that pictures compare.

Nothing touches pyplot, which keeps a global list of windows; matplotlib is imported late. What
is not a finite number is drawn as a gap.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from noizenet.drawing import (
    LEVEL_COLOUR,
    LEVEL_RANGE_DB,
    MIN_COLUMN_SHARE,
    RAW_COLOUR,
    WAVE_COLOUR,
    checked,
    draw_spectrogram,
    draw_spectrum,
    draw_wave,
    figure_with_axes,
    finish_time_axis,
    finite_peak,
    label_octaves,
    levels,
    new_figure,
)
from noizenet.errors import ParameterError
from noizenet.files import writing
from noizenet.units import SAMPLE_RATE_HZ, amplitude_to_db

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def waveform(samples: np.ndarray, title: str = "Waveform") -> "Figure":
    """The wave itself.

    Parameters
    ----------
    samples
        (n_samples,), at least one.
    """
    figure, axes = figure_with_axes(title)
    samples = checked(samples)
    draw_wave(axes, samples)
    peak = finite_peak(samples)
    axes.set_ylim(-peak, peak)
    return figure


def envelope(samples: np.ndarray, title: str = "Envelope") -> "Figure":
    """Its level over time: peak and RMS in decibels.

    Parameters
    ----------
    samples
        (n_samples,), at least one.
    """
    figure, axes = figure_with_axes(title)
    samples = checked(samples)
    time_s, rms, peak = levels(samples)
    floor_db = LEVEL_RANGE_DB[0]
    for level, colour, label in ((peak, RAW_COLOUR, "peak"), (rms, LEVEL_COLOUR, "RMS")):
        level_db = amplitude_to_db(level, floor_db)
        axes.fill_between(time_s, floor_db, level_db, color=colour, alpha=0.25, lw=0, step="mid")
        axes.plot(time_s, level_db, color=colour, lw=1.2, label=label, drawstyle="steps-mid")
    axes.set(ylim=LEVEL_RANGE_DB, ylabel="level (dB FS)")
    finish_time_axis(axes, len(samples))
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
    figure, axes = figure_with_axes(title)
    image = draw_spectrogram(axes, checked(samples), frequency)
    figure.colorbar(image, ax=axes, pad=0.015, label="level (dB FS)", extend="both")
    return figure


def spectrum(samples: np.ndarray, title: str = "Spectrum") -> "Figure":
    """The FFT of the whole sound: how much of each frequency there is in it.

    Parameters
    ----------
    samples
        (n_samples,), at least one.
    """
    figure, axes = figure_with_axes(title)
    draw_spectrum(axes, checked(samples))
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
    figure, axes = figure_with_axes(title)
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
    names, sounds = list(sounds), [checked(samples) for samples in sounds.values()]
    longest = max(len(samples) for samples in sounds)
    widths = [max(len(samples), MIN_COLUMN_SHARE * longest) for samples in sounds]
    peak = max(finite_peak(samples) for samples in sounds)

    figure = new_figure((max(10.0, 4.6 * len(sounds)), 12.0), title)
    grid = figure.subplots(
        4,
        len(sounds),
        squeeze=False,
        gridspec_kw={"width_ratios": widths, "height_ratios": [1.0, 1.25, 1.25, 1.0]},
    )
    for column, (name, samples, width) in enumerate(zip(names, sounds, widths, strict=True)):
        wave, linear, log, fft = grid[:, column]
        wave.set_title(f"{name}  ({len(samples) / SAMPLE_RATE_HZ:.1f} s)", fontweight="bold")
        draw_wave(wave, samples)
        time_s, rms, _ = levels(samples)
        for sign in (1, -1):
            wave.plot(time_s, sign * rms, color=LEVEL_COLOUR, lw=1, label="RMS envelope")
        wave.set_ylim(-peak, peak)
        draw_spectrogram(linear, samples, "linear")
        image = draw_spectrogram(log, samples, "log")
        draw_spectrum(fft, samples)
        label_octaves(fft.xaxis, every=2)
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
