"""What can go wrong, in words the user can act on."""

import sys
from collections.abc import Callable
from io import TextIOWrapper


class NoizeNetError(Exception):
    """Base of every error that is the user's to mend: one line, no traceback, exit code 2."""


class ParameterError(NoizeNetError):
    """A flag, a key or an argument has a value that is not allowed."""


class FormatError(NoizeNetError):
    """A file is not what its name says, or is broken; the message starts with its path."""


class DataError(NoizeNetError):
    """The files can be read, but there is nothing in them to learn or to play from."""


class RunError(NoizeNetError):
    """A run's folder or checkpoint is missing, already taken, damaged or of another version."""


class TrainingError(NoizeNetError):
    """Training cannot go on; what was learned until then is kept."""


def exit_code_of(main: Callable[[], None]) -> int:
    """Run a script's ``main``; what the user can mend is one line on stderr and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal may not know all of our signs
    try:
        main()
    except NoizeNetError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    except (MemoryError, RuntimeError) as error:
        # torch has no exception of its own for a machine's memory, only for a GPU's
        if isinstance(error, RuntimeError) and "allocate" not in str(error):
            raise
        reason = (str(error).splitlines() or ["there is no more"])[0]
        print(f"MemoryError: {reason}; try a smaller --memory-gb or --hidden", file=sys.stderr)
        return 2
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"{type(error).__name__}: {where}{error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return 0
