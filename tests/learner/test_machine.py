import pytest
import torch

from noizenet.config import MachineConfig
from noizenet.learner.bptt import CHUNK_STEPS
from noizenet.learner.machine import chunk_steps, history_bytes_per_step, walking_bytes_per_step


def keep(model, memory_gb, longest_steps=10**9, batch=1):
    return chunk_steps(model, MachineConfig(memory_gb=memory_gb), longest_steps, batch)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("memory_gb", [1e-3, 0.1, 2.0])
def test_history_and_the_walk_back_fill_the_memory_and_no_more(memory_gb, batch, cell, make_model):
    model = make_model(dtype=torch.float32, engine="numba", cell=cell, hidden=50)
    kept = keep(model, memory_gb, batch=batch)
    walking = min(kept, CHUNK_STEPS) * walking_bytes_per_step(model)
    taken = batch * (kept * history_bytes_per_step(model) + walking)
    assert 0.999 * memory_gb * 1e9 - batch * 2000 < taken <= memory_gb * 1e9


def test_no_more_is_kept_than_there_is(make_model):
    assert keep(make_model(engine="numba"), 4.0, longest_steps=1234) == 1234


def test_at_least_one_step_is_kept(make_model):
    assert keep(make_model(engine="numba", hidden=50), 1e-9) == 1


def test_states_are_what_the_compiled_engine_keeps(make_model):
    """h and c, and with dropout the mask and what it let through, of each layer; float32."""
    model = make_model(dtype=torch.float32, engine="numba", hidden=50, layers=2)
    assert 2 * 2 * 50 * 4 <= history_bytes_per_step(model) <= 1.05 * 2 * 2 * 50 * 4
    dropped = make_model(dtype=torch.float32, engine="numba", hidden=50, layers=2, dropout=0.1)
    assert history_bytes_per_step(dropped) - history_bytes_per_step(model) == 2 * 2 * 50 * 4
