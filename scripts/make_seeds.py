"""Make the example seeds again: one short FLAC for each kind of seed."""

import argparse
import sys
from pathlib import Path

from noizenet.errors import NoizeNetError
from noizenet.sound.library import load_library
from noizenet.sound.seeds import SEED_KINDS, make_seed
from noizenet.sound.song import write_song
from noizenet.units import db_to_amplitude, seconds_to_samples

SEEDS_FOLDER = Path(__file__).parent.parent / "seeds"
DURATION_S = 3.0
NOISE_LEVEL_DB = -18.0  # RMS; the peaks of three seconds of Gaussian noise stay below -3 dBFS
RNG = 5


def make_seeds(folder: Path) -> list[Path]:
    """Write ``<kind>.flac`` for each kind of seed into an existing folder."""
    unseen = load_library("demo", None, None, valid_fraction=0.1).unseen
    rms = float(db_to_amplitude(NOISE_LEVEL_DB))
    paths = []
    for kind in SEED_KINDS:
        seed = make_seed(kind, seconds_to_samples(DURATION_S), RNG, rms, unseen)
        path = Path(folder) / f"{kind}.flac"
        write_song(path, seed.samples)
        print(f"{path}: {seed.name}")
        paths.append(path)
    return paths


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--out", type=Path, default=SEEDS_FOLDER, metavar="DIR", help="default: %(default)s"
    )
    try:
        make_seeds(parser.parse_args().out)
    except NoizeNetError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(2)
