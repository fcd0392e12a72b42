#!/usr/bin/env python
"""Play more sound from a run: `python scripts/generate.py --help`."""

import sys

from noizenet.audio.config import parse_generate
from noizenet.errors import exit_code_of


def main() -> None:
    command = parse_generate(sys.argv[1:])
    from noizenet.audio.playing import generate  # torch is loaded here

    generate(command)


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
