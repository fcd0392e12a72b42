"""Render the embedded demo library again from its recipe: public-domain scores, a SoundFont."""

import argparse
import sys
from pathlib import Path

from noizenet.errors import NoizeNetError
from noizenet.sound.demo.recipe import render_demo

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for the FLAC files"
    )
    try:
        for path in render_demo(parser.parse_args().out):
            print(path)
    except NoizeNetError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(2)
