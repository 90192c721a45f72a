"""Become a command that does not outlive its parent.

``python -m twofold_cli.child PARENT_PID -- COMMAND``.
A wrapper around exec and not a ``preexec_fn``, which is unsafe in a process with threads. The
death signal survives the exec.
"""

import os
import sys

from twofold_kvtransfer.vllm_plugin import end_with_parent


def main() -> None:
    parent_pid, separator, *command = sys.argv[1:]
    assert separator == "--", sys.argv
    end_with_parent(int(parent_pid))
    os.execvp(command[0], command)  # noqa: S606  # no shell is wanted


if __name__ == "__main__":
    main()
