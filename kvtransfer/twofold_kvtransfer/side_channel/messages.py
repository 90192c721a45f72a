"""What two engine processes say to each other besides the blocks.

A frame is four bytes of length, big-endian, then one message in MessagePack. The reader of blocks
speaks first, and each of its messages has one answer. The first is :class:`Hello`; where there is a
secret of the service (``proving``), :class:`Challenge` and :class:`Proof` follow. Answers come in
the order of the messages, but for those to messages with a number, which carry it too and come when
they are made.
"""

import msgspec

from twofold_cluster.errors import TwofoldError
from twofold_kvtransfer.blocks import BlockMap
from twofold_kvtransfer.lease import Reader
from twofold_kvtransfer.unreadable import UNREADABLE

PROTOCOL_VERSION = 5

MAX_FRAME_BYTES = 16 * 2**20
"""NIXL describes each region of memory in some 100 bytes; the rest is small."""

MAX_HELLO_BYTES = 64 * 2**10
"""Of the first frame, which anybody can send."""

MAX_QUESTION_BYTES = 128 * 2**10
"""Of what a reader asks, of whom there are thousands: as much as asyncio buffers of a connection.
The longest is a :class:`Recheck`, some 84 KiB with the most names, each as long as may be."""

MAX_LEASES_PER_MESSAGE = 1024
"""Fewer, if their names would make the message longer than ``MAX_QUESTION_BYTES``."""

MAX_BLOCKS_PER_MESSAGE = 1024
"""Of those that digests are wanted of, or that are looked for by name; a multiple of
``digesting.BLOCKS_PER_DIGEST``."""

MAX_BLOCK_NAME_BYTES = 64
"""vLLM's hashes have 32 bytes or fewer."""


class ProtocolError(TwofoldError):
    """The peer does not speak as it must; the connection is of no more use."""


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag="hello"):
    """Who wants to read."""

    version: int = PROTOCOL_VERSION
    compatibility: str
    """Hash of all that both engines must have alike."""
    transport: str
    tensor_parallel: int
    block_bytes: int = 0
    """Of the reader's own blocks, in a region; with a default, so that an older version's hello can
    be refused for that."""
    reader: Reader
    nonce: bytes = b""
    """New with each greeting, for the holder's proof."""


class Proof(msgspec.Struct, frozen=True, tag="proof"):
    """That the reader knows the secret."""

    proof: bytes


class Welcome(msgspec.Struct, frozen=True, kw_only=True, tag="welcome"):
    """Who can be read from, and how."""

    worker: str
    incarnation: str
    blocks: BlockMap
    description: bytes
    """The transport's."""
    proof: bytes = b""
    """That the holder knows the secret; empty where there is none."""


class Challenge(msgspec.Struct, frozen=True, tag="challenge"):
    """What a :class:`Proof` is to be made of."""

    nonce: bytes


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


class Look(msgspec.Struct, frozen=True, tag="look"):
    """Say which blocks of the prefix cache have these names, at most ``MAX_BLOCKS_PER_MESSAGE``,
    each of at most ``MAX_BLOCK_NAME_BYTES``."""

    number: int
    names: list[bytes]
    """The engine's own hashes of a prompt's blocks, in the order of the prompt."""


class Seen(msgspec.Struct, frozen=True, tag="seen"):
    """The blocks that have the first of the names, up to the first name that no block has.

    They are computed, and nobody keeps them: whether they still are what they were,
    :class:`Recheck` tells.
    """

    number: int
    blocks: list[int]
    versions: list[int]
    """How often each was given to another content; for :class:`Recheck`."""


class Recheck(msgspec.Struct, frozen=True, tag="recheck"):
    """Say whether blocks have still these names, and whether they had all the time since they were
    :class:`Seen`; and digest them, if that is wanted."""

    number: int
    names: list[bytes]
    blocks: list[int]
    versions: list[int]
    digest: bool


class Rechecked(msgspec.Struct, frozen=True, tag="rechecked"):
    number: int
    unchanged: bool
    digests: list[int]
    """As of :class:`Digested`; of all blocks or none."""


class Unanswered(msgspec.Struct, frozen=True, tag="unanswered"):
    """Why there is no answer to the question of this number."""

    number: int
    reason: str


class GiveBack(msgspec.Struct, frozen=True, tag="give-back"):
    """These blocks were read, or nobody wants them any more."""

    request_ids: list[str]


class Done(msgspec.Struct, frozen=True, tag="done"):
    """What was asked has been done."""


Numbered = Digest | Look | Recheck
"""Questions whose answers take their time."""
NumberedAnswer = Digested | Seen | Rechecked | Unanswered
Unnumbered = Hello | Proof | Claim | GiveBack
Question = Unnumbered | Numbered
Answer = Welcome | Challenge | Refused | Claimed | Done | NumberedAnswer

_encode = msgspec.msgpack.Encoder().encode
_questions: msgspec.msgpack.Decoder[Question] = msgspec.msgpack.Decoder(Question)
_answers: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


def frame(message: Question | Answer) -> bytes:
    payload = _encode(message)
    most = MAX_QUESTION_BYTES if isinstance(message, Question) else MAX_FRAME_BYTES
    assert len(payload) <= most, len(payload)
    return len(payload).to_bytes(4, "big") + payload


def decode_question(payload: bytes) -> Question:
    """Raises:
    ProtocolError: it is no question of this protocol.
    """
    try:
        return _questions.decode(payload)
    except UNREADABLE as error:
        raise ProtocolError(f"not a question: {error}") from error


def decode_answer(payload: bytes) -> Answer:
    """Raises:
    ProtocolError: it is no answer of this protocol.
    """
    try:
        return _answers.decode(payload)
    except UNREADABLE as error:
        raise ProtocolError(f"not an answer: {error}") from error
