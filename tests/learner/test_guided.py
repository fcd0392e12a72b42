"""A network that follows a guide: what it reads, learns and plays, by both engines."""

import numpy as np
import pytest
import torch

from noizenet.kernels import threads
from noizenet.learner import bptt, generate
from noizenet.learner.bptt import backpropagate, chunk_masks
from noizenet.learner.generate import play, uniform_draws
from noizenet.learner.guide import Guide, joined, side_by_side
from noizenet.learner.model import ERROR_LIMIT, FEATURE_LIMIT

ORDER, N_CONDITIONS, HOP = 5, 3, 4
N_STEPS = 23  # not whole blocks
CELLS = ["lstm", "gru", "rnn"]


def random_guide(batch, n_blocks, dtype=torch.float64, seed=0, hop=HOP, order=ORDER):
    """Every block of every sequence is another."""
    generator = torch.Generator().manual_seed(seed)

    def numbers(*shape):
        return torch.randn(batch, n_blocks, *shape, generator=generator, dtype=torch.float64)

    parts = (
        0.5 * numbers(order) / order**0.5,
        0.2 + 0.1 * numbers().abs(),
        0.5 + numbers().abs(),
        numbers(N_CONDITIONS),
    )
    return Guide(*(part.to(dtype) for part in parts), hop)


@pytest.fixture
def make_guided(make_model):
    def make(**settings):
        return make_model(predictor_order=ORDER, n_conditions=N_CONDITIONS, **settings)

    return make


def numbers_for(batch=2, n_steps=N_STEPS, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, n_steps, 1, generator=generator, dtype=torch.float64).to(dtype)


def assert_equal(some, others, tolerance):
    assert some.keys() == others.keys()
    for name, expected in others.items():
        torch.testing.assert_close(
            some[name], expected, rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )


# --- what it reads -------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["torch", "numba"])
@pytest.mark.parametrize("n_blocks", [1, 4, 6, 9])
def test_each_step_reads_in_the_units_of_its_block(n_blocks, engine, make_guided):
    """Against the sums written out; a guide that is too short holds its last block."""
    model, guide = make_guided(engine=engine), random_guide(2, n_blocks)
    numbers = numbers_for()
    features, axis, past, base = model.read(numbers, model.initial_state(2), guide)
    prediction, unit, scale, conditions = (part.numpy() for part in guide[:4])
    for row in range(2):
        heard = np.concatenate((np.zeros(ORDER), numbers[row, :, 0]))
        before = 0.0
        for t in range(N_STEPS):
            k = min(t // HOP, n_blocks - 1)
            sample = heard[ORDER + t]
            following = prediction[row, k] @ heard[t + 1 : t + 1 + ORDER]
            read = [
                *np.clip([sample / scale[row, k], following / scale[row, k]], -4, 4),
                np.clip((sample - before) / unit[row, k], -3, 3),
                *conditions[row, k],
            ]
            np.testing.assert_allclose(features[row, t], read, rtol=0, atol=1e-12)
            np.testing.assert_allclose(axis.base[row, t], following, rtol=0, atol=1e-12)
            assert axis.unit[row, t] == unit[row, k]
            before = following
        np.testing.assert_array_equal(past[row], heard[-ORDER:])
        np.testing.assert_allclose(base[row], before, rtol=0, atol=1e-12)
    assert (FEATURE_LIMIT, ERROR_LIMIT) == (4, 3)
    assert features[..., 2].abs().max() == 3  # some errors were beyond what is read


@pytest.mark.parametrize("engine", ["torch", "numba"])
def test_one_guide_may_lead_several_sequences(engine, make_guided):
    model, guide, numbers = make_guided(engine=engine), random_guide(1, 6), numbers_for(batch=3)
    together = model(numbers, model.initial_state(3), guide=guide)[0]
    repeated = Guide(*(part.expand(3, *part.shape[1:]) for part in guide[:4]), HOP)
    each = model(numbers, model.initial_state(3), guide=repeated)[0]
    torch.testing.assert_close(together, each, rtol=0, atol=1e-13)


@pytest.mark.parametrize("engine", ["torch", "numba"])
@pytest.mark.parametrize("cell", CELLS)
def test_whole_equals_chunks_equals_single_steps(cell, engine, make_guided):
    """With all of the state carried over the boundaries of blocks."""
    model, guide = make_guided(cell=cell, layers=2, engine=engine), random_guide(2, 6)
    numbers = numbers_for()
    whole, axis, last = model(numbers, model.initial_state(2), guide=guide)
    for lengths in ([8, 4, 11], [1] * N_STEPS):
        state, step, found, bases, units = model.initial_state(2), 0, [], [], []
        for part in numbers.split(lengths, 1):
            stop = step + part.shape[1]
            followed = guide.block_at(step) if lengths[0] == 1 else guide.part(step, stop)
            parameters, part_axis, state = model(part, state, guide=followed)
            found.append(parameters)
            bases.append(part_axis.base)
            units.append(part_axis.unit)
            step = stop
        for some, expected in (
            (torch.cat(found, 1), whole),
            (torch.cat(bases, 1), axis.base),
            (torch.cat(units, 1), axis.unit),
            *zip(state, last, strict=True),
        ):
            torch.testing.assert_close(some, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("cell", CELLS)
def test_no_output_knows_a_later_number_or_block(cell, make_guided):
    model, guide = make_guided(cell=cell, layers=2), random_guide(1, 4)
    numbers = numbers_for(batch=1, n_steps=14).requires_grad_()
    parts = [part.requires_grad_() for part in guide[:4]]
    parameters, axis, _ = model(numbers, model.initial_state(1), guide=Guide(*parts, HOP))
    for t in range(14):
        said = parameters[0, t].sum() + axis.base[0, t].sum() + axis.unit[0, t].sum()
        by_number, *by_guide = torch.autograd.grad(said, (numbers, *parts), retain_graph=True)
        assert (by_number[0, t + 1 :] == 0).all()
        assert by_number[0, t].abs().max() > 0
        block = min(t // HOP, 3)
        for gradient in by_guide:
            assert (gradient[0, block + 1 :] == 0).all()
            assert gradient[0, block].abs().max() > 0


# --- the two engines, and the gradient -----------------------------------------------------------


def outputs_and_gradients(model, dtype, dropout):
    guide, numbers = random_guide(2, 5, dtype), numbers_for(dtype=dtype)
    state = model.initial_state(2)
    first = (state.recurrent + 0.1).requires_grad_()
    masks = torch.Generator().manual_seed(3) if dropout else None
    parameters, axis, after = model(numbers, state._replace(recurrent=first), masks, guide)
    loss = model.loss(parameters, axis, numbers.roll(-1, 1)).mean()
    (loss + after.recurrent.square().sum()).backward()
    found = {name: weight.grad for name, weight in model.named_parameters()}
    found |= {"outputs": parameters.detach(), "first": first.grad, "base": axis.base}
    return found | {name: part.detach() for name, part in after._asdict().items()}


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 2e-5)])
def test_engines_compute_the_same(dtype, tolerance, dropout, cell, make_guided):
    """Outputs, state, masks and every gradient, that of the first state too."""
    found = {
        engine: outputs_and_gradients(
            make_guided(cell=cell, layers=2, dropout=dropout, dtype=dtype, engine=engine),
            dtype,
            dropout,
        )
        for engine in ("torch", "numba")
    }
    assert_equal(found["numba"], found["torch"], tolerance)


def gradients(model):
    found = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    model.zero_grad(set_to_none=True)
    return found


def begun(model):
    """A state that is not silence."""
    state = model.initial_state(2)
    return state._replace(
        past=state.past + 0.3, base=state.base + 0.2, recurrent=state.recurrent + 0.1
    )


@pytest.mark.parametrize("engine", ["torch", "numba"])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize(
    ("kept_steps", "longest", "chunk_steps"),
    [(99, 99, N_STEPS), (8, 99, 8), (7, 99, 4), (1, 99, 4), (99, 8, 8), (12, 8, 8)],
)
def test_chunks_give_the_exact_gradient(
    kept_steps, longest, chunk_steps, dropout, engine, make_guided, monkeypatch
):
    """Chunks are whole blocks, and one at least."""
    monkeypatch.setattr(bptt, "CHUNK_STEPS", longest)
    model, guide = make_guided(dropout=dropout, layers=2, engine=engine), random_guide(2, 6)
    inputs, targets = numbers_for(seed=1), numbers_for(seed=2)
    done = backpropagate(model, inputs, targets, begun(model), kept_steps, mask_seed=5, guide=guide)
    found = gradients(model)

    state, losses = begun(model), []
    for index, start in enumerate(range(0, N_STEPS, chunk_steps)):
        part = slice(start, start + chunk_steps)
        parameters, axis, state = model(
            inputs[:, part],
            state,
            chunk_masks(model, 5, index),
            guide.part(start, min(part.stop, N_STEPS)),
        )
        losses.append(model.loss(parameters, axis, targets[:, part]))
    loss = torch.cat(losses, 1).mean()
    loss.backward()
    assert done.loss == pytest.approx(loss.item(), abs=1e-12)
    assert_equal(found, gradients(model), 1e-11)
    for part, wanted in zip(done.state, state, strict=True):
        torch.testing.assert_close(part, wanted.detach(), rtol=0, atol=1e-12)


# --- playing -------------------------------------------------------------------------------------


def seed_for(n_steps, rng=0):
    return np.random.default_rng(rng).standard_normal((n_steps, 1)).astype(np.float32)


@pytest.fixture
def make_player(make_guided):
    def make(engine="numba", **settings):
        model = make_guided(dtype=torch.float32, engine=engine, **settings)
        model.reach.fill_(2.0)
        model.stay_within(-1.5, 1.5)
        return model

    return make


def play_guided(model, n_steps=60, rngs=(5,), temperature=0.8, n_blocks=16, **settings):
    """A seed of 21 numbers: three blocks more of a guide are heard, up to the first to play."""
    numbers = [10 + rng for rng in rngs] if len(rngs) > 1 else [10]
    guide = side_by_side([random_guide(1, n_blocks, torch.float32, number) for number in numbers])
    settings = {"heard_guide": random_guide(1, 6, torch.float32, 99), "guide": guide} | settings
    return play(model, seed_for(21), n_steps, temperature, rngs, **settings)


@pytest.mark.parametrize("engine", ["torch", "numba"])
@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize("cell", CELLS)
def test_playing_is_reading_drawing_and_reading_that(cell, temperature, engine, make_player):
    """Against the whole loop written by hand, step by step from silence."""
    model = make_player(engine, cell=cell, layers=2)
    played = play_guided(model, temperature=temperature)[0]

    model.engine = "torch"
    heard, guide = random_guide(1, 6, torch.float32, 99), random_guide(1, 16, torch.float32, 10)
    uniforms = torch.from_numpy(uniform_draws(5, 60, (1, model.head.n_uniforms)))
    state, expected, drawn = model.initial_state(1), [], []
    with torch.no_grad():
        for step, number in enumerate(torch.from_numpy(seed_for(21))):
            parameters, axis, state = model(number[None, None], state, guide=heard.block_at(step))
        for step in range(60):
            axis = axis._replace(unit=guide.block_at(step).unit[..., None])
            number = model.sample(parameters, axis, uniforms[step][None, None], temperature)
            drawn.append(((number - axis.base) / axis.unit).item())
            expected.append(number[0, 0].numpy())
            parameters, axis, state = model(number, state, guide=guide.block_at(step + 1))
    np.testing.assert_allclose(played, np.array(expected), rtol=0, atol=1e-4)
    assert max(map(abs, drawn)) <= 2.0001
    if temperature:
        assert max(map(abs, drawn)) > 1.9999  # the reach was touched


@pytest.mark.parametrize("cell", CELLS)
def test_the_compiled_loop_plays_what_the_plain_one_plays(cell, make_player):
    """The same draws; a sample is fed back, so that a difference would grow."""
    model = make_player(cell=cell)
    guide = random_guide(1, 30, torch.float32, 10)
    heard = generate.listen(
        model, torch.from_numpy(seed_for(21))[None], random_guide(1, 6, torch.float32)
    )
    draws = uniform_draws(3, 200, (1, model.head.n_uniforms))[None]
    for temperature in (0.0, 1.0):
        compiled, plain = (
            run(model, heard, draws, temperature, lambda done: None, guide=guide)[0].ravel()
            for run in (generate.play_compiled, generate.play_plainly)
        )
        assert len(compiled) == len(plain) == 200
        np.testing.assert_allclose(compiled, plain, rtol=0, atol=2e-4)


def with_threads(monkeypatch, n_threads):
    monkeypatch.setattr(threads, "WORKER_BYTES", 1)  # so that each has its share of the units
    torch.set_num_threads(n_threads)


@pytest.fixture(autouse=True)
def same_threads():
    n_threads = torch.get_num_threads()
    yield
    torch.set_num_threads(n_threads)


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("hidden", [5, 64])
def test_sequences_side_by_side_each_follow_their_own(
    hidden, n_threads, precision, make_player, monkeypatch
):
    """To the bit as if alone, whether threads take sequences or units of the network."""
    model = make_player(hidden=hidden)
    if hidden == 64:
        with_threads(monkeypatch, n_threads)
    torch.set_num_threads(n_threads)
    rngs = (7, 8, 9)
    several = play_guided(model, 101, rngs, precision=precision)
    for rng, sound in zip(rngs, several, strict=True):
        guide = random_guide(1, 16, torch.float32, 10 + rng)
        alone = play_guided(model, 101, (rng,), precision=precision, guide=guide)[0]
        np.testing.assert_array_equal(sound, alone)
    assert not np.array_equal(several[0], several[1])
    # and the plain loop too gives each sequence its own
    if precision == "float32":
        model.engine = "torch"
        torch.set_num_threads(1)
        for sound, plain in zip(several, play_guided(model, 101, rngs), strict=True):
            np.testing.assert_allclose(sound, plain, rtol=0, atol=2e-4)


def test_a_team_plays_what_one_plays(make_player, monkeypatch):
    model = make_player(hidden=64, layers=2)
    alone = play_guided(model, 101, (3, 4, 5))
    with_threads(monkeypatch, 3)
    np.testing.assert_allclose(play_guided(model, 101, (3, 4, 5)), alone, rtol=0, atol=2e-5)


@pytest.mark.parametrize("engine", ["torch", "numba"])
def test_the_length_of_the_loops_blocks_changes_nothing(engine, make_player, monkeypatch):
    model = make_player(engine)
    whole = play_guided(model, 130)[0]
    monkeypatch.setattr("noizenet.kernels.play.LONGEST_BLOCK", 7)
    monkeypatch.setattr("noizenet.kernels.play.SHORTEST_BLOCK", 7)
    monkeypatch.setattr(generate, "READ_STEPS", 2 * HOP)
    np.testing.assert_allclose(play_guided(model, 130)[0], whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("engine", ["torch", "numba"])
def test_after_the_end_of_a_guide_its_last_block_holds(engine, make_player):
    model, guide = make_player(engine), random_guide(1, 3, torch.float32, 10)
    longer = joined([guide, *[guide.block_at(99)] * 20])
    np.testing.assert_array_equal(
        play_guided(model, 90, guide=guide)[0], play_guided(model, 90, guide=longer)[0]
    )


@pytest.mark.parametrize("engine", ["torch", "numba"])
def test_what_is_played_is_told_by_the_guide_of_its_own_time(engine, make_player):
    """A block that changes is not heard before it begins, and then at once."""
    model, guide = make_player(engine), random_guide(1, 16, torch.float32, 10)
    other = random_guide(1, 16, torch.float32, 11)
    changed = joined([guide.part(0, 5 * HOP), other.part(5 * HOP, 16 * HOP)])
    before, after = (play_guided(model, 60, guide=one)[0] for one in (guide, changed))
    np.testing.assert_array_equal(before[: 5 * HOP], after[: 5 * HOP])
    assert before[5 * HOP] != after[5 * HOP]
