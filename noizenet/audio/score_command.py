"""What ``scripts/score.py`` can be told. Light: ``--help`` reads only this."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from noizenet.config import MachineConfig, parse_command_line, require_number
from noizenet.errors import ParameterError

MOST_ORDERS = 4  # that a table of 100 columns holds
HIGHEST_ORDER = 1024  # half a window; its longer lags rest on few products
SHORTEST_SCORED_S = 0.1  # a window of the linear prediction
LONGEST_SCORED_S = 3600


@dataclass(frozen=True)
class ScoreCommand:
    """``scripts/score.py``."""

    things: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="THING...")]
    """runs (their names below runs/) and audio files, any number"""
    songs: str | None = None
    """judge against these and score runs on them: demo, a FILE or a FOLDER (those of the first
    run, and what each run held out)"""
    duration_s: Annotated[float | None, tyro.conf.arg(name="duration")] = None
    """seconds taken from the beginning of each of --songs (all)"""
    orders: tuple[int, ...] = (32, 128)
    """past samples of the linear predictions to compare with"""
    seconds: float = 60.0
    """seconds scored of each sound, from its beginning, at most"""
    checkpoint: Literal["last", "best"] = "last"
    """state of the runs: where training ended, or where unseen songs were told best"""
    out: Path | None = None
    """Markdown file that keeps the table (none)"""
    picture: Path | None = None
    """PNG of all that is judged, on one scale (none)"""
    machine: MachineConfig = field(default_factory=MachineConfig)

    def __post_init__(self) -> None:
        if not self.things:
            raise ParameterError("name a run or an audio file to score; --help lists every flag")
        if not 1 <= len(self.orders) <= MOST_ORDERS:
            raise ParameterError(f"--orders takes 1 to {MOST_ORDERS} of them")
        for order in self.orders:
            require_number(
                "--orders", order, "a number of past samples", least=0, most=HIGHEST_ORDER
            )
        require_number(
            "--seconds",
            self.seconds,
            "a number of seconds",
            least=SHORTEST_SCORED_S,
            most=LONGEST_SCORED_S,
        )
        require_number("--duration", self.duration_s, "a number of seconds", above=0)
        if self.duration_s is not None and self.songs is None:
            raise ParameterError("--duration goes with --songs; a run keeps its own")
        for flag, path in (("--out", self.out), ("--picture", self.picture)):
            if path is not None and path.is_dir():
                raise ParameterError(f"{flag} {path} is a folder; name a file in it")


def parse_score(arguments: list[str]) -> ScoreCommand:
    """The command that ``scripts/score.py`` was given."""
    about = (
        "Bits per sample of runs on music they never heard, and of any sound's own linear "
        "prediction; and the judge's numbers, side by side."
    )
    return parse_command_line(ScoreCommand, arguments, about)
