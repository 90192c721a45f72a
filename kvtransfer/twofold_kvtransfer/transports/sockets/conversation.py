"""What two sides say before anything moves: who is there, and what is wanted."""

import hmac
from collections.abc import Callable
from typing import Any

from twofold_kvtransfer.blocks import BlockMap, InvalidBlocksError, Move
from twofold_kvtransfer.transports.sockets.connection import Connection
from twofold_kvtransfer.transports.sockets.failing import Failure, TransferError
from twofold_kvtransfer.transports.sockets.wire import (
    ANSWER_BYTES,
    HELLO_BYTES,
    MAX_BLOCKS,
    REQUEST_BYTES,
    Answer,
    Direction,
    Hello,
    Request,
    Verdict,
    decode_answer,
    decode_blocks,
    decode_hello,
    decode_request,
)


def introduce(connection: Connection, address: Any, key: bytes, seconds: float) -> None:
    """Connect to who listens at *address*, and be let in by *key*, all within *seconds*. No
    wait later takes more than these, unless it is limited otherwise.

    Raises:
        TransferError: nobody is there, or it refuses.
    """
    with connection.within(seconds):
        connection.connect(address, seconds)
        connection.send_bytes(Hello(key).encode())
        expect(connection, Verdict.OK)


def let_in(connection: Connection, key: bytes, seconds: float) -> None:
    """Answer who introduces itself: it has to know *key*. The time is as in :func:`introduce`.

    Raises:
        TransferError: a stranger, or no greeting in time.
    """
    with connection.within(seconds):
        hello = decode_hello(connection.receive_bytes(HELLO_BYTES))
        if not hmac.compare_digest(hello.key, key):
            answer(connection, Verdict.REFUSED, "this is another incarnation")
            raise TransferError(Failure.REFUSED, "a key of another incarnation")
        answer(connection, Verdict.OK)


def answer(connection: Connection, verdict: Verdict, text: str = "", *, more: bool = False) -> None:
    """Say *verdict*; *more* says that bytes follow at once.

    Raises:
        TransferError: the peer has gone.
    """
    connection.send_bytes(Answer(verdict, text).encode(), more=more)


def expect(connection: Connection, *verdicts: Verdict) -> Verdict:
    """Return the answer, which is one of *verdicts*.

    Raises:
        TransferError: another answer came, or none.
    """
    heard = decode_answer(connection.receive_bytes(ANSWER_BYTES))
    if heard.verdict is Verdict.REFUSED:
        raise TransferError(Failure.REFUSED, heard.text)
    if heard.verdict is Verdict.CHECKSUM:
        raise TransferError(Failure.CHECKSUM, "what the peer received is not what was sent")
    if heard.verdict not in verdicts:
        raise TransferError(Failure.PROTOCOL, f"{heard.verdict.name}, which answers nothing here")
    return heard.verdict


def take_request(
    connection: Connection,
    here: BlockMap,
    *,
    why_not: Callable[[Request], str | None] = lambda _: None,
    when_damaged: Callable[[], None] = lambda: None,
) -> tuple[Request, list[int], int]:
    """Return what is asked, of which blocks of *here*, and the digest of both. It is not answered
    yet, unless it is refused.

    *why_not* says why a request cannot be served that *here* has all blocks for. *when_damaged* is
    called before the peer is told that its request is not what arrived.

    Raises:
        TransferError: the peer has gone, or its request is damaged, makes no sense or is refused.
    """
    try:
        head = connection.receive_bytes(REQUEST_BYTES)
        request, digest = decode_request(head)
        blocks = decode_blocks(head, connection.receive_bytes(4 * request.block_count))
    except TransferError as error:
        if error.failure is Failure.CHECKSUM:
            when_damaged()
            answer(connection, Verdict.CHECKSUM)
        raise
    reason = _why_outside(here, request, blocks) or why_not(request)
    if reason is not None:
        answer(connection, Verdict.REFUSED, reason)
        raise TransferError(Failure.REFUSED, reason)
    return request, blocks, digest


def why_not_written(request: Request, *, serves_writes: bool) -> str | None:
    """Return why *request* may not put blocks here; None: it may, or puts none."""
    if serves_writes or request.direction is not Direction.WRITE:
        return None
    return "blocks are only read from here"


def check_move(move: Move, local: BlockMap, remote: BlockMap) -> None:
    """Raises:
    InvalidBlocksError: one of the sides does not have the blocks, or they are too many to ask for.
    """
    local.check(move.local)
    remote.check(move.remote)
    if len(move.remote) > MAX_BLOCKS:
        raise InvalidBlocksError(f"{len(move.remote)} blocks in one move of {MAX_BLOCKS}")


def _why_outside(here: BlockMap, request: Request, blocks: list[int]) -> str | None:
    """Return what *request* wants of *blocks* that is not in *here*, None if all is."""
    if max(blocks) >= here.block_count:
        return f"block {max(blocks)} of {here.block_count}"
    if request.part_bytes < 1 or request.part_offset + request.part_bytes > here.block_bytes:
        return (
            f"bytes {request.part_offset} and {request.part_bytes} on"
            f" of blocks of {here.block_bytes}"
        )
    cell_count = len(blocks) * here.region_count
    if request.count < 1 or request.first + request.count > cell_count:
        return f"cells {request.first} and {request.count} on of {cell_count}"
    return None
