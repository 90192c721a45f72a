"""What PyTorch makes a group with, over a mailbox instead of a server of its own."""

from datetime import timedelta

import msgspec
from torch.distributed import Store

from twofold_kvtransfer.transports.sockets.failing import Failure, TransferError
from twofold_kvtransfer.transports.two_sided import Mailbox


class _Entry(msgspec.Struct, frozen=True):
    key: str
    value: bytes


class MailStore(Store):  # type: ignore[misc] # PyTorch has no types for mypy here
    """What one rank sets it tells the other; used by one thread, until the group is made.

    PyTorch passes on what goes wrong in it as an error of its own; ``failure`` is what it was.
    """

    def __init__(self, mailbox: Mailbox) -> None:
        super().__init__()
        self.failure: TransferError | None = None
        self._mailbox = mailbox
        self._known: dict[str, bytes] = {}

    def set(self, key: str, value: bytes) -> None:
        self._known[key] = value
        try:
            self._mailbox.put(msgspec.msgpack.encode(_Entry(key, value)))
        except TransferError as error:
            self.failure = error
            raise

    def get(self, key: str) -> bytes:
        while key not in self._known:
            self._learn()
        return self._known[key]

    def wait(self, keys: list[str], timeout: timedelta | None = None) -> None:
        """Wait for all *keys*, each for as long as the mailbox waits."""
        for key in keys:
            self.get(key)

    def _learn(self) -> None:
        try:
            entry = msgspec.msgpack.decode(self._mailbox.take(), type=_Entry)
        except TransferError as error:
            self.failure = error
            raise
        except msgspec.DecodeError as error:
            self.failure = TransferError(Failure.PROTOCOL, f"not an entry of a store: {error}")
            raise self.failure from error
        self._known[entry.key] = entry.value
