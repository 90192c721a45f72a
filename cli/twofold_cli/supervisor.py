"""The process that a local cluster lives in.

As a program, ``python -m twofold_cli.supervisor DIRECTORY LOCK`` is the detached cluster: it reads
its settings from the state directory and inherits the lock on it as the descriptor LOCK.
"""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from twofold_cli.errors import CliError
from twofold_cli.logs import log_to
from twofold_cli.settings import Settings
from twofold_cli.state import ClusterState, StateDirectory
from twofold_cli.supervising import Supervisor

SETTINGS_FILE = "settings.json"

_log = logging.getLogger(__name__)


async def supervise(
    settings: Settings,
    directory: StateDirectory,
    *,
    on_change: Callable[[ClusterState], None] = lambda state: None,
) -> None:
    """Run a cluster until SIGTERM, SIGINT or SIGHUP; a second one ends it without any grace.

    Raises:
        CannotStartError: it never became ready and will not.
    """
    supervisor = Supervisor(settings, directory, on_change=on_change)
    loop = asyncio.get_running_loop()
    # What whoever started this had ignored stays so: that is what nohup does.
    known = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    signals = [number for number in known if signal.getsignal(number) is not signal.SIG_IGN]
    for number in signals:
        loop.add_signal_handler(number, supervisor.stop)
    try:
        await supervisor.run()
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


def main() -> None:
    directory = StateDirectory(Path(sys.argv[1]))
    # Inherited for as long as this process lives, and by none of its children.
    os.set_inheritable(int(sys.argv[2]), False)
    log_to(directory.log("supervisor"))
    settings = msgspec.json.decode((directory.path / SETTINGS_FILE).read_bytes(), type=Settings)
    try:
        asyncio.run(supervise(settings, directory))
    except CliError as error:
        _log.error("failed", extra={"reason": str(error)})
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
