#!/usr/bin/env python
"""Measure training, playing and preparing against torch and librosa, and print the tables."""

import argparse
import sys
from pathlib import Path

from noizenet.errors import ParameterError, exit_code_of
from noizenet.files import write_text


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the version of about a minute")
    parser.add_argument("--threads", type=int, metavar="N", help="besides one thread (all)")
    parser.add_argument(
        "--memory-gb", type=float, default=1.5, metavar="GB",
        help="gigabytes for the history of a pass, in the part on growth (1.5)",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, metavar="FILE",
        help="write the tables here too, as Markdown, and a picture growth.png beside it",
    )  # fmt: skip
    return parser.parse_args()


def main() -> None:
    wanted = parse()
    if wanted.threads is not None and wanted.threads < 1:
        raise ParameterError(
            f"--threads {wanted.threads} must be a number of threads of at least 1"
        )
    if not wanted.memory_gb > 0:
        raise ParameterError(f"--memory-gb {wanted.memory_gb:g} must be above 0")
    if wanted.out is not None and not wanted.out.parent.is_dir():
        raise ParameterError(f"--out {wanted.out}: {wanted.out.parent} is not a folder")
    import torch  # here, after --help has answered

    from noizenet.benchmarks.everything import run_all
    from noizenet.benchmarks.plan import FULL, QUICK

    if wanted.threads is not None:
        torch.set_num_threads(wanted.threads)
    picture = None if wanted.out is None else wanted.out.with_name("growth.png")
    text = run_all(QUICK if wanted.quick else FULL, picture, wanted.memory_gb)
    if wanted.out is not None:
        write_text(wanted.out, text)


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
