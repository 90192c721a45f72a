"""Become a command that does not outlive its parent.

``python -m twofold_cli.child PARENT_PID -- COMMAND``.
A wrapper around exec and not a ``preexec_fn``, which is unsafe in a process with threads. The
death signal survives the exec.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def end_with_parent(parent_pid: int) -> None:
    """Have the kernel kill this process when the process *parent_pid* that started it dies."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent_pid:  # it died before the kernel knew
        sys.exit(1)


def main() -> None:
    parent_pid, separator, *command = sys.argv[1:]
    assert separator == "--", sys.argv
    end_with_parent(int(parent_pid))
    os.execvp(command[0], command)  # noqa: S606  # no shell is wanted


if __name__ == "__main__":
    main()
