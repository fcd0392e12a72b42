"""What can go wrong, in words the user can act on."""

import sys
from collections.abc import Callable


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
    try:
        main()
    except NoizeNetError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    except MemoryError as error:
        print(f"MemoryError: {error}; try a smaller --memory-gb or --hidden", file=sys.stderr)
        return 2
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"{type(error).__name__}: {where}{error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return 0
