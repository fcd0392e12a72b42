"""The benchmarks run, at sizes of toys, and their arithmetic is right. Nothing is timed here."""

import math
import time

import numpy as np
import pytest
import torch

from noizenet.benchmarks import growth, starting, training
from noizenet.benchmarks.everything import run_all
from noizenet.benchmarks.growth import Growth, draw_growth, growth_table, measure_growth
from noizenet.benchmarks.measuring import Table, Work, in_turns, peak_megabytes, ratio
from noizenet.benchmarks.plan import FULL, QUICK, Plan, Size
from noizenet.benchmarks.playing import Loop, playing_table
from noizenet.benchmarks.precision import precision_table, rounded, taught
from noizenet.benchmarks.stages import stages
from noizenet.learner.generate import play

TOY = Plan(
    sizes=(Size(4, 1, 30, 2), Size(3, 2, 20, 2)),
    rounds=1,
    growth_steps=(50, 90),
    growth_hidden=4,
    n_at_once=3,
    songs_s=0.2,
    compiles=False,
    n_lessons=2,
    n_starts=1,
)


@pytest.fixture
def in_process(monkeypatch):
    """Memory is not measured: a new process for each takes seconds."""
    for room in (training, growth):
        monkeypatch.setattr(room, "peak_megabytes", lambda run, *known: (1.0, run(*known)))
    monkeypatch.setattr(starting, "seconds_to_first_step", lambda: 4.0)
    monkeypatch.setattr(starting, "stages_of_a_process", lambda: [("import", 1.5), ("read", 0.5)])


@pytest.fixture(autouse=True)
def same_threads():
    n_threads = torch.get_num_threads()
    yield
    torch.set_num_threads(n_threads)


def test_everyone_takes_turns():
    ran = []
    works = {name: Work(lambda name=name: ran.append(name), 2) for name in "ab"}
    took_s = in_turns(works, 3)
    assert ran == list("ab") * 4  # the first round warms up
    assert [len(times) for times in took_s.values()] == [3, 3]


def test_time_is_that_of_a_unit():
    took_s = in_turns({"a": Work(lambda: time.sleep(0.02), 10)}, 1)["a"]
    assert took_s[0] >= 0.002


def test_a_ratio_is_within_a_round():
    took_s = {"torch": [10.0, 2.0, 30.0], "ours": [1.0, 1.0, 10.0]}
    assert ratio(took_s, "torch", "ours") == 3


def test_table():
    table = Table("Speed", ("what", "s"), [("a", "1"), ("b", "2")], "Of snails.")
    assert table.markdown().splitlines() == [
        *("## Speed", "", "Of snails.", ""),
        *("| what | s |", "| --- | ---: |", "| a | 1 |", "| b | 2 |"),
    ]


def test_products_of_a_step():
    """As many as there are weights."""
    for size in (*FULL.sizes, *QUICK.sizes):
        network = torch.nn.LSTM(1, size.hidden, size.layers, bias=False)
        assert size.n_products == sum(p.numel() for p in network.parameters())


def hold(n_bytes: int, warm_up: bool = False) -> int:
    """Memory that is really there."""
    return int(np.ones(100 if warm_up else n_bytes, np.uint8).sum())


def test_memory_is_what_the_work_itself_took():
    held = np.ones(300_000_000, np.uint8)  # not this
    megabytes, found = peak_megabytes(hold, 80_000_000)
    assert found == 80_000_000
    assert megabytes == pytest.approx(80, abs=5)  # the system counts in lumps
    assert held.any()


def test_both_loops_are_the_same_network():
    """What is compared does the same: h and then a linear head, fed back."""
    size = Size(5, 2, 1, 1)
    layers, of_cells = Loop(size, with_cells=False), Loop(size, with_cells=True)
    of_cells.head = layers.head
    for depth, cell in enumerate(of_cells.cells):
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            setattr(cell, name, getattr(layers.network, f"{name}_l{depth}"))
    x = y = torch.ones(1, 1)
    first, second = layers.first, of_cells.first
    for _ in range(4):
        x, first = layers.step(x, first)
        y, second = of_cells.step(y, second)
        torch.testing.assert_close(x, y)


def test_tables_have_a_row_for_each_size_and_number_of_threads(in_process):
    for table in (training.training_table(TOY, [1, 2]), playing_table(TOY, [1, 2])):
        assert [row[:2] for row in table.rows] == [
            *(("LSTM-4", "1"), ("LSTM-3 × 2", "1"), ("LSTM-4", "2"), ("LSTM-3 × 2", "2"))
        ]
        assert all(len(row) == len(table.columns) for row in table.rows)


def test_several_songs_are_measured_against_one():
    rows = training.songs_table(TOY, [1, 2]).rows
    assert [row[:3] for row in rows] == [
        *(("LSTM-4", "1", "30"), ("LSTM-3 × 2", "1", "20")),
        *(("LSTM-4", "2", "30"), ("LSTM-3 × 2", "2", "20")),
    ]


def test_each_precision_has_a_row(monkeypatch):
    table = precision_table(TOY, [1, 2])
    assert [row[:3] for row in table.rows] == [
        *(("float32, LSTM-3 × 2", "1", "1"), ("int8, LSTM-3 × 2", "1", "1")),
        *(("float32, LSTM-3 × 2", "2", "1"), ("int8, LSTM-3 × 2", "2", "1")),
    ]
    assert all(len(row) == len(table.columns) for row in table.rows)
    assert [row[-1] for row in table.rows[::2]] == ["+0.0000"] * 2
    assert table.rows[0][-2] == table.rows[2][-2]


def test_rounded_weights_are_those_that_are_played():
    model, _, unheard = taught(Size(20, 2, 50, 2), n_lessons=2)
    assert len(unheard) == 400
    seed = np.zeros((3, 1), np.float32)
    played, exact, plain = (
        play(one, seed, 40, 0.7, [1], precision=precision)[0]
        for one, precision in ((model, "int8"), (rounded(model), "float32"), (model, "float32"))
    )
    np.testing.assert_allclose(played, exact, rtol=0, atol=1e-3)
    assert not np.array_equal(plain, exact)


def test_the_stages_of_a_start_add_up():
    began_s = time.perf_counter()
    found = stages()
    took_s = time.perf_counter() - began_s
    assert [name for name, _ in found if "songs" in name] == ["reading and resampling the songs"]
    assert sum(s for _, s in found) == pytest.approx(took_s, rel=0.05)


def test_what_is_not_a_known_stage_is_the_rest(in_process):
    table = starting.starting_table(TOY)
    assert table.rows == [
        ("import", "1,500", "38 %"),
        ("read", "500", "12 %"),
        ("all else", "2,000", "50 %"),
        ("**scripts/train.py --model stack, to its first step**", "4,000", "100 %"),
    ]


def test_a_start_is_timed_to_its_last_word(tmp_path, monkeypatch):
    script = tmp_path / "train.py"
    monkeypatch.setattr(starting, "SCRIPT", script)
    script.write_text("import time\nprint('then plays', flush=True)\ntime.sleep(60)")
    assert 0 < starting.seconds_to_first_step() < 30
    script.write_text("import sys\nprint('songs')\nsys.exit('no songs here')")
    with pytest.raises(RuntimeError, match=r"ended before it trained: no songs here"):
        starting.seconds_to_first_step()


def test_what_torch_compile_lacks_is_said(monkeypatch):
    def broken(function):
        raise RuntimeError("no compiler\nat all")

    monkeypatch.setattr(torch, "compile", broken)
    plan = Plan(**(vars(TOY) | {"compiles": True, "sizes": TOY.sizes[:1]}))
    table = playing_table(plan, [1])
    assert table.rows[0][4] == "–"
    assert "left out: RuntimeError: no compiler." in table.note


def test_growth(tmp_path, in_process):
    found = measure_growth(TOY, 1.0, 1)
    assert [g.n_steps for g in found] == [50, 90]
    assert all(g.n_again == 0 and g.us_per_step > 0 and g.megabytes >= 0 for g in found)
    rows = growth_table([Growth(44_100, 11_025, 2.0, 88.2)], 4, 1.0, 1).rows
    assert rows == [("44,100", "2.0", "25 %", "2.00", "88", "2,000")]
    draw_growth(found, tmp_path / "growth.png")
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")


def test_all_of_it(tmp_path, in_process):
    said = []
    text = run_all(TOY, tmp_path / "growth.png", say=said.append)
    assert text == "\n".join(said)
    titles = [line for line in text.splitlines() if line.startswith("#")]
    assert titles == [
        *("# Benchmarks", "## Training", "## Several songs in one step", "## Playing"),
        *("## Large networks: a team, and 8-bit weights", "## Preparing", "## Starting"),
        "## Growth with the length of a song",
    ]
    assert "![Growth with the length of a song](growth.png)" in text
    numbers = [
        float(cell.strip("* %").replace(",", ""))
        for line in text.splitlines()
        if line.startswith("| LSTM")
        for cell in line.strip("| ").split(" | ")[1:]
        if cell != "–"
    ]
    assert len(numbers) > 20
    assert all(math.isfinite(number) and number >= 0 for number in numbers)
