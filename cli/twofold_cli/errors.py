"""What ends a command: one line for the user, and an exit code."""

from typing import ClassVar

from twofold_cluster.errors import TwofoldError


class CliError(TwofoldError):
    """The root of what a command tells its user instead of a traceback."""

    exit_code: ClassVar[int] = 1


class BadArgumentError(CliError):
    """What was asked for cannot be, on any machine."""

    exit_code = 2


class CannotStartError(CliError):
    """The cluster did not start, or must not: something of this machine stands against it."""


class NotRunningError(CliError):
    """There is no cluster to talk to."""

    exit_code = 3
