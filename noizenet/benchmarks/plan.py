"""What is measured, and for how long."""

from dataclasses import dataclass

GATES = 4  # of an LSTM


@dataclass(frozen=True)
class Size:
    """An LSTM, and how long its benchmarks are."""

    hidden: int
    layers: int
    training_steps: int
    playing_steps: int

    @property
    def name(self) -> str:
        return f"LSTM-{self.hidden}" + (f" × {self.layers}" if self.layers > 1 else "")

    @property
    def n_products(self) -> int:
        """Multiply-adds of a step of the recurrence."""
        inputs = [1] + [self.hidden] * (self.layers - 1)
        return sum(GATES * self.hidden * (self.hidden + n) for n in inputs)


@dataclass(frozen=True)
class Plan:
    """What is measured, and for how long."""

    sizes: tuple[Size, ...]
    rounds: int
    growth_steps: tuple[int, ...]
    growth_hidden: int
    n_at_once: int  # sequences played side by side
    songs_s: float  # of each of five songs that are prepared
    compiles: bool  # whether torch.compile is tried
    n_lessons: int  # steps of training before 8-bit weights are judged
    n_starts: int  # of which the shortest counts: the first may find files not in memory yet


FULL = Plan(
    sizes=(
        Size(50, 1, 330_750, 4000),
        Size(128, 1, 66_150, 2000),
        Size(512, 1, 8192, 500),
        Size(512, 2, 8192, 300),
    ),
    rounds=5,
    growth_steps=(10_000, 33_000, 100_000, 330_000, 1_000_000, 3_300_000, 6_600_000),
    growth_hidden=50,
    n_at_once=16,
    songs_s=30,
    compiles=True,
    n_lessons=20,
    n_starts=3,
)
QUICK = Plan(
    sizes=(
        Size(50, 1, 20_000, 1000),
        Size(128, 1, 6000, 500),
        Size(512, 1, 700, 150),
        Size(512, 2, 400, 60),
    ),
    rounds=3,
    growth_steps=(10_000, 100_000, 1_000_000),
    growth_hidden=50,
    n_at_once=16,
    songs_s=5,
    compiles=False,
    n_lessons=4,
    n_starts=1,
)
