"""What an exchange says to its client, whatever carries it there."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from twofold_cluster.errors import RequestError, TwofoldError

JSON = "application/json"


class ClientGoneError(TwofoldError):
    """The client has closed its connection; nobody reads what is written."""


@dataclass(frozen=True, slots=True)
class WholeAnswer:
    """An answer that is sent in one piece."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Reply(Protocol):
    """The answer to one request: ``send`` once, or ``start``, ``write`` any number, ``finish``.

    All may raise ClientGoneError.
    """

    @property
    def started(self) -> bool:
        """True when the status can no longer be changed."""
        ...

    async def send(self, answer: WholeAnswer) -> None: ...

    async def start(self, status: int, headers: Mapping[str, str]) -> None: ...

    async def write(self, chunk: bytes) -> None: ...

    async def finish(self) -> None: ...

    def abort(self) -> None:
        """Close the connection at once, whatever was not read of it."""
        ...


def answer_of(error: RequestError) -> WholeAnswer:
    """Make the answer that tells a client of *error*."""
    headers = {"Content-Type": JSON}
    if error.retry_after_seconds is not None:
        headers["Retry-After"] = str(error.retry_after_seconds)
    return WholeAnswer(error.fault.status, headers, error.body())
