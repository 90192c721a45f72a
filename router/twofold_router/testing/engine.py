"""An engine without a model. Its answers are tokens that tell their place: ``a0 a1 a2``."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import msgspec

from twofold_cluster.apis import Api
from twofold_cluster.errors import Fault, RequestError
from twofold_cluster.worker import Worker
from twofold_router.gateway.listening import listen, url_of
from twofold_router.http import HeaderPairs, RefusedError, Request, Responder, ServerLimits, serve
from twofold_router.static_workers.testing import Pages, vllm_pages
from twofold_router.testing.answers import Answer, died, events, failed_load, text_of, whole
from twofold_router.testing.received import BYTES_PER_TOKEN, Received

_JSON = (b"content-type", b"application/json")
_EVENT_STREAM = (b"content-type", b"text/event-stream; charset=utf-8")
_EMBEDDING = b"\0\0\x80?"
"""One number, as bytes."""

_PROMPT_APIS = frozenset(map(str, Api))


@dataclass(slots=True)
class Behaviour:
    """How an engine misbehaves; by default it does not."""

    refusal: Fault | None = None
    """Answer every request with this."""
    status: int | None = None
    """Answer every request as vLLM does with an error of this status."""
    drops: bool = False
    """Close the connection without an answer."""
    omits_params: bool = False
    fails_to_load: bool = False
    """Tell of a failed transfer as vLLM does in a stream."""
    omits_cached_tokens: bool = False
    """As without ``--enable-prompt-tokens-details``."""
    pull_seconds_per_token: float | None = None
    """Fetch from the source that leg 1 names, and tell this time of it. None: compute instead."""
    pieces: Sequence[bytes] | None = None
    """What a stream is instead of the usual."""
    cut_after_events: int | None = None
    """Close the connection in the middle of a stream; events before the first token count."""
    cuts_within_event: bool = False
    """Do so after half of the next event."""
    dies_after_events: int | None = None
    """Tell in the middle of a stream, as vLLM does, that the engine's core has died."""
    pause_after_events: int | None = None
    """Wait in the middle of a stream until the gate opens."""
    token_count: int = 3
    """Of an answer that nobody limits."""
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    """Closed: requests wait before they are answered."""

    def __post_init__(self) -> None:
        self.gate.set()


class FakeEngine:
    """Speaks as much of vLLM's API as a router uses.

    Blocks that leg 1 leaves are in ``leases`` until a leg 2 with their params comes to any engine
    of the same *network*. What it has computed is cached, by cache salt, and told as vLLM does.
    """

    def __init__(self, worker: Worker, network: "dict[str, FakeEngine]") -> None:
        self.worker = worker
        self.behaviour = Behaviour()
        self.received: list[Received] = []
        self.leases: set[str] = set()
        self.running = 0
        self.aborted = 0
        self.pages: Pages = vllm_pages(worker.model)
        """What it answers a GET with."""
        self._network = network
        self._serial = count(1)
        self._computed: dict[str | None, list[str]] = {}
        network[worker.worker_id] = self

    async def handle(self, request: Request, responder: Responder) -> None:
        """Answer *request*."""
        if request.method == "GET":
            status, page = self.pages.get(request.path, (404, b""))
            responder.send(status, (), page)
            return
        received = Received.of(request)
        self.received.append(received)
        self.running += 1
        try:
            await self.behaviour.gate.wait()
            await self._answer(received, responder)
        except asyncio.CancelledError:
            self.aborted += 1
            raise
        finally:
            self.running -= 1

    async def _answer(self, received: Received, responder: Responder) -> None:
        behaviour = self.behaviour
        if behaviour.drops:
            responder.abort()
        elif behaviour.refusal is not None:
            error = RequestError(behaviour.refusal, "refused")
            headers = [_JSON, (b"retry-after", b"7")]
            responder.send(behaviour.refusal.status, headers, error.body())
        elif behaviour.status is not None:
            _send_error(responder, behaviour.status, "as vLLM says")
        elif (encoding := str(received.body.get("encoding_format"))).startswith("bytes"):
            responder.send(200, _bytes_headers(encoding), _EMBEDDING)
        elif received.path not in _PROMPT_APIS:
            told = {"by": self.worker.worker_id, "path": received.path}
            responder.send(200, [_JSON], msgspec.json.encode(told))
        elif received.is_contradictory:
            _send_error(responder, 400, "Cannot set both")
        elif received.follows:
            await asyncio.Event().wait()  # until it is left
        else:
            await self._answer_prompt(received, responder)

    async def _answer_prompt(self, received: Received, responder: Responder) -> None:
        api = Api(received.path)
        self._read_blocks(received)
        if not received.body.get("stream"):
            pulled_tokens = self._pull(received)
            params = self._leave_blocks(pulled_tokens) if received.is_leg_1 else None
            more = {"by": self.worker.worker_id, "kv_transfer_params": params}
            responder.send(200, [_JSON], whole(api, self._generate(received), **more))
        elif self.behaviour.fails_to_load and received.params:
            await self._stream(tuple(failed_load(api)), responder)
        else:
            asks_for_usage = (received.body.get("stream_options") or {}).get("include_usage")
            answer = self._generate(received)
            told = tuple(events(api, answer, tells_usage=bool(asks_for_usage)))
            if self.behaviour.dies_after_events is not None:
                told = (*told[: self.behaviour.dies_after_events], *died(api))
            await self._stream(self.behaviour.pieces or told, responder)

    def _generate(self, received: Received) -> Answer:
        first = received.told_count
        end = self.behaviour.token_count
        limit = received.output_limit
        is_cut_short = limit is not None and first + limit < end
        if limit is not None:
            end = min(end, first + limit)
        serial = next(self._serial)
        prompt_tokens, cached_tokens = self._compute(received)
        return Answer(
            answer_id=f"{self.worker.worker_id}-{serial}",
            created_at=1_700_000_000 + serial,
            model=self.worker.model,
            texts=tuple(text_of(number, number + 1) for number in range(first, end)),
            is_cut_short=is_cut_short,
            prompt_tokens=prompt_tokens,
            cached_tokens=None if self.behaviour.omits_cached_tokens else cached_tokens,
        )

    def _compute(self, received: Received) -> tuple[int, int]:
        """Return how many tokens the prompt has, and how many of them were cached."""
        tokens = len(received.prompt) // BYTES_PER_TOKEN + 1
        is_leg_2 = received.params and not received.is_leg_1
        cached = self._round(tokens, tokens) if is_leg_2 else self._cached_tokens(received)
        self._computed.setdefault(received.body.get("cache_salt"), []).append(received.prompt)
        return tokens, cached

    def _cached_tokens(self, received: Received) -> int:
        prompt = received.prompt
        computed = self._computed.get(received.body.get("cache_salt"), ())
        shared = max((_shared_size(prompt, known) for known in computed), default=0)
        return self._round(shared // BYTES_PER_TOKEN, len(prompt) // BYTES_PER_TOKEN + 1)

    def _round(self, cached_tokens: int, prompt_tokens: int) -> int:
        """Return how many of *cached_tokens* are of use: whole blocks, and not the last token."""
        block = self.worker.kv_block_tokens
        return min(cached_tokens, prompt_tokens - 1) // block * block

    def _pull(self, received: Received) -> int:
        """Fetch what the named source has more than this engine; return how many tokens."""
        named = received.params.get("prefix_source")
        if named is None or self.behaviour.pull_seconds_per_token is None:
            return 0
        engines = self._network.values()
        source = next((e for e in engines if e.worker.engine_id == named["engine_id"]), None)
        own = self._cached_tokens(received)
        held = source._cached_tokens(received) if source else 0  # noqa: SLF001 - as a peer does
        if held <= own:
            return 0
        prefix = received.prompt[: held * BYTES_PER_TOKEN]
        self._computed.setdefault(received.body.get("cache_salt"), []).append(prefix)
        return held - own

    def _read_blocks(self, received: Received) -> None:
        source = self._network.get(str(received.params.get("remote_engine_id")))
        if source is not None:
            source.leases.discard(str(received.params["remote_request_id"]))

    def _leave_blocks(self, pulled_tokens: int) -> dict[str, Any] | None:
        if self.behaviour.omits_params:
            return None
        told: dict[str, Any] = {}
        if pulled_tokens:
            seconds = pulled_tokens * (self.behaviour.pull_seconds_per_token or 0.0)
            told = {"prefix_tokens": pulled_tokens, "prefix_seconds": seconds}
        lease = f"{self.worker.worker_id}-lease-{next(self._serial)}"
        self.leases.add(lease)
        return told | {
            "do_remote_prefill": True,
            "do_remote_decode": False,
            "remote_engine_id": self.worker.worker_id,
            "remote_request_id": lease,
            "remote_block_ids": [[1, 2]],
            "remote_host": "127.0.0.1",
            "remote_port": 5600,
        }

    async def _stream(self, pieces: Sequence[bytes], responder: Responder) -> None:
        behaviour = self.behaviour
        responder.start(200, [_EVENT_STREAM])
        for number, piece in enumerate(pieces):
            if number == behaviour.cut_after_events:
                if behaviour.cuts_within_event:
                    responder.write(piece[: len(piece) // 2])
                    await responder.drain()
                responder.abort()
                return
            if number == behaviour.pause_after_events:
                behaviour.gate.clear()
                await behaviour.gate.wait()
            responder.write(piece)
            await responder.drain()
        responder.finish()


@asynccontextmanager
async def serve_engine(engine: FakeEngine, *, port: int = 0) -> AsyncIterator[FakeEngine]:
    """Serve *engine* on *port*, 0 for a free one; that becomes its worker's address."""
    listener = listen("127.0.0.1", port)
    engine.worker = msgspec.structs.replace(engine.worker, address=url_of(listener))
    async with serve(listener, engine.handle, ServerLimits(), _refusal, drain_seconds=0.05):
        yield engine


def _bytes_headers(encoding: str) -> HeaderPairs:
    """Return the headers of embeddings that vLLM sends as bytes."""
    headers = [(b"content-type", b"application/octet-stream")]
    if encoding == "bytes":
        told = {"data": [{"shape": [1]}], "usage": {"prompt_tokens": 700, "total_tokens": 700}}
        headers.append((b"metadata", msgspec.json.encode(told)))
    return headers


def _send_error(responder: Responder, status: int, message: str) -> None:
    error = {"message": message, "type": "Bad", "param": None, "code": status}
    responder.send(status, [_JSON], msgspec.json.encode({"error": error}))


def _shared_size(one: str, other: str) -> int:
    """Return the length of what both begin with."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def _refusal(refused: RefusedError) -> tuple[HeaderPairs, bytes]:
    return (), f"{refused.kind}: {refused.message}".encode()
