"""What a gateway process is told on its command line, besides what its parent was told."""

from dataclasses import dataclass

GATEWAY_FLAG = "--gateway-process"
"""Takes an assignment, and makes a gateway process of what would be a router."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """One gateway process' number, and the descriptors that it has from its parent."""

    process: int
    """Counts up over the life of the router: a process that takes another's place is a new one."""
    listener: int
    """The socket that its clients connect to."""
    link: int
    """One end of a pair of Unix sockets; the placement process has the other."""

    def __str__(self) -> str:
        return f"{self.process},{self.listener},{self.link}"

    @classmethod
    def parse(cls, text: str) -> "Assignment":
        return cls(*map(int, text.split(",")))
