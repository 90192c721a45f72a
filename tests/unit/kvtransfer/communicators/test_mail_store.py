"""The store that two ranks of a group find each other with, over a mailbox."""

from collections import deque

import pytest

from twofold_kvtransfer.communicators.mail_store import MailStore
from twofold_kvtransfer.transports.sockets.failing import Failure, TransferError


class Mailbox:
    """One of two ends; what one puts the other takes."""

    def __init__(self, out: deque[bytes], into: deque[bytes]) -> None:
        self._out = out
        self._into = into

    def put(self, message: bytes) -> None:
        self._out.append(message)

    def take(self) -> bytes:
        if not self._into:
            raise TransferError(Failure.TIMEOUT, "no letter")
        return self._into.popleft()

    def has_ended(self) -> bool:
        return False


Stores = tuple[MailStore, MailStore, deque[bytes]]


@pytest.fixture
def stores() -> Stores:
    """Return two, and the letters on their way to the first."""
    to_first: deque[bytes] = deque()
    to_second: deque[bytes] = deque()
    return (
        MailStore(Mailbox(to_second, to_first)),
        MailStore(Mailbox(to_first, to_second)),
        to_first,
    )


def test_what_one_sets_both_get_in_any_order(stores: Stores) -> None:
    first, second, _ = stores
    first.set("a", b"1")
    first.set("b", b"2")

    assert [first.get("a"), second.get("b"), second.get("a")] == [b"1", b"2", b"1"]


def test_a_wait_is_for_all_the_keys(stores: Stores) -> None:
    first, second, _ = stores
    first.set("a", b"1")
    second.wait(["a"])
    with pytest.raises(TransferError, match="no letter"):
        second.wait(["a", "b"])

    assert str(second.failure) == "timeout: no letter"


def test_what_is_no_entry_is_a_failure(stores: Stores) -> None:
    first, _, to_first = stores
    to_first.append(b"\xc1")
    with pytest.raises(TransferError, match="not an entry"):
        first.get("a")

    assert first.failure is not None
    assert first.failure.failure is Failure.PROTOCOL
