#!/usr/bin/env python
"""Teach a recurrent network your songs and hear it play on: `python scripts/train.py --help`."""

import sys

from noizenet.audio.config import parse_train
from noizenet.errors import exit_code_of


def main() -> None:
    command = parse_train(sys.argv[1:])
    from noizenet.audio.train import train  # torch is loaded here, after --help has answered

    train(command.config, command.run, command.resume)


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
