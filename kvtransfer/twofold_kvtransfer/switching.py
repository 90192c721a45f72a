"""Sharing Python's lock with the thread of the engine."""

import sys

SWITCH_SECONDS = 0.0005
"""How long a thread may hold Python's lock while another wants it. Python's own 5 ms are as long as
a transfer, which takes some turns of our thread."""


def switch_sooner() -> None:
    """Have the threads of this process give up Python's lock after ``SWITCH_SECONDS``."""
    sys.setswitchinterval(min(sys.getswitchinterval(), SWITCH_SECONDS))
