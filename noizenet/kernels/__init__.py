"""The fast loops, and beside them the plain ones they must equal.

Compiled code is kept on disk. Numba renews it when the file of the compiled function changes, but
not when a file changes whose functions were inlined into it; so the cache's folder is named by
the contents of all of them.
"""

import hashlib
import os
from pathlib import Path

import numba

_HERE = Path(__file__).parent


def _cache_folder() -> Path:
    """Beside the kernels where that can be written, else in the user's cache."""
    sources = b"".join(path.read_bytes() for path in sorted(_HERE.glob("*.py")))
    digest = hashlib.sha256(sources).hexdigest()[:12]
    beside = _HERE / "__pycache__"
    writable = os.access(beside if beside.exists() else _HERE, os.W_OK)
    return (beside if writable else Path.home() / ".cache" / "noizenet") / digest


if not numba.config.CACHE_DIR:  # the user's NUMBA_CACHE_DIR wins
    numba.config.CACHE_DIR = str(_cache_folder())
