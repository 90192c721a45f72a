"""What two engine processes say to each other besides the blocks.

A frame is four bytes of length, big-endian, then one message in MessagePack. The reader of blocks
speaks first, and each of its messages has one answer. The first is :class:`Hello`. Answers come in
the order of the messages, but for those to :class:`Digest`, which carry its number and come when
they are made.
"""

import msgspec

from twofold_cluster.errors import TwofoldError
from twofold_kvtransfer.blocks import BlockMap, InvalidBlocksError
from twofold_kvtransfer.leases import Reader

PROTOCOL_VERSION = 2

MAX_FRAME_BYTES = 16 * 2**20
"""NIXL describes each region of memory in some 100 bytes; the rest is small."""

MAX_HELLO_BYTES = 64 * 2**10
"""Of the first frame, which anybody can send."""

MAX_LEASES_PER_MESSAGE = 1024
"""With names as long as ``sources.MAX_NAME_LENGTH`` these fit into a frame."""


MAX_BLOCKS_PER_MESSAGE = 1024
"""Of those that digests are wanted of; a multiple of ``digesting.BLOCKS_PER_DIGEST``."""


class ProtocolError(TwofoldError):
    """The peer does not speak as it must; the connection is of no more use."""


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag="hello"):
    """Who wants to read."""

    version: int = PROTOCOL_VERSION
    compatibility: str
    """Hash of all that both engines must have alike."""
    transport: str
    tensor_parallel: int
    reader: Reader


class Welcome(msgspec.Struct, frozen=True, kw_only=True, tag="welcome"):
    """Who can be read from, and how."""

    worker: str
    incarnation: str
    blocks: BlockMap
    description: bytes
    """The transport's."""


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """Why nothing can be read from here by this reader; the connection ends."""

    reason: str


class Claim(msgspec.Struct, frozen=True, tag="claim"):
    """Renew leases, at most ``MAX_LEASES_PER_MESSAGE``."""

    request_ids: list[str]


class Claimed(msgspec.Struct, frozen=True, tag="claimed"):
    """For how many seconds each is held from when the claim was sent; None: it is not."""

    seconds: list[float | None]


class Digest(msgspec.Struct, frozen=True, tag="digest"):
    """Digest what these blocks hold, at most ``MAX_BLOCKS_PER_MESSAGE``; and renew their lease.

    Of each block what the reader's rank reads is meant, which its :class:`Hello` tells.
    """

    number: int
    """The reader's, for the answer."""
    request_id: str
    blocks: list[int]


class Digested(msgspec.Struct, frozen=True, tag="digested"):
    """See ``digesting``: a digest for some blocks at a time, in order."""

    number: int
    digests: list[int]


class Undigested(msgspec.Struct, frozen=True, tag="undigested"):
    """Why there are no digests."""

    number: int
    reason: str


class GiveBack(msgspec.Struct, frozen=True, tag="give-back"):
    """These blocks were read, or nobody wants them any more."""

    request_ids: list[str]


class Done(msgspec.Struct, frozen=True, tag="done"):
    """What was asked has been done."""


Question = Hello | Claim | Digest | GiveBack
Answer = Welcome | Refused | Claimed | Digested | Undigested | Done

_encode = msgspec.msgpack.Encoder().encode
_questions: msgspec.msgpack.Decoder[Question] = msgspec.msgpack.Decoder(Question)
_answers: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)

_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, InvalidBlocksError)
"""What decoding a stranger's bytes raises: of msgspec, of text, of nesting, of a block map."""


def frame(message: Question | Answer) -> bytes:
    payload = _encode(message)
    assert len(payload) <= MAX_FRAME_BYTES, len(payload)
    return len(payload).to_bytes(4, "big") + payload


def decode_question(payload: bytes) -> Question:
    """Raises:
    ProtocolError: it is no question of this protocol.
    """
    try:
        return _questions.decode(payload)
    except _UNREADABLE as error:
        raise ProtocolError(f"not a question: {error}") from error


def decode_answer(payload: bytes) -> Answer:
    """Raises:
    ProtocolError: it is no answer of this protocol.
    """
    try:
        return _answers.decode(payload)
    except _UNREADABLE as error:
        raise ProtocolError(f"not an answer: {error}") from error
