"""Where ``twofold`` begins: to import its commands takes a second, in which Ctrl-C may come."""

import sys

INTERRUPTED = 130
"""What a shell says of a command that SIGINT has ended."""


def main() -> None:
    """Run the command."""
    try:
        from twofold_cli.__main__ import main as run
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    run()
