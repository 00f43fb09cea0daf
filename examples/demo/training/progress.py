"""Progress lines, at once even when the output goes to a file."""

import sys


def say(line: str) -> None:
    """Write one line and flush it."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
