"""The playing loop: read the whole seed, then feed back what was played."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat

import numpy as np
import torch

from noizenet.errors import ParameterError
from noizenet.kernels import draws as draw_kernels
from noizenet.kernels.assembly import Layer, Network
from noizenet.kernels.play import Ensemble, Player
from noizenet.kernels.team import Team
from noizenet.kernels.threads import slices, team_for
from noizenet.learner.heads import SCALE_FLOOR, CodeHead, MixtureHead, ValueHead
from noizenet.learner.model import Model, State

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


@torch.no_grad()
def listen(model: Model, numbers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None, State]:
    """Read ``(B, T, …)`` from silence; the outputs of the last step and the state after it."""
    model.eval()
    state = model.initial_state(numbers.shape[0])
    for part in numbers.split(READ_STEPS, dim=1):
        parameters, base, state = model(part, state)
    return parameters[:, -1:], None if base is None else base[:, -1:], state


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
    heard = listen(model, torch.from_numpy(seed)[None].to(device))
    shape = (model.n_features, model.head.n_uniforms)
    draws = [uniform_draws(rng, n_steps, shape) for rng in rngs]
    if _compiled(model):
        sounds = play_compiled(model, heard, np.stack(draws), temperature, watch, precision)
    else:
        each = [play_plainly(model, heard, one[None], temperature, watch) for one in draws]
        sounds = [sound for sounds in each for sound in sounds]
    return [sound.astype(seed.dtype).reshape(-1, *seed.shape[1:]) for sound in sounds]


Heard = tuple[torch.Tensor, torch.Tensor | None, State]


@torch.no_grad()
def play_plainly(
    model: Model, heard: Heard, draws: np.ndarray, temperature: float, watch: Callable
) -> list[np.ndarray]:
    """Step by step through torch: any model, one sequence (draws (1, n, D, U))."""
    parameters, base, state = heard
    uniforms = torch.from_numpy(draws).to(parameters.device)
    played = []
    for step in range(draws.shape[1]):
        number = model.sample(parameters, base, uniforms[:, step : step + 1], temperature)
        # a code is always finite, whatever it was drawn from
        if not (torch.isfinite(parameters).all() and torch.isfinite(number).all()):
            break
        played.append(number[0, 0].cpu().numpy())
        parameters, base, state = model(number, state)
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
    players = [_player(model, heard, part.stop - part.start, precision, team) for part in parts]
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
    model: Model, heard: Heard, rows: int, precision: str = "float32", team: Team | None = None
) -> Player | Ensemble:
    """The compiled loop's player, with all that the model knows and remembers."""
    parameters, base, state = heard
    head = model.head
    layers = [
        Layer(*(_array(getattr(layer, f"{name}_l0")) for name in WEIGHTS))
        for layer in model.recurrent.layers
    ]
    network = Network(
        cell=model.recurrent.cell,
        layers=layers,
        head_kind=HEAD_KINDS[type(head)],
        head_weight=_array(head.linear.weight),
        head_bias=_array(head.linear.bias),
        scale=float(head.scale[0]) if isinstance(head, ValueHead) else 1.0,
        scale_floor=SCALE_FLOOR,
        embedding=_array(model.embedding.weight) if model.n_codes is not None else None,
        prediction=_array(model.prediction.flip(0)),
        unit=float(model.residual_scale),
        lowest=float(model.bounds[0]),
        highest=float(model.bounds[1]),
    )
    arguments = (
        network,
        np.repeat(_array(parameters)[0], rows, 0),
        np.zeros(rows) if base is None else np.repeat(_array(base)[0, 0], rows),
        np.repeat(_array(state.past), rows, 0),
        np.repeat(_array(state.recurrent), rows, 2),
        precision,
    )
    return Player(*arguments) if team is None else Ensemble(team, *arguments)


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().numpy()
