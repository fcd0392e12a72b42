"""The playing loop: read the whole seed, then feed back what was played."""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from typing import NamedTuple

import numpy as np
import torch

from noizenet.errors import ParameterError
from noizenet.kernels import draws as draw_kernels
from noizenet.kernels import play as play_kernels
from noizenet.kernels.assembly import Layer, Network
from noizenet.kernels.play import Ensemble, Player
from noizenet.kernels.team import Team
from noizenet.kernels.threads import slices, team_for
from noizenet.learner.guide import Guide
from noizenet.learner.heads import SCALE_FLOOR, CodeHead, MixtureHead, ValueHead
from noizenet.learner.model import BELIEVABLE, OVERSHOOT, Axis, Model, State

READ_STEPS = 1 << 16  # how much of a seed is read at once
WATCH_STEPS = 512  # steps between two looks at whether to stop
HEAD_KINDS = {
    ValueHead: draw_kernels.VALUE,
    MixtureHead: draw_kernels.MIXTURE,
    CodeHead: draw_kernels.CODES,
}
WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def uniform_draws(rng: int, n_steps: int, shape: tuple[int, ...]) -> np.ndarray:
    """Random numbers in (0, 1) for playing, float32 (n_steps, *shape), fixed by ``rng``.

    Drawn apart from the loop, so that every engine plays the same sound from the same number.
    The ends are left out: a logistic drawn there is infinite.
    """
    generator = np.random.Generator(np.random.PCG64(rng))
    tiny = np.float32(2**-24)
    return generator.random((n_steps, *shape), dtype=np.float32).clip(tiny, 1 - tiny)


class Heard(NamedTuple):
    """What a model knows when it begins to play."""

    parameters: torch.Tensor  # what the head says of the first number to play
    axis: Axis | None
    state: State


@torch.no_grad()
def listen(model: Model, numbers: torch.Tensor, guide: Guide | None = None) -> Heard:
    """Read ``(B, T, …)`` from silence; ``guide`` reaches to the number after the last."""
    model.eval()
    state, step = model.initial_state(numbers.shape[0]), 0
    for part in numbers.split(READ_STEPS, dim=1):
        stop = step + part.shape[1]
        followed = None if guide is None else guide.part(step, stop)
        parameters, axis, state = model(part, state, guide=followed)
        step = stop
    return Heard(parameters[:, -1:], None if axis is None else axis.part(slice(-1, None)), state)


def _compiled(model: Model) -> bool:
    """Whether the compiled loop plays this model."""
    return model.engine == "numba" and model.n_features == 1


def require_precision(model: Model, precision: str) -> None:
    """Refuse weights that only the compiled loop has.

    Raises
    ------
    ParameterError
        When the model, where it is, is played by torch and ``precision`` is not float32.
    """
    if precision != "float32" and not _compiled(model):
        raise ParameterError(
            f"--precision {precision} plays samples with the numba engine on the CPU; leave it out "
            "with --representation fft, with --engine torch and on a GPU"
        )


def play(
    model: Model,
    seed: np.ndarray,
    n_steps: int,
    temperature: float,
    rngs: Sequence[int],
    watch: Callable[[int], None] = lambda done: None,
    precision: str = "float32",
    heard_guide: Guide | None = None,
    guide: Guide | None = None,
) -> list[np.ndarray]:
    """Play on from a seed, once for each number in ``rngs``.

    Parameters
    ----------
    seed : (T, D) numbers or (T,) codes, T >= 1; all of it is read before the first step is played
    n_steps : steps to play
    temperature : 0 takes the likeliest each time
    rngs : each fixes every draw of one sound, whichever others are played with it
    watch : called with the number of steps played, now and then; may raise to stop
    precision : of the recurrent weights, "float32" or "int8"; see :mod:`noizenet.kernels.narrow`
    heard_guide : of a model that follows one, what was known of the seed
    guide : what is to be played, (R, N), a sequence for each number in ``rngs``

    Returns
    -------
    list of (n_steps, D) or (n_steps,) arrays; one is shorter when its state became non-finite,
    which ends that sound there

    Raises
    ------
    ParameterError
        See :func:`require_precision`.
    """
    require_precision(model, precision)
    device = model.residual_scale.device
    if guide is not None:
        heard_guide, guide = heard_guide.to(device), guide.to(device)
    heard = listen(model, torch.from_numpy(seed)[None].to(device), heard_guide)
    shape = (model.n_features, model.head.n_uniforms)
    draws = [uniform_draws(rng, n_steps, shape) for rng in rngs]
    if _compiled(model):
        sounds = play_compiled(model, heard, np.stack(draws), temperature, watch, precision, guide)
    else:
        each = [
            play_plainly(model, heard, one[None], temperature, watch, _of_sequence(guide, row))
            for row, one in enumerate(draws)
        ]
        sounds = [sound for sounds in each for sound in sounds]
    return [sound.astype(seed.dtype).reshape(-1, *seed.shape[1:]) for sound in sounds]


def _of_sequence(guide: Guide | None, row: int) -> Guide | None:
    return None if guide is None else Guide(*(t[row : row + 1] for t in guide[:4]), guide.hop)


@torch.no_grad()
def play_plainly(
    model: Model,
    heard: Heard,
    draws: np.ndarray,
    temperature: float,
    watch: Callable,
    guide: Guide | None = None,
) -> list[np.ndarray]:
    """Step by step through torch: any model, one sequence (draws (1, n, D, U))."""
    parameters, axis, state = heard
    if guide is not None:
        axis = axis._replace(unit=guide.unit[:, :1, None])
    uniforms = torch.from_numpy(draws).to(parameters.device)
    played, following, held = [], None, 0
    for step in range(draws.shape[1]):
        number = model.sample(parameters, axis, uniforms[:, step : step + 1], temperature)
        # a code is always finite, whatever it was drawn from
        if not (torch.isfinite(parameters).all() and torch.isfinite(number).all()):
            break
        played.append(number[0, 0].cpu().numpy())
        if guide is not None and (step == 0 or (step + 1) % guide.hop == 0):
            following = guide.block_at(step + 1)
            if step + 1 >= guide.hop:
                following = following.damped(state.past, OVERSHOOT)
        before = state
        parameters, axis, state = model(number, before, guide=following)
        if guide is not None:  # see :mod:`noizenet.kernels.guide`
            if held == 0 and axis.base.abs() > BELIEVABLE * following.scale:
                held = model.predictor_order + 1
            if held > 0:
                held -= 1
                nothing = following._replace(prediction=torch.zeros_like(following.prediction))
                parameters, axis, state = model(number, before, guide=nothing)
        if step % WATCH_STEPS == 0:
            watch(step)
    return [np.array(played)]


def play_compiled(
    model: Model,
    heard: Heard,
    draws: np.ndarray,
    temperature: float,
    watch: Callable,
    precision: str = "float32",
    guide: Guide | None = None,
) -> list[np.ndarray]:
    """The compiled loop: a model of samples or codes, any number of sequences at once.

    ``draws`` are (R, n, 1, U). Threads take sequences, or, of a network too large for a core's
    cache, hidden units; block of steps after block: so a look at ``watch`` is never far away.
    """
    rows, n_steps = draws.shape[:2]
    weights = [w for layer in model.recurrent.layers for w in layer.parameters()]
    team = team_for(sum(w.nbytes for w in weights), torch.get_num_threads())
    n_threads = min(torch.get_num_threads(), rows) if team is None else 1
    parts = slices(rows, n_threads)
    players = [_player(model, heard, part, precision, team, guide) for part in parts]
    block = min(player.block_steps for player in players)
    played, n_finite = [], np.zeros(rows, int)

    def play_on(player: Player | Ensemble, part: slice, steps: slice) -> np.ndarray:
        return player.play(draws[part, steps, 0], temperature)

    with ThreadPoolExecutor(n_threads) as pool:
        run = map if n_threads == 1 else pool.map  # the caller's own thread can be interrupted
        for first in range(0, max(1, n_steps), block):  # once, though nothing is to play
            steps = slice(first, min(first + block, n_steps))
            played.append(np.concatenate(list(run(play_on, players, parts, repeat(steps)))))
            n_finite = np.concatenate([player.n_finite for player in players])
            watch(steps.stop)
            if (n_finite < steps.stop).all():
                break
    return [sound[:n] for sound, n in zip(np.concatenate(played, 1), n_finite, strict=True)]


def _player(
    model: Model,
    heard: Heard,
    part: slice,
    precision: str = "float32",
    team: Team | None = None,
    guide: Guide | None = None,
) -> Player | Ensemble:
    """The compiled loop's player of some sequences, with all that the model knows and remembers."""
    parameters, axis, state = heard
    rows = part.stop - part.start
    head = model.head
    layers = [
        Layer(*(_array(getattr(layer, f"{name}_l0")) for name in WEIGHTS))
        for layer in model.recurrent.layers
    ]
    feature_limit, error_limit = model.limits
    network = Network(
        cell=model.recurrent.cell,
        layers=layers,
        head_kind=HEAD_KINDS[type(head)],
        head_weight=_array(head.linear.weight),
        head_bias=_array(head.linear.bias),
        scale=float(head.scale[0]) if isinstance(head, ValueHead) else 1.0,
        scale_floor=SCALE_FLOOR,
        embedding=_array(model.embedding.weight) if model.n_codes is not None else None,
        lowest=float(model.bounds[0]),
        highest=float(model.bounds[1]),
        reach=float(model.reach),
        overshoot=OVERSHOOT if model.guided else math.inf,
        believable=BELIEVABLE if model.guided else math.inf,
        feature_limit=feature_limit,
        error_limit=error_limit,
    )
    if guide is None:
        followed = model.own_guide()
    else:
        followed = Guide(*(t[part] for t in guide[:4]), guide.hop)
    arguments = (
        network,
        play_kernels.Guide(*(_array(t) for t in followed[:4]), followed.hop),
        np.repeat(_array(parameters)[0], rows, 0),
        np.zeros(rows) if axis is None else np.repeat(_array(axis.base)[0, 0], rows),
        np.repeat(_array(state.past), rows, 0),
        np.repeat(_array(state.recurrent), rows, 2),
        precision,
    )
    return Player(*arguments) if team is None else Ensemble(team, *arguments)


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().numpy()
