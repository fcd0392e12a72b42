import subprocess
import sys

import numpy as np
import pytest

from noizenet import drawing, views
from noizenet.errors import ParameterError, RunError
from noizenet.units import SAMPLE_RATE_HZ

pytestmark = pytest.mark.filterwarnings("error")  # no picture may complain about its sound


def tone(frequency_hz: float, duration_s: float = 1.0, amplitude: float = 1.0) -> np.ndarray:
    time_s = np.arange(round(duration_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    return (amplitude * np.sin(2 * np.pi * frequency_hz * time_s)).astype(np.float32)


def image_levels_db(figure) -> tuple[np.ndarray, np.ndarray]:
    """The levels that a spectrogram shows (rows of frequency), and the edges of the rows."""
    mesh = figure.axes[0].collections[0]
    return np.ma.filled(mesh.get_array(), np.nan), np.asarray(mesh.get_coordinates()[:, 0, 1])


SOUNDS = {
    "tone": tone(440),
    "silence": np.zeros(5000, np.float32),
    "one sample": np.ones(1, np.float32),
    "constant": np.full(30_000, 0.3, np.float32),
    "nothing finite": np.full(3, np.nan),
    "infinite in part": np.where(np.arange(30_000) == 12_000, np.inf, 0.1),
    "huge": np.full(30_000, 1e60),
}


@pytest.mark.parametrize("name", SOUNDS)
def test_every_view_draws_any_sound(name):
    for figure in views.every_view(SOUNDS[name], name).values():
        pixels = views.figure_to_array(figure)
        assert pixels.shape == (504, 1200, 3)
        assert pixels.dtype == np.uint8
        assert pixels.min() < 100 < pixels.max()  # there is something to be seen


def test_views_are_deterministic():
    first, second = (views.figure_to_array(views.waveform(tone(440))) for _ in range(2))
    assert np.array_equal(first, second)


def test_axes_carry_units():
    labels = {
        view: (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel())
        for view, figure in views.every_view(tone(440)).items()
    }
    assert labels == {
        "waveform": ("time (s)", "amplitude (1 = full scale)"),
        "envelope": ("time (s)", "level (dB FS)"),
        "spectrogram": ("time (s)", "frequency (kHz)"),
        "log-spectrogram": ("time (s)", "frequency (Hz)"),
        "spectrum": ("frequency (Hz)", "level (dB FS per Hz)"),
    }
    bar = views.spectrogram(tone(440)).axes[1]
    assert bar.get_ylabel() == "level (dB FS)"


def test_time_axis_is_in_seconds():
    for figure in views.every_view(tone(440, 2.5)).values():
        if figure.axes[0].get_xlabel() == "time (s)":
            assert figure.axes[0].get_xlim() == pytest.approx((0, 2.5))


@pytest.mark.parametrize(("frequency", "scale"), [("linear", "linear"), ("log", "log")])
def test_spectrogram_shows_a_tone_at_its_frequency_and_level(frequency, scale):
    figure = views.spectrogram(tone(1000, amplitude=0.1), frequency=frequency)
    assert figure.axes[0].get_yscale() == scale
    levels_db, edges_hz = image_levels_db(figure)
    column = levels_db[:, levels_db.shape[1] // 2]
    loudest = int(column.argmax())
    assert edges_hz[loudest] <= 1000 * 1.02
    assert edges_hz[loudest + 1] >= 1000 / 1.02
    assert column.max() == pytest.approx(-20, abs=1.5)  # the window's scalloping
    assert figure.axes[0].collections[0].get_clim() == drawing.SPECTROGRAM_RANGE_DB


def test_log_spectrogram_gives_every_octave_the_same_height():
    _, edges_hz = image_levels_db(views.spectrogram(tone(440), frequency="log"))
    ratios = edges_hz[1:] / edges_hz[:-1]
    assert np.ptp(ratios) < 1e-9
    assert edges_hz[[0, -1]] == pytest.approx([27.5, SAMPLE_RATE_HZ / 2])


def test_colour_range_does_not_depend_on_the_sound():
    limits = {
        views.spectrogram(samples).axes[0].collections[0].get_clim()
        for samples in (tone(440), tone(440, amplitude=1e-4), SOUNDS["silence"])
    }
    assert limits == {drawing.SPECTROGRAM_RANGE_DB}


def test_gaps_are_left_where_samples_are_not_finite():
    samples = tone(440, 3)
    samples[SAMPLE_RATE_HZ : 2 * SAMPLE_RATE_HZ] = np.nan
    levels_db, _ = image_levels_db(views.spectrogram(samples))
    gaps = np.isnan(levels_db).all(axis=0)
    assert gaps.mean() == pytest.approx(1 / 3, abs=0.03)
    assert not gaps[: len(gaps) // 4].any()


def test_spectrum_is_that_of_white_noise():
    rms = 0.1
    noise = np.random.default_rng(0).standard_normal(10 * SAMPLE_RATE_HZ) * rms
    axes = views.spectrum(noise).axes[0]
    assert axes.get_xscale() == "log"
    _, smoothed = axes.get_lines()
    frequency_hz, level_db = smoothed.get_data()
    # The power of white noise is spread evenly over half the sample rate.
    expected_db = 10 * np.log10(rms**2 / (SAMPLE_RATE_HZ / 2))
    assert level_db[frequency_hz > 500] == pytest.approx(expected_db, abs=0.5)


def test_envelope_shows_peak_and_rms():
    lines = {
        line.get_label(): line.get_ydata()
        for line in views.envelope(tone(1000, amplitude=0.5)).axes[0].get_lines()
    }
    assert np.median(lines["RMS"]) == pytest.approx(20 * np.log10(0.5 / np.sqrt(2)), abs=0.05)
    assert np.median(lines["peak"]) == pytest.approx(20 * np.log10(0.5), abs=0.05)


def test_loss_curve_passes_over_what_was_not_measured():
    figure = views.loss_curve([0, 1, 2], [3.0, 2.0, 1.5], [np.nan, 2.5, np.nan], loss_unit="nats")
    train, valid = figure.axes[0].get_lines()
    assert train.get_ydata().tolist() == [3.0, 2.0, 1.5]
    assert valid.get_xdata().tolist() == [1]
    assert figure.axes[0].get_ylabel() == "loss (nats)"
    assert figure.axes[0].get_xlabel() == "epoch"
    views.figure_to_array(views.loss_curve([], [], []))


def test_overview_has_a_column_for_each_sound_on_shared_scales():
    sounds = {"song": tone(440, 3), "seed": tone(220, 0.5, 0.5), "output": SOUNDS["silence"]}
    figure = views.overview(sounds)
    axes = np.array(figure.axes[:12]).reshape(4, 3)
    assert [axis.get_title().split()[0] for axis in axes[0]] == list(sounds)
    for row in axes:
        assert len({axis.get_ylim() for axis in row}) == 1
    figure.canvas.draw()
    # A second is equally wide in each column.
    scales = [axis.get_window_extent().width / np.ptp(axis.get_xlim()) for axis in axes[0]]
    assert scales == pytest.approx([scales[0]] * 3, rel=0.01)
    assert views.figure_to_array(figure).shape[1] >= 1200


def test_figure_to_png_appears_whole_or_not_at_all(tmp_path):
    figure = views.waveform(tone(440))
    path = tmp_path / "new" / "wave.png"
    views.figure_to_png(figure, path)
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert [p.name for p in path.parent.iterdir()] == ["wave.png"]
    taken = tmp_path / "file"
    taken.write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        views.figure_to_png(figure, taken / "wave.png")


@pytest.mark.parametrize("samples", [np.zeros(0), np.zeros((2, 5)), 3.0])
def test_what_is_not_a_sound_is_refused(samples):
    for view in (views.waveform, views.envelope, views.spectrogram, views.spectrum):
        with pytest.raises(ParameterError, match="shape"):
            view(samples)


def test_other_bad_arguments_are_refused():
    with pytest.raises(ParameterError, match="'linear' or 'log'"):
        views.spectrogram(tone(440), frequency="mel")
    with pytest.raises(ParameterError, match="at least one"):
        views.overview({})
    with pytest.raises(ParameterError, match="validation"):
        views.loss_curve([1, 2], [1, 2], [1])


def test_neither_matplotlib_nor_pyplot_is_loaded_before_time():
    code = """
import sys
from noizenet import drawing, views
assert "matplotlib" not in sys.modules
views.figure_to_array(views.waveform([0.0, 1.0]))
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
