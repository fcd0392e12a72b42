"""Frozen dataclasses <-> JSON <-> command line: the settings every task shares.

Nothing heavy is imported here, so that ``--help`` answers at once. Each field documents itself
for ``--help``; a task composes these blocks with its own (:mod:`noizenet.audio.config`).
"""

import dataclasses
import json
import math
import re
import typing
from contextlib import redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tyro

from noizenet.errors import ParameterError

Config = TypeVar("Config")

# What tyro says in Python's words -> what is said of it here.
PLAIN_WORDS = (
    (r"^Error parsing (--\S+): ", r"\1: "),
    (r"no type matching {None}\|INT .* from \[(.*)\]", r"\1 is not a whole number"),
    (r"no type matching {None}\|FLOAT .* from \[(.*)\]", r"\1 is not a number"),
    (r"invalid literal for int\(\) with base 10: (.*)", r"\1 is not a whole number"),
    (r"could not convert string to float: (.*)", r"\1 is not a number"),
    (r"Missing from \S+: (--\S+).*", r"\1 is missing"),
    (r"Expected 1 values", r"Give one"),
)

# Past samples of the linear prediction that a guide brings: as many as sharpen partials that 160
# leave noisy (runs/LOG.md 10).
GUIDE_ORDER = 320
LARGEST_NUMBER = 1e38  # that torch's 32 bits hold
MOST_THREADS = 1024
LONGEST_WINDOW = 10_000_000  # samples, seven minutes; shorter songs are padded to it


def require_number(
    flag: str,
    value: float | None,
    what: str,
    above: float | None = None,
    least: float | None = None,
    most: float = LARGEST_NUMBER,
) -> None:
    """Refuse a value that is not finite, not above ``above``, below ``least`` or beyond ``most``.

    ``None`` means "not given" and passes. ``what`` completes "must be …": "a number of seconds".
    """
    if value is None:
        return
    bound = f"above {above:g}" if above is not None else f"of at least {least:g}"
    wrong = not math.isfinite(value)
    wrong |= above is not None and value <= above
    wrong |= least is not None and value < least
    if not wrong and value > most:
        wrong, bound = True, f"of at most {most:,.10g}"
    if wrong:
        raise ParameterError(f"{flag} {value:g} must be {what} {bound}")


def require_share(flag: str, value: float, below: float) -> None:
    """Refuse a value outside [0, below)."""
    if not 0 <= value < below:
        raise ParameterError(f"{flag} {value:g} must be at least 0 and below {below:g}")


@dataclass(frozen=True)
class ModelConfig:
    """The recurrent network."""

    cell: Literal["lstm", "rnn", "gru"] = "lstm"
    """kind of recurrent cell (rnn: plain tanh)"""
    hidden: int = 48
    """units in each layer"""
    layers: int = 1
    """recurrent layers, 1 to 4"""
    dropout: float = 0.0
    """share of each layer's outputs that is dropped in training, 0 up to 1"""

    def __post_init__(self) -> None:
        require_number("--hidden", self.hidden, "a number of units", least=1)
        if not 1 <= self.layers <= 4:
            raise ParameterError(f"--layers {self.layers} must be 1, 2, 3 or 4")
        require_share("--dropout", self.dropout, below=1)


@dataclass(frozen=True)
class FitConfig:
    """How the network learns."""

    optimizer: Literal["adam", "sgd", "rmsprop", "adagrad", "nadam", "adadelta"] = "adam"
    """rule that turns gradients into steps"""
    lr: float = 0.03
    """learning rate at its highest"""
    anneal: bool = True
    """let the learning rate fall to a hundredth towards the end of training"""
    clip: float = 1.0
    """largest norm of the gradient of a step; longer ones are shortened to it"""
    weight_decay: float = 0.0
    """L2 penalty on the weights"""
    training: Literal["one-shot", "windows"] = "one-shot"
    """one-shot: a whole song is one sequence with its exact gradient; windows: pieces of it"""
    song_order: Literal["rotate", "block"] = "rotate"
    """rotate: every epoch takes each song once; block: all epochs of one song, then the next"""
    songs_per_step: int = 1
    """whole songs read side by side in one-shot training"""
    window_samples: int | None = None
    """length of a window, samples (with --training windows: 10000)"""
    batch: int | None = None
    """windows read side by side (with --training windows: 16)"""
    epochs: int | None = None
    """passes over all songs (none: as many as --budget-minutes allows)"""
    budget_minutes: float | None = None
    """minutes of training; 2 when --epochs is not given either, else no limit"""

    def __post_init__(self) -> None:
        require_number("--lr", self.lr, "a learning rate", above=0)
        require_number("--clip", self.clip, "a gradient norm", above=0)
        require_number("--weight-decay", self.weight_decay, "a factor", least=0)
        require_number("--songs-per-step", self.songs_per_step, "a number of songs", least=1)
        require_number(
            "--window-samples",
            self.window_samples,
            "a number of samples",
            least=2,
            most=LONGEST_WINDOW,
        )
        require_number("--batch", self.batch, "a number of windows", least=1)
        require_number("--epochs", self.epochs, "a number of passes", least=1)
        require_number("--budget-minutes", self.budget_minutes, "a number of minutes", above=0)
        if self.training == "one-shot":
            for flag, value in (("--window-samples", self.window_samples), ("--batch", self.batch)):
                if value is not None:
                    raise ParameterError(
                        f"{flag} {value} goes with --training windows; "
                        "one-shot training reads whole songs (--songs-per-step)"
                    )
        elif self.songs_per_step > 1 or self.song_order == "block":
            raise ParameterError(
                "--songs-per-step and --song-order block go with --training one-shot"
            )
        if self.song_order == "block":
            if self.songs_per_step > 1:
                raise ParameterError(
                    "--song-order block reads one song at a time; leave out "
                    f"--songs-per-step {self.songs_per_step}"
                )
            if self.epochs is None:
                raise ParameterError("--song-order block needs --epochs, the passes over a song")

    @property
    def budget_s(self) -> float:
        """Seconds of training allowed; infinite when only epochs were asked for."""
        if self.budget_minutes is not None:
            return self.budget_minutes * 60
        return 120.0 if self.epochs is None else math.inf


@dataclass(frozen=True)
class MachineConfig:
    """Where it runs."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: CUDA where there is one, else the CPU"""
    engine: Literal["auto", "numba", "torch"] = "auto"
    """auto: compiled kernels on the CPU, torch elsewhere; both give the same network"""
    threads: int | None = None
    """processor threads (all)"""
    memory_gb: float | None = None
    """gigabytes for the history of a pass (a quarter of the machine's memory)"""

    def __post_init__(self) -> None:
        require_number("--threads", self.threads, "a number of threads", least=1, most=MOST_THREADS)
        require_number("--memory-gb", self.memory_gb, "a number of gigabytes", above=0)
        if self.engine == "numba" and self.device == "cuda":
            raise ParameterError("--engine numba runs on the CPU; leave out --device cuda")


def to_dict(config: Any) -> dict[str, Any]:
    """A config and the configs within it as plain JSON values."""
    return dataclasses.asdict(config)


def from_dict(kind: type[Config], values: dict[str, Any], where: str) -> Config:
    """Build a config from JSON values; what is absent keeps its default.

    Raises
    ------
    ParameterError
        For an unknown key or a value of the wrong type, naming ``where`` it stood.
    """
    if not isinstance(values, dict):
        raise ParameterError(f"{where}: must be an object with named settings")
    types = typing.get_type_hints(kind)
    unknown = sorted(set(values) - set(types))
    if unknown:
        raise ParameterError(
            f"{where}: unknown key '{unknown[0]}'; known are {', '.join(sorted(types))}"
        )
    chosen = {}
    for key, value in values.items():
        if dataclasses.is_dataclass(types[key]):
            chosen[key] = from_dict(types[key], value, f"{where}: {key}")
        else:
            chosen[key] = _checked(types[key], value, f"{where}: {key}")
    return kind(**chosen)


def _checked(kind: Any, value: Any, where: str) -> Any:
    """A JSON value as ``kind`` (a plain type, a Literal or a union of these)."""
    if typing.get_origin(kind) is Annotated:
        kind = typing.get_args(kind)[0]
    if typing.get_origin(kind) is Literal:
        allowed = typing.get_args(kind)
        if value in allowed:
            return value
        raise ParameterError(f"{where}: {value!r} must be one of {', '.join(map(str, allowed))}")
    kinds = typing.get_args(kind) or (kind,)
    if float in kinds and type(value) is int:
        return float(value)
    if type(value) in kinds:
        return value
    names = " or ".join("null" if k is type(None) else k.__name__ for k in kinds)
    raise ParameterError(f"{where}: {value!r} must be of type {names}")


def read_json(kind: type[Config], path: Path) -> Config:
    """Read a config that a run (or a person) wrote."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParameterError(f"{path}: there is no such config file") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ParameterError(f"{path}: not a readable JSON config ({error})") from None
    return from_dict(kind, values, str(path))


def differences(old: Any, new: Any) -> list[tuple[str, Any, Any]]:
    """The (field name, old, new) in which two configs of one kind differ, depth first."""
    found = []
    for field in dataclasses.fields(old):
        before, after = getattr(old, field.name), getattr(new, field.name)
        if dataclasses.is_dataclass(before):
            found += differences(before, after)
        elif before != after:
            found.append((field.name, before, after))
    return found


def parse_command_line(
    kind: type[Config], arguments: list[str], description: str, default: Config | None = None
) -> Config:
    """Make a config from flags, falling back to ``default``'s values.

    Raises
    ------
    ParameterError
        One line for whatever is wrong with the flags (tyro's own report fills a box).
    """
    report = StringIO()
    try:
        with redirect_stderr(report):
            return tyro.cli(
                kind,
                args=arguments,
                default=default,
                description=description,
                config=(tyro.conf.OmitArgPrefixes,),
            )
    except SystemExit as end:
        if not end.code:
            raise
        raise ParameterError(_one_line(report.getvalue())) from None


def _one_line(report: str) -> str:
    """What tyro's box says between its title and its next rule, as one line of plain words."""
    lines = [line.strip("│╭╮╰╯ ") for line in report.splitlines()]
    message: list[str] = []
    for text in lines[1:]:
        is_rule = not text.strip("─-")  # of hyphens where the terminal knows no others
        if is_rule and message:
            break
        if not is_rule:
            message.append(text)
    sentence = " ".join(message).rstrip(" .")
    for pattern, words in PLAIN_WORDS:
        sentence = re.sub(pattern, words, sentence)
    return f"{sentence}; --help lists every flag with its unit"
