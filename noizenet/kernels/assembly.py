"""A trained network laid out for the playing loop (:mod:`noizenet.kernels.play`).

States, gates, biases and outputs of R sequences lie in one flat array, the memory, the packed
weights in another, and each is known by where it begins. Numba counts the references to arrays
with locked instructions; with an array for each part of each layer, those took a third of the
loop's time.

What a sequence is conditioned on holds for a block of samples, so what it adds to the gates of the
first layer becomes part of what they start from, once a block.

A worker of a team (:mod:`noizenet.kernels.team`) has a layout of its own: all there is of the
states, but gates and weights of its own units only.
"""

from typing import NamedTuple

import numpy as np

from noizenet.kernels import cells, draws
from noizenet.kernels.narrow import pack_narrow
from noizenet.kernels.panels import aligned_zeros, pack, padded
from noizenet.kernels.passes import Sizes, rows_of
from noizenet.kernels.recurrent import CELLS, augmented
from noizenet.kernels.vector import MIN_SUMS

FEATURES = 3  # read of a sample at most: itself, its linear prediction, how wrong the last one was
NOWHERE = -1
PRECISIONS = ("float32", "int8")  # of the recurrent weights


class Layer(NamedTuple):
    """Torch's parameters of a recurrent layer."""

    w_ih: np.ndarray
    w_hh: np.ndarray
    b_ih: np.ndarray
    b_hh: np.ndarray


class Network(NamedTuple):
    """A model in arrays, float32."""

    cell: str  # rnn, lstm or gru
    layers: list[Layer]
    head_kind: int  # draws.VALUE, MIXTURE or CODES
    head_weight: np.ndarray  # (n_outputs, H)
    head_bias: np.ndarray
    scale: float  # of a value's logistic
    scale_floor: float  # of a mixture's
    embedding: np.ndarray | None  # (n_codes, D) of a model of codes
    lowest: float  # bounds of what is played
    highest: float
    reach: float = np.inf  # of what is drawn around a linear prediction, in its units
    overshoot: float = np.inf  # how many times as loud as its guide it may be, undamped
    believable: float = np.inf  # how many times as large a prediction may be, and be followed
    feature_limit: float = np.inf  # of a sample and its prediction as the network reads them
    error_limit: float = np.inf  # of how wrong the last prediction was, as it reads that


class Place(NamedTuple):
    """Where in the memory something of the first sequence is; the next one's is a step further."""

    at: int
    step: int

    def after(self, n: int) -> "Place":
        """What lies ``n`` numbers further."""
        return Place(self.at + n, self.step)

    def rows(self, array: np.ndarray, n_rows: int) -> np.ndarray:
        """The numbers of ``n_rows`` sequences in an array, (n_rows, step)."""
        return array[self.at : self.at + n_rows * self.step].reshape(n_rows, self.step)


class Map(NamedTuple):
    """Where the loop itself finds what it needs. The first layer's h is where the memory begins."""

    h_step: int  # h of every layer, and then its input
    gates: Place
    outputs: Place
    codes_at: int  # the gates that each code begins with, a gates.step apart, or NOWHERE
    first_unit: int  # of those that this layout advances
    n_units: int


class NarrowWeights(NamedTuple):
    """Packed matrices, some of whose inputs have integer weights (``narrow.py``)."""

    floats: np.ndarray  # and what an integer sum of 1 stands for
    integers: np.ndarray  # int8
    rounded: np.ndarray  # int16, room for inputs


# A matrix product that every step makes: where its packed matrix is (``panels.Panels``), where its
# inputs are, what its sums start from, where they go to, and what is complete then.
PRODUCT = np.dtype(
    [
        (name, np.int64)
        for name in (
            "weights_at",
            "n_inputs",
            "n_panels",
            "narrow",
            "n_wide",
            "n_narrow",  # the first inputs, whose weights are integers; n_inputs are the others
            "integers_at",
            "units_at",
            "at_once",  # sequences that are multiplied at once: all of them, or 1
            "x_at",
            "x_step",
            "start_at",
            "start_step",
            "y_at",
            "y_step",
            "h_at",  # of the layer whose gates are complete, or NOWHERE
            "above_at",  # where that layer's h is an input, or NOWHERE
        )
    ]
)


class Assembly:
    """A network laid out for ``rows`` sequences side by side.

    Parameters
    ----------
    precision : one of PRECISIONS
    units : of every layer, those to advance; all by default
    n_conditions : the last inputs of the first layer, which seldom change
    condition_rows : ``rows``, or 1 when all sequences share their conditions

    Attributes
    ----------
    memory : float32
    weights : float32, or NarrowWeights
    n_weights : how many numbers a step reads
    h_of : where each layer's h is in the memory, and after it the layer's input
    map : where the loop finds what it needs
    products : (n,) of PRODUCT, in the order of a step
    turns : (1,) of PRODUCT, to be made when the conditions at its ``x_at`` have changed; else (0,)
    head : what the outputs mean
    """

    def __init__(
        self,
        network: Network,
        rows: int,
        precision: str = "float32",
        units: slice | None = None,
        n_conditions: int = 0,
        condition_rows: int = 1,
    ):
        self._rows = rows
        self._kind = CELLS[network.cell]
        self._n_hidden = network.layers[0].w_hh.shape[1]
        self._units = slice(0, self._n_hidden) if units is None else units
        self._n_units = self._units.stop - self._units.start
        self._narrow = precision == "int8"
        self._memory, self._weights = _Parts(np.float32), _Parts(np.float32)
        self._integers, self._products, self._turns = _Parts(np.int8), [], []
        self._n_conditions, self._condition_rows = n_conditions, condition_rows

        h_step = padded(self._n_hidden + max(FEATURES, self._n_hidden), np.float32)
        self.h_of = [
            Place(self._memory.add(np.zeros(rows * h_step)), h_step) for _ in network.layers
        ]
        # vectors that begin with the last gate reach beyond it
        n_gates = self._kind.n_rows * self._n_units
        gates_step = padded(n_gates, np.float32) + padded(1, np.float32)
        gates = Place(self._memory.add(np.zeros(rows * gates_step)), gates_step)
        codes_at = NOWHERE
        for layer, h, above in zip(network.layers, self.h_of, [*self.h_of[1:], None], strict=True):
            first = h.at == 0
            codes = self._layer(layer, h, gates, above, network.embedding if first else None)
            codes_at = codes if first else codes_at
        outputs = self._head(network, self.h_of[-1])

        self.memory, self.weights = self._memory.joined(), self._weights.joined()
        self.n_weights = self._weights.size + self._integers.size
        if self._narrow:
            room = aligned_zeros(rows * h_step, np.int16)
            self.weights = NarrowWeights(self.weights, self._integers.joined(), room)
        self.map = Map(
            h_step, gates, outputs, codes_at, first_unit=self._units.start, n_units=self._n_units
        )
        self.products = np.array(self._products, PRODUCT)
        self.turns = np.array(self._turns, PRODUCT)

    def _layer(self, layer: Layer, h: Place, gates: Place, above: Place | None, embedding) -> int:
        """Lay out a recurrent layer; where the gates of each code are, with an ``embedding``."""
        n_hidden = self._n_hidden
        sizes = Sizes(self._rows, 1, layer.w_ih.shape[1], n_hidden)
        weights = augmented(self._kind, sizes, *layer)
        weights = weights[rows_of(self._kind, n_hidden, self._units)]
        n_conditions = self._n_conditions if h.at == 0 else 0
        matrix, conditions, bias = np.split(weights, [-1 - n_conditions, -1], axis=1)
        bias = bias.T
        codes_at = NOWHERE
        if embedding is None:
            start = Place(self._memory.add(_with_room(bias, gates.step)), 0)
            if n_conditions:
                start = self._conditioned(conditions, start, gates.step)
        else:
            # Codes are all the inputs there are: what each adds to the gates is known beforehand.
            for_codes = bias + embedding @ matrix[:, n_hidden:].T
            codes_at = self._memory.add(_with_room(for_codes, gates.step))
            start = gates
            matrix = matrix[:, :n_hidden]
        completes = (h.at, NOWHERE if above is None else above.at + n_hidden)
        reached = self._kind.n_recurrent * self._n_units
        n_below = 0 if h.at == 0 else n_hidden  # inputs that are a state, too
        if self._kind.number == cells.GRU and embedding is None:
            made = [
                self._product(matrix[:reached], n_hidden + n_below, h, start, gates),
                self._product(
                    matrix[reached:, n_hidden:],
                    n_below,
                    h.after(n_hidden),
                    start.after(reached),
                    gates.after(reached),
                    completes,
                ),
            ]
        else:
            made = [self._product(matrix[:reached], n_hidden + n_below, h, start, gates, completes)]
        self._products += made
        return codes_at

    def _conditioned(self, matrix: np.ndarray, bias: Place, gates_step: int) -> Place:
        """Lay out what turns the bias into what the first layer's gates start from; where."""
        rows = self._condition_rows
        x_step = padded(self._n_conditions, np.float32)
        x = Place(self._memory.add(np.zeros(rows * x_step)), x_step)
        start = Place(self._memory.add(np.zeros(rows * gates_step)), gates_step if rows > 1 else 0)
        self._turns.append(self._product(matrix, 0, x, bias, start, at_once=1))
        return start

    def _head(self, network: Network, h: Place) -> Place:
        """Lay out the head as draws are made from it; where its outputs are."""
        places, n_outputs, n_choices = draws.layout(network.head_kind, len(network.head_bias))
        bias = np.full(padded(n_outputs, np.float32), draws.NEVER)
        bias[places] = network.head_bias
        matrix = np.zeros((n_outputs, self._n_hidden), np.float32)
        matrix[places] = network.head_weight
        outputs = Place(self._memory.add(np.tile(bias, self._rows)), len(bias))
        self._products.append(
            self._product(matrix, 0, h, Place(self._memory.add(bias), 0), outputs)
        )
        scales = np.float32(network.scale), np.float32(network.scale_floor)
        self.head = draws.Head(network.head_kind, n_choices, n_outputs, *scales)
        return outputs

    def _product(
        self,
        matrix: np.ndarray,
        n_states: int,
        x: Place,
        start: Place,
        y: Place,
        completes: tuple[int, int] = (NOWHERE, NOWHERE),
        at_once: int | None = None,
    ) -> tuple[int, ...]:
        """Lay out the product ``y = start + x @ matrix.T``, as one of PRODUCT.

        The first ``n_states`` of the inputs lie in [-1, 1].

        The order of its sums must not depend on the number of sequences. A panel too narrow to
        keep the processor busy with one sequence is summed in parts (``vector.accumulate``), with
        several it is not; those are taken one sequence at a time.
        """
        matrix = np.ascontiguousarray(matrix.T)
        if at_once is None:
            at_once = 1 if pack(matrix, 1, 1).narrow < MIN_SUMS else self._rows
        n_narrow = n_states if self._narrow else 0
        panels = pack(matrix[n_narrow:], 1, at_once)
        where = (self._weights.add(panels.data), panels.n_inputs)
        shape = (panels.n_panels, panels.narrow, panels.n_wide)
        narrow = (0, NOWHERE, NOWHERE)
        if n_narrow:
            integers, units = pack_narrow(matrix[:n_narrow], at_once)
            narrow = (n_narrow, self._integers.add(integers.data), self._weights.add(units))
        return (*where, *shape, *narrow, at_once, *x, *start, *y, *completes)


class _Parts:
    """Arrays that are to lie one after another, each from the beginning of a cache line on."""

    def __init__(self, dtype):
        self.size = 0
        self._dtype = dtype
        self._parts = []

    def add(self, numbers: np.ndarray) -> int:
        """Where they will begin."""
        at = self.size
        self._parts.append((at, numbers))
        self.size += aligned_zeros(numbers.size, self._dtype).size
        return at

    def joined(self) -> np.ndarray:
        """All in one array."""
        whole = aligned_zeros(self.size, self._dtype)
        for at, numbers in self._parts:
            whole[at : at + numbers.size] = numbers.ravel()
        return whole


def _with_room(starts: np.ndarray, step: int) -> np.ndarray:
    """Rows ``step`` apart."""
    return np.pad(starts, ((0, 0), (0, step - starts.shape[1])))
