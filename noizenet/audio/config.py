"""What an audio run can be told, and the presets. Light: ``--help`` reads only this."""

import argparse
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from noizenet.config import (
    GUIDE_ORDER,
    FitConfig,
    MachineConfig,
    ModelConfig,
    parse_command_line,
    read_json,
    require_number,
    require_share,
    to_dict,
)
from noizenet.errors import ParameterError, RunError
from noizenet.files import known_runs, run_folder

MOST_CODES = 4096  # k-means takes minutes beyond
LONGEST_PREDICTOR = 22_050  # samples, a second; its equations take minutes beyond
LONGEST_FRAME = 8192  # samples; scoring needs the square of it in memory
HIGHEST_PERLIN_HZ = 11_025  # half the sample rate
MOST_PERLIN_OCTAVES = 12
LARGEST_RNG = 2**32 - 1
LONGEST_SEED_S = 600
LONGEST_PLAY_S = 3600  # all candidates together are kept in memory


@dataclass(frozen=True)
class DataConfig:
    """What it learns from."""

    data: str = "demo"
    """the embedded songs (demo), an audio FILE, or a FOLDER of them"""
    songs: int | None = None
    """songs to train on (all there are)"""
    duration_s: Annotated[float | None, tyro.conf.arg(name="duration")] = 20.0
    """seconds taken from the beginning of each song"""
    valid_fraction: float = 0.15
    """share held out: of the songs in a folder, of the samples at the end of a single file"""

    def __post_init__(self) -> None:
        require_number("--songs", self.songs, "a number of songs", least=1)
        require_number("--duration", self.duration_s, "a number of seconds", above=0)
        require_share("--valid-fraction", self.valid_fraction, below=0.9)


@dataclass(frozen=True)
class SoundConfig:
    """How sound becomes numbers, and what is said of the next one."""

    model: Literal["duet", "stack", "frames"] = "stack"
    """duet: a conductor of spectra and a player of samples; stack: one network of samples; frames:
    one of FFT frames"""
    representation: Literal["waveform", "fft"] = "waveform"
    """one sample after the other, or FFT frames of the same song"""
    scaling: Literal["zscore", "minmax", "log", "clip"] = "zscore"
    """zscore: mean 0, deviation 1; minmax: onto -1…1; log: mu-law curve; clip: zscore cut at 3"""
    loss: Literal["mixture", "mulaw", "mse", "mae", "mbe"] = "mixture"
    """what is learned: a mixture of logistics, one of 256 codes, or a single value"""
    mixtures: int = 4
    """logistic distributions in the mixture"""
    predictor: int | None = None
    """past samples in the linear prediction the network stands on (mixture: 1024, others: 0)"""
    frame_samples: int = 1024
    """length of an FFT frame, samples; frames overlap by half"""

    def __post_init__(self) -> None:
        require_number("--mixtures", self.mixtures, "a number of distributions", least=1)
        require_number(
            "--predictor", self.predictor, "a number of samples", least=0, most=LONGEST_PREDICTOR
        )
        if self.frame_samples % 4 or not 4 <= self.frame_samples <= LONGEST_FRAME:
            raise ParameterError(
                f"--frame-samples {self.frame_samples} must be a multiple of 4, "
                f"4 to {LONGEST_FRAME}"
            )
        if (self.model == "frames") != (self.representation == "fft"):
            raise ParameterError(
                f"--model {self.model} contradicts --representation {self.representation}; FFT "
                "frames are --model frames"
            )
        if self.model == "duet":
            for flag, value, needed in (
                ("--loss", self.loss, "mixture"),
                ("--scaling", self.scaling, "zscore"),
                ("--predictor", self.predictor, None),
            ):
                if value != needed:
                    raise ParameterError(
                        f"{flag} {value} goes with --model stack; the duet has a prediction and "
                        "a mixture of its own"
                    )
        if self.representation == "fft" and self.scaling != "zscore":
            raise ParameterError(
                f"--scaling {self.scaling} has no effect with --representation fft, whose bins "
                "are z-scored one by one; leave it out"
            )
        if self.mixtures != SoundConfig.mixtures and self.loss != "mixture":
            raise ParameterError(f"--mixtures {self.mixtures} goes with --loss mixture")
        if self.loss == "mulaw" and self.representation == "fft":
            raise ParameterError(
                "--loss mulaw predicts sample codes; use --representation waveform with it"
            )
        if self.loss == "mulaw" and self.scaling != "zscore":
            raise ParameterError(
                f"--scaling {self.scaling} has no effect with --loss mulaw, which reads the codes "
                "themselves; leave it out"
            )
        if self.predictor and (self.representation == "fft" or self.loss == "mulaw"):
            raise ParameterError(
                f"--predictor {self.predictor} works on scaled samples; "
                "leave it out with --representation fft and with --loss mulaw"
            )

    @property
    def predictor_order(self) -> int:
        """Past samples in the linear prediction, decided."""
        if self.predictor is not None:
            return self.predictor
        if self.model == "duet":
            return GUIDE_ORDER
        return 1024 if (self.representation, self.loss) == ("waveform", "mixture") else 0


@dataclass(frozen=True)
class ConductorConfig:
    """The network that draws what the player follows (--model duet)."""

    codes: int = 512
    """spectra in the conductor's vocabulary, at most"""
    conductor_hidden: int = 256
    """units of the conductor"""
    conductor_dropout: float = 0.6
    """share of the conductor's outputs that is dropped in training, 0 up to 1"""
    conductor_lr: float = 0.003
    """learning rate of the conductor at its highest"""
    conductor_steps: int = 300
    """training steps of the conductor, each four pieces of songs, at most"""

    def __post_init__(self) -> None:
        require_number("--codes", self.codes, "a number of codes", least=1, most=MOST_CODES)
        require_number("--conductor-hidden", self.conductor_hidden, "a number of units", least=1)
        require_share("--conductor-dropout", self.conductor_dropout, below=1)
        require_number("--conductor-lr", self.conductor_lr, "a learning rate", above=0)
        require_number("--conductor-steps", self.conductor_steps, "a number of steps", least=1)


@dataclass(frozen=True)
class PlayConfig:
    """What it plays."""

    seed: str = "perlin"
    """what it hears before it plays: perlin, random, song (an unseen one), or an audio FILE"""
    rng: int = 0
    """number that fixes every draw: first weights, order of songs, what is played"""
    seed_seconds: float = 2.0
    """seconds of seed that are read"""
    generate_seconds: Annotated[float, tyro.conf.arg(aliases=["--seconds"])] = 10.0
    """seconds of sound to play"""
    temperature: float = 1.0
    """below 1 calmer, above 1 wilder, 0 the likeliest (of a duet, of what the conductor writes)"""
    precision: Literal["float32", "int8"] = "float32"
    """recurrent weights when playing: int8 plays large networks twice as fast, almost as exactly"""
    count: int = 1
    """candidates to play; all are kept, ranked"""
    perlin_hz: float = 440.0
    """cells a second of the first octave of the Perlin noise, hertz"""
    perlin_octaves: int = 6
    """octaves of the Perlin noise, 1 to 12"""

    def __post_init__(self) -> None:
        require_number("--rng", self.rng, "a whole number", least=0, most=LARGEST_RNG)
        require_number(
            "--seed-seconds", self.seed_seconds, "a number of seconds", above=0, most=LONGEST_SEED_S
        )
        require_number("--generate-seconds", self.generate_seconds, "a number of seconds", above=0)
        require_number("--temperature", self.temperature, "a number", least=0)
        require_number("--count", self.count, "a number of candidates", least=1)
        require_number(
            "--perlin-hz", self.perlin_hz, "a frequency", above=0, most=HIGHEST_PERLIN_HZ
        )
        require_number(
            "--perlin-octaves",
            self.perlin_octaves,
            "a number of octaves",
            least=1,
            most=MOST_PERLIN_OCTAVES,
        )
        if self.generate_seconds * self.count > LONGEST_PLAY_S:
            raise ParameterError(
                f"--generate-seconds {self.generate_seconds:g} × --count {self.count} must be at "
                f"most {LONGEST_PLAY_S} seconds; play more another time, with another --rng"
            )
        if self.count > 1 and self.temperature == 0:
            raise ParameterError(
                f"--count {self.count} goes with a --temperature above 0, where candidates differ; "
                "leave one of them out"
            )


@dataclass(frozen=True)
class AudioConfig:
    """A whole run: what ``config.json`` holds."""

    data: DataConfig = field(default_factory=DataConfig)
    sound: SoundConfig = field(default_factory=SoundConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    conductor: ConductorConfig = field(default_factory=ConductorConfig)
    fit: FitConfig = field(default_factory=FitConfig)
    play: PlayConfig = field(default_factory=PlayConfig)
    machine: MachineConfig = field(default_factory=MachineConfig)

    def __post_init__(self) -> None:
        if self.sound.model == "duet":
            return
        for setting in fields(self.conductor):
            value = getattr(self.conductor, setting.name)
            if value != setting.default:
                flag = setting.name.replace("_", "-")
                raise ParameterError(
                    f"--{flag} {value} goes with --model duet; the {self.sound.model} has no "
                    "conductor"
                )


DUET = AudioConfig(
    data=DataConfig(duration_s=None),
    sound=SoundConfig(model="duet"),
    fit=FitConfig(lr=0.006, training="windows", window_samples=2048),
)
STACK = AudioConfig()
FRAMES = replace(STACK, sound=SoundConfig(model="frames", representation="fft"))
MODELS = {"duet": DUET, "stack": STACK, "frames": FRAMES}
# what only the stack can be told
STACK_FLAGS = ("loss", "scaling", "predictor")

# The reference system N: mean squared error, fed back as it is. It collapses: that is the point.
CLASSIC = AudioConfig(
    data=DataConfig(duration_s=15.0),
    sound=SoundConfig(loss="mse"),
    model=ModelConfig(hidden=50),
    fit=FitConfig(lr=0.01, anneal=False),
    play=PlayConfig(temperature=0.0),
)

PRESETS = {
    "default": DUET,
    **MODELS,
    "classic": CLASSIC,
    "n7-lstm": replace(
        CLASSIC,
        data=DataConfig(songs=5, duration_s=15.0),
        model=ModelConfig(hidden=50, dropout=0.5),
    ),
    "n7-rnn": replace(
        CLASSIC,
        data=DataConfig(songs=5, duration_s=15.0),
        model=ModelConfig(cell="rnn", hidden=50, dropout=0.5),
    ),
    "n8": replace(
        CLASSIC,
        data=DataConfig(songs=5, duration_s=15.0),
        model=ModelConfig(hidden=512, layers=2),
    ),
    "mulaw": replace(STACK, sound=SoundConfig(loss="mulaw")),
    "windows": replace(STACK, fit=FitConfig(training="windows")),
}


@dataclass(frozen=True)
class TrainCommand:
    """``scripts/train.py``."""

    preset: str = "default"
    """named settings to start from; flags change them"""
    config_file: Annotated[Path | None, tyro.conf.arg(name="config")] = None
    """settings to start from, a config.json; flags change them"""
    run: str | None = None
    """name of the run's folder below runs/ (audio- and the time)"""
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """go on with --run where it stopped"""
    config: AudioConfig = DUET


@dataclass(frozen=True)
class GenerateCommand:
    """``scripts/generate.py``."""

    run: str
    """the run to play from, a folder below runs/"""
    out: Path | None = None
    """folder for the sounds (the run's audio/), or a file ending in .wav, .flac, .ogg or .mp3"""
    checkpoint: Literal["last", "best"] = "last"
    """state to play from: where training ended, or where unseen songs were told best"""
    play: PlayConfig = field(default_factory=PlayConfig)
    machine: MachineConfig = field(default_factory=MachineConfig)


def parse_train(arguments: list[str]) -> TrainCommand:
    """The command that ``scripts/train.py`` was given: a preset, a file or a run, then flags."""
    given = _look_ahead(arguments)
    sources = [
        flag
        for flag, is_given in (
            ("--preset", given.preset is not None),
            ("--config", given.config is not None),
            ("--resume", given.resume),
        )
        if is_given
    ]
    if len(sources) > 1:
        raise ParameterError(f"{' and '.join(sources)} each say where to start; give one of them")
    config = _model_asked_for(given)
    if given.preset is not None:
        config = preset(given.preset)
    elif given.config is not None:
        config = read_json(AudioConfig, given.config)
    elif given.resume and given.run:
        config = config_of(given.run)
    if given.training == "one-shot":  # without the windows that nobody asked for
        whole = replace(config.fit, training="one-shot", window_samples=None, batch=None)
        config = replace(config, fit=whole)
    return parse_command_line(
        TrainCommand,
        arguments,
        "Teach a recurrent network your songs, sample by sample, and hear it play on from a seed.",
        TrainCommand(config=config),
    )


def parse_generate(arguments: list[str]) -> GenerateCommand:
    """The command that ``scripts/generate.py`` was given; it plays as the run did, then flags."""
    given = _look_ahead(arguments)
    default = None
    if given.run is not None and not {"-h", "--help"} & set(arguments):
        config = config_of(given.run)
        default = GenerateCommand(run=given.run, play=config.play, machine=config.machine)
    about = "Play more sound from a run, judge it and draw it."
    return parse_command_line(GenerateCommand, arguments, about, default)


def _model_asked_for(given: argparse.Namespace) -> AudioConfig:
    """The settings of the model that the flags speak of."""
    if given.model in MODELS:
        return MODELS[given.model]
    if given.representation == "fft":
        return FRAMES
    own = to_dict(DUET.sound)
    asked = {flag: getattr(given, flag) for flag in STACK_FLAGS}
    return STACK if any(v not in (None, own[flag]) for flag, v in asked.items()) else DUET


def _look_ahead(arguments: list[str]) -> argparse.Namespace:
    """The flags that say which settings the others start from."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--preset")
    parser.add_argument("--config", type=Path)
    parser.add_argument("--run")
    parser.add_argument("--resume", action="store_true")
    for flag in ("model", "representation", "training", *STACK_FLAGS):
        parser.add_argument(f"--{flag}")
    try:
        return parser.parse_known_args(arguments)[0]
    except argparse.ArgumentError as error:
        raise ParameterError(f"{error}; --help lists every flag with its unit") from None


def config_of(run: str) -> AudioConfig:
    """The settings of a run that exists."""
    folder = run_folder(run)
    if not (folder / "config.json").is_file():
        raise RunError(f"{folder}: there is no such run; {known_runs()}")
    return read_json(AudioConfig, folder / "config.json")


def preset(name: str) -> AudioConfig:
    """The settings of a preset."""
    if name not in PRESETS:
        raise ParameterError(f"--preset {name} is unknown; there are {', '.join(PRESETS)}")
    return PRESETS[name]
