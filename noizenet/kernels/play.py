"""The whole sampler as one compiled loop: network, head, draw, and back into the network.

Letters: R sequences side by side (they share the reading of the weights), n steps, H hidden units,
N blocks of a guide, P past samples of its linear prediction, C conditions. What is played are
samples or codes; random numbers come from outside, so every engine draws the same. What a drawn
number means, the guide says (:mod:`noizenet.kernels.guide`). The plain twin of this loop is
:func:`noizenet.kernels.reference.play`.

Every sum is added up in the same order however many sequences are played and however long the
blocks are: a sequence is the same to the bit whatever is played beside it.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import njit, types
from numba.extending import overload, register_jitable

from noizenet.kernels import cells, draws
from noizenet.kernels.assembly import NOWHERE, Assembly, Network
from noizenet.kernels.guide import Guide, Limits, course_of, hear, turn_to
from noizenet.kernels.narrow import add_narrow, round_inputs
from noizenet.kernels.panels import aligned_zeros
from noizenet.kernels.prediction import block_at, predict_known
from noizenet.kernels.recurrent import CELLS
from noizenet.kernels.team import APART, Team, meet, own_units
from noizenet.kernels.vector import accumulate, lanes_of

BLOCK_PRODUCTS = 1 << 30  # multiply-adds between two looks at whether to stop, some 30 ms
SHORTEST_BLOCK, LONGEST_BLOCK = 64, 4096  # steps
LEAST_TEMPERATURE = 1e-30  # a smaller one has no inverse in float32


class Carried(NamedTuple):
    """What goes from step to step beside the memory."""

    c: np.ndarray  # of an LSTM, each where its h is in the memory
    base: np.ndarray  # (R,) the linear prediction of the next sample
    running: np.ndarray  # (R,) 1 until something is not finite
    n_finite: np.ndarray  # (R,) numbers played until then
    prediction: np.ndarray  # (R, P) flat, of the block at hand
    held: np.ndarray  # (R,) samples for which no prediction is followed


class Share(NamedTuple):
    """Where the workers of a team meet, and where they tell each other the states."""

    worker: int
    n_workers: int
    arrivals: np.ndarray
    board: np.ndarray  # twice the states of all layers


ALONE = Share(0, 1, np.zeros(APART, np.int64), np.zeros(0, np.float32))


@njit
def _turn(weights, turns, memory, course, block):
    """Put the conditions of a block into what the first layer's gates start from."""
    for i in range(len(turns)):
        turn = turns[i]
        for r in range(course.condition_rows):
            source = (r * course.row_blocks + block) * course.n_conditions
            x_at = turn.x_at + r * turn.x_step
            cells.copy(course.conditions, source, memory, x_at, course.n_conditions)
            _multiply(weights, turn, memory, r, False)


def _multiply(weights, product, memory, r, back):
    """y = start + x @ matrix of as many sequences at once as the product says, from r on.

    With ``back`` the panels are walked from the last to the first: to and fro, the nearer ones
    are still in the cache.
    """
    raise NotImplementedError("only inside compiled code")


@overload(_multiply)
def _multiply_kind(weights, product, memory, r, back):
    return _multiply_floats if isinstance(weights, types.Array) else _multiply_narrow


@register_jitable
def _multiply_floats(weights, product, memory, r, back):
    lanes = lanes_of(weights)
    x_at = product.x_at + r * product.x_step + product.n_narrow
    start_at = product.start_at + r * product.start_step
    y_at = product.y_at + r * product.y_step
    for i in range(product.n_panels):
        panel = product.n_panels - 1 - i if back else i
        width = product.narrow + 1 if panel < product.n_wide else product.narrow
        column = (panel * product.narrow + min(panel, product.n_wide)) * lanes
        accumulate(
            width, product.at_once, weights, product.weights_at + column * product.n_inputs,
            memory, x_at, product.x_step, memory, start_at + column, product.start_step,
            memory, y_at + column, product.y_step, product.n_inputs,
        )  # fmt: skip


@register_jitable
def _multiply_narrow(weights, product, memory, r, back):
    _multiply_floats(weights.floats, product, memory, r, back)
    if product.n_narrow == 0:
        return
    lanes = lanes_of(memory)
    n_rounded = (product.n_narrow + 1) // 2 * 2
    for i in range(product.at_once):
        x_at = product.x_at + (r + i) * product.x_step
        round_inputs(memory, x_at, product.n_narrow, weights.rounded, i * n_rounded)
    y_at = product.y_at + r * product.y_step
    for i in range(product.n_panels):
        panel = product.n_panels - 1 - i if back else i
        width = product.narrow + 1 if panel < product.n_wide else product.narrow
        column = (panel * product.narrow + min(panel, product.n_wide)) * lanes
        add_narrow(
            width, product.at_once, weights.integers, product.integers_at + column * n_rounded,
            weights.rounded, n_rounded, weights.floats, product.units_at + column,
            memory, y_at + column, product.y_step, n_rounded // 2,
        )  # fmt: skip


@njit
def _exchange(share, memory, h_at, where, rows, n_hidden, back):
    """Tell the other workers the new states of the own units, and hear of theirs.

    Two boards take turns, step after step: one is read while the other may be written.
    """
    board_at = len(share.board) // 2 if back else 0
    for r in range(rows):
        own = h_at + r * where.h_step + where.first_unit
        cells.copy(memory, own, share.board, board_at + own, where.n_units)
    meet(share.arrivals, share.worker, share.n_workers)
    for r in range(rows):
        at = h_at + r * where.h_step
        cells.copy(share.board, board_at + at, memory, at, n_hidden)


@njit
def _take_step(cell, n_hidden, memory, weights, products, where, share, c, rows, back):
    """The network's step, from the inputs to the head's outputs."""
    for i in range(len(products)):
        product = products[i]
        for r in range(0, rows, product.at_once):
            _multiply(weights, product, memory, r, back)
        if product.h_at == NOWHERE:
            continue
        for r in range(rows):
            own_at = product.h_at + r * where.h_step + where.first_unit
            gates_at = where.gates.at + r * where.gates.step
            cells.advance(cell, memory, gates_at, memory, c, own_at, where.n_units)
        if share.n_workers > 1:
            _exchange(share, memory, product.h_at, where, rows, n_hidden, back)
        if product.above_at != NOWHERE:
            for r in range(rows):
                h_at = product.h_at + r * where.h_step
                cells.copy(memory, h_at, memory, product.above_at + r * where.h_step, n_hidden)


@njit(cache=True, nogil=True)
def play_block(
    cell, n_hidden, memory, weights, products, turns, where, share, head, course, limits, carried,
    heard, first, choices, noises, temperature, sharpness, played,
):  # fmt: skip
    """Play ``n`` steps of R sequences, the first of which is step ``first`` of the guide.

    ``choices`` and ``noises`` (R, n) are the uniform and the logistic random numbers, ``sharpness``
    is 1 / temperature. ``heard`` (R, P + n), flat, begins with the past; ``played`` (R, n) receives
    the numbers. The memory and ``carried`` are those before the block and become those after it.

    Of a team, each worker does all of this with a memory of its own; they share but the work of
    the recurrent products.
    """
    rows, n = played.shape
    n_past, heard_step = course.n_past, course.n_past + n
    scratch = draws.scratch_for(head)
    upcoming, turned = block_at(first, course.hop, course.n_blocks), NOWHERE
    for t in range(n):
        now, upcoming = upcoming, block_at(first + t + 1, course.hop, course.n_blocks)
        if upcoming != turned:
            _turn(weights, turns, memory, course, upcoming)
            turned = upcoming
        for r in range(rows):
            number_of, heard_at = r * course.row_blocks, r * heard_step + t
            if upcoming != now:
                turn_to(
                    course, limits, number_of + upcoming, heard, heard_at,
                    carried.prediction, r * n_past,
                )  # fmt: skip
            # before the draw, which is a long chain of operations that this one runs beside
            known = predict_known(
                carried.prediction, r * n_past, n_past - 1, heard, heard_at + 1
            )  # fmt: skip
            outputs_at = where.outputs.at + r * where.outputs.step
            number = draws.draw(
                head, memory, outputs_at, choices[r, t], noises[r, t], temperature, sharpness,
                scratch,
            )  # fmt: skip
            if head.kind == draws.CODES:
                start_at = where.codes_at + int(number) * where.gates.step
                gates_at = where.gates.at + r * where.gates.step
                cells.copy(memory, start_at, memory, gates_at, where.gates.step)
            else:
                newest_weight = carried.prediction[(r + 1) * n_past - 1] if n_past else number
                number = hear(
                    course, limits, number, known, newest_weight, carried.base, carried.held, r,
                    number_of + now, number_of + upcoming, heard, heard_at + n_past,
                    memory, r * where.h_step + n_hidden,
                )  # fmt: skip
            played[r, t] = number
            # the outputs as well: a code is a number whatever it was drawn from
            finite = draws.all_finite(memory, outputs_at, head.n_outputs)
            if not (finite and math.isfinite(number)):
                carried.running[r] = 0
            carried.n_finite[r] += carried.running[r]
        back = t % 2 == 1
        _take_step(cell, n_hidden, memory, weights, products, where, share, carried.c, rows, back)


class Player:
    """Sequences in the midst of playing.

    Parameters
    ----------
    network : what plays
    guide : what it follows, from the first number to play on
    outputs : (R, n_outputs) what the head says of the first number to play
    base : (R,) the linear prediction of it, by the guide's first block
    past : (R, P) the latest samples, newest last
    states : (L, S, R, H) of each layer h and, of an LSTM, c
    precision : of the recurrent weights, one of ``assembly.PRECISIONS``
    units : of every layer, those that this player advances; all by default

    Raises
    ------
    ValueError
        A guide that does not fit.
    """

    def __init__(
        self,
        network: Network,
        guide: Guide,
        outputs,
        base,
        past,
        states,
        precision="float32",
        units=None,
    ):
        self.rows = len(outputs)
        self._course = course_of(guide, network, self.rows)
        self.assembly = Assembly(
            network,
            self.rows,
            precision,
            units,
            self._course.n_conditions,
            self._course.condition_rows,
        )
        self._share = ALONE
        self._cell = CELLS[network.cell].number
        self._n_hidden = states.shape[-1]
        self._limits = Limits(*(np.float32(getattr(network, name)) for name in Limits._fields))
        self._carried = Carried(
            c=aligned_zeros(self.assembly.map.gates.at, np.float32),
            base=np.array(base, np.float32),
            running=np.ones(self.rows, np.int64),
            n_finite=np.zeros(self.rows, np.int64),
            prediction=_first_prediction(guide, self.rows),
            held=np.zeros(self.rows, np.int64),
        )
        self._past = np.array(past, np.float32)
        self._n_played = 0
        memory = self.assembly.memory
        for h, state in zip(self.assembly.h_of, states, strict=True):
            for kept, part in zip((memory, self._carried.c), state, strict=False):
                h.rows(kept, self.rows)[:, : self._n_hidden] = part
        places, _, _ = draws.layout(network.head_kind, outputs.shape[1])
        self.assembly.map.outputs.rows(memory, self.rows)[:, places] = outputs

    @property
    def n_finite(self) -> np.ndarray:
        """(R,) how many numbers of each sequence were played before one was not finite."""
        return self._carried.n_finite

    def join(self, share: Share) -> None:
        """Play as a worker of a team."""
        self._share = share

    @property
    def block_steps(self) -> int:
        """How many steps make a block that nobody minds waiting for."""
        n_steps = BLOCK_PRODUCTS // (self.rows * self.assembly.n_weights)
        return min(max(n_steps, SHORTEST_BLOCK), LONGEST_BLOCK)

    def play(self, uniforms: np.ndarray, temperature: float) -> np.ndarray:
        """Play on for as many steps as there are ``uniforms``, (R, n, U) float32 in (0, 1).

        Returns
        -------
        (R, n) float32. Of sequence r, those count that ``n_finite[r]`` counts.
        """
        n_steps = uniforms.shape[1]
        played = np.empty((self.rows, n_steps), np.float32)
        heard = np.concatenate((self._past, np.zeros_like(played)), 1)
        known = self.assembly
        play_block(
            self._cell, self._n_hidden, known.memory, known.weights, known.products, known.turns,
            known.map, self._share, known.head, self._course, self._limits, self._carried,
            heard.reshape(-1), self._n_played,
            np.ascontiguousarray(uniforms[:, :, 0]),
            draws.logistic_quantiles(np.ascontiguousarray(uniforms[:, :, -1])),
            np.float32(temperature), np.float32(1 / max(temperature, LEAST_TEMPERATURE)), played,
        )  # fmt: skip
        self._past = heard[:, n_steps:]
        self._n_played += n_steps
        return played


def _first_prediction(guide: Guide, rows: int) -> np.ndarray:
    """Of the first block, for each sequence, flat and with room for a vector beyond."""
    first = np.asarray(guide.prediction[:, 0], np.float32)
    flat = aligned_zeros(rows * first.shape[1], np.float32)
    flat[: rows * first.shape[1]].reshape(rows, -1)[:] = first
    return flat


class Ensemble:
    """A :class:`Player` for large networks, whose every step is shared by a team."""

    def __init__(
        self,
        team: Team,
        network: Network,
        guide: Guide,
        outputs,
        base,
        past,
        states,
        precision="float32",
    ):
        self._team = team
        self._players = [
            Player(network, guide, outputs, base, past, states, precision, units)
            for units in own_units(states.shape[-1], team.n_workers)
        ]
        board = np.zeros(2 * self._players[0].assembly.map.gates.at, np.float32)
        for worker, player in enumerate(self._players):
            player.join(Share(worker, team.n_workers, team.arrivals, board))
        self.rows = len(outputs)

    @property
    def n_finite(self) -> np.ndarray:
        """As of :class:`Player`; all know the same."""
        return self._players[0].n_finite

    @property
    def block_steps(self) -> int:
        """As of :class:`Player`."""
        return self._players[0].block_steps

    def play(self, uniforms: np.ndarray, temperature: float) -> np.ndarray:
        """As of :class:`Player`."""
        return self._team.run(lambda worker: self._players[worker].play(uniforms, temperature))[0]
