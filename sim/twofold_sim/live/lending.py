"""The side channel of an engine that lends: others ask it for blocks, and tell it when they have
read them.

vLLM's engines reach each other over ZMQ and NIXL. Here it is HTTP, with the same three things to
say: a handshake that names the engine, a heartbeat, and a note that all was read.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from twofold_router.http import Request, Responder
from twofold_sim.live.leases import Leases

LENT, READ, HEARTBEAT = "/lent", "/read", "/heartbeat"

OK, NO_SUCH_LEASE, ANOTHER_ENGINE = 200, 404, 409

_encode = msgspec.json.Encoder().encode


class Note(msgspec.Struct):
    """What a borrower says."""

    engine_id: str
    """Who it takes the lender for: an engine that was started again is another."""
    request_ids: list[str]
    block_numbers: list[int] = []
    """Of the only request, with ``LENT``."""


_decode = msgspec.json.Decoder(Note).decode


class Lending:
    """Answers borrowers. *release* frees the blocks of a request that was read."""

    def __init__(
        self,
        engine_id: str,
        leases: Leases,
        release: Callable[[str], None],
        clock: Callable[[], float],
    ) -> None:
        self._engine_id = engine_id
        self._leases = leases
        self._release = release
        self._clock = clock

    async def handle(self, request: Request, responder: Responder) -> None:
        """Answer *request*."""
        try:
            note = _decode(request.body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            _send(responder, 400, {"error": "no note"})
            return
        if note.engine_id != self._engine_id:
            _send(responder, ANOTHER_ENGINE, {"engine_id": self._engine_id})
        elif request.path == LENT:
            (request_id,) = note.request_ids
            is_lent = self._leases.is_lent(request_id, note.block_numbers)
            _send(responder, OK if is_lent else NO_SUCH_LEASE, {"lent": is_lent})
        elif request.path == READ:
            in_time = [self._leases.read(request_id) for request_id in note.request_ids]
            for request_id in note.request_ids:
                self._release(request_id)
            _send(responder, OK, {"in_time": in_time})
        elif request.path == HEARTBEAT:
            for request_id in note.request_ids:
                self._leases.renew(request_id, self._clock())
            _send(responder, OK, {})
        else:
            _send(responder, 404, {})


def encode_note(note: Note) -> bytes:
    return _encode(note)


def _send(responder: Responder, status: int, told: dict[str, Any]) -> None:
    responder.send(status, [(b"content-type", b"application/json")], _encode(told))
