#!/usr/bin/env python
"""Score runs and sounds, side by side: `python scripts/score.py --help`."""

import sys

from noizenet.audio.score_command import parse_score
from noizenet.errors import exit_code_of


def main() -> None:
    command = parse_score(sys.argv[1:])
    from noizenet.audio.scoring import score_things  # torch is loaded here

    score_things(command)


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
