"""The life of one request, from its place to its last byte (DESIGN, "The life of a request")."""

import asyncio
from collections.abc import Awaitable
from dataclasses import replace

from twofold_cluster.errors import Fault, RequestError, error_events
from twofold_cluster.identity import WorkerId
from twofold_cluster.legs import decode_leg, local_leg, why_inseparable
from twofold_router.gateway.parsing import Call
from twofold_router.gateway.prefilling import Prefilled, PrefillOutcome, Rejected, prefill
from twofold_router.gateway.releasing import release, release_when_over
from twofold_router.gateway.reply import ClientGoneError, Reply, WholeAnswer
from twofold_router.gateway.resources import Resources
from twofold_router.gateway.tickets import Ticket
from twofold_router.gateway.upstream import (
    Answer,
    AnswerTooLargeError,
    BrokenError,
    UnreachableError,
)
from twofold_router.gateway.verdicts import Failed, Final, Verdict, judge_answer, judge_error
from twofold_router.metrics import Leg
from twofold_router.placement import Dispatch, PlacementRequest, Reason

LAST_WORDS_SECONDS = 5.0
"""For the end of a stream whose client may have stopped to read."""

_ERROR_EVENT = b'data: {"error"'


class Exchange:
    """One request between its client and its workers. Used once.

    Invariant: ``_owed`` is set exactly while leg 1 has left blocks that no decode worker was asked
    to read. Whatever ends the exchange, they are released.
    """

    def __init__(self, resources: Resources, call: Call, reply: Reply) -> None:
        self.dispatch: Dispatch | None = None
        self._resources = resources
        self._settings = resources.settings
        self._metrics = resources.metrics
        self._call = call
        self._reply = reply
        self._avoid: frozenset[WorkerId] = frozenset()
        self._prefilled: Prefilled | None = None
        self._owed: Prefilled | None = None

    async def run(self) -> None:
        """Serve the request to its end.

        Raises:
            RequestError: it is to be answered with this error; nothing was sent yet.
            ClientGoneError: nobody listens any more.
        """
        request = self._placement_request()
        timeout = asyncio.timeout(request.deadline_at - self._resources.dispatcher.now())
        with self._resources.dispatcher.ticket(request) as ticket:
            try:
                async with timeout:
                    await self._serve(ticket)
            except TimeoutError:
                if not timeout.expired():
                    raise
                await self._tell_too_late()
            finally:
                self._release_owed()

    def headers(self) -> dict[str, str]:
        """Return those that tell the client how its request is served."""
        dispatch = self.dispatch
        if dispatch is None:
            return {}
        headers = {"x-twofold-mode": dispatch.mode, "x-twofold-decode": dispatch.decode.worker_id}
        if dispatch.prefill is not None:
            headers["x-twofold-prefill"] = dispatch.prefill.worker_id
        if dispatch.reason is not None:
            headers["x-twofold-reason"] = dispatch.reason
        return {name: str(value) for name, value in headers.items()}

    def _placement_request(self) -> PlacementRequest:
        call = self._call
        return PlacementRequest(
            request_id=call.request_id,
            model=call.model,
            prompt_bytes=call.size_bytes,
            separable=why_inseparable(call.api, call.body) is None,
            arrived_at=call.arrived_at,
            deadline_at=call.arrived_at + self._settings.request_timeout_seconds,
        )

    async def _serve(self, ticket: Ticket) -> None:
        await self._take_place(ticket.place())
        attempt = 0
        while self.dispatch and self.dispatch.prefill and self._prefilled is None:
            attempt += 1
            outcome = await self._leg_1(ticket, self.dispatch)
            if isinstance(outcome, Prefilled):
                self._prefilled = self._owed = outcome
            elif isinstance(outcome, Rejected):
                return await self._send(outcome.answer)
            else:
                reason = outcome.reason if outcome else Reason.PREFILL_FAILED
                await self._after_failed_prefill(ticket, self.dispatch, reason, attempt)
        return await self._leg_2(ticket)

    async def _take_place(self, place: Awaitable[Dispatch]) -> None:
        with self._metrics.queue():
            self.dispatch = await place

    async def _leg_1(self, ticket: Ticket, dispatch: Dispatch) -> PrefillOutcome | None:
        """Run leg 1 in the background: once begun, it is finished, so that its blocks are known."""
        assert dispatch.prefill is not None
        background = self._resources.background
        leg_1 = background.start(prefill(self._resources, self._call, ticket, dispatch.prefill))
        ticket.hold_for(leg_1)
        try:
            return await asyncio.shield(leg_1)
        except asyncio.CancelledError:
            background.start(release_when_over(self._resources, self._call, leg_1, dispatch.decode))
            raise

    async def _after_failed_prefill(
        self, ticket: Ticket, dispatch: Dispatch, reason: Reason, attempt: int
    ) -> None:
        assert dispatch.prefill is not None
        another = reason is not Reason.INVALID_PARAMS and attempt < self._settings.max_attempts
        if reason is not Reason.INVALID_PARAMS:
            self._avoid |= {dispatch.prefill.worker_id}
        self._metrics.retry(Leg.PREFILL)
        await self._take_place(ticket.place_again(reason, self._avoid, separable=another))

    async def _leg_2(self, ticket: Ticket) -> None:
        """Try decode workers until one answers, or nobody is left: then the last error counts."""
        attempts_left = self._settings.max_attempts
        while (verdict := await self._decode()) is not None:
            attempts_left -= 1
            is_over = isinstance(verdict, Final) or attempts_left == 0
            if is_over or not await self._find_another(ticket, verdict):
                return await self._send(verdict.answer)
            self._metrics.retry(Leg.DECODE)
        return None

    async def _decode(self) -> Verdict | None:
        """Send leg 2 and relay its answer; return a verdict if nothing was relayed."""
        assert self.dispatch is not None
        worker = self.dispatch.decode
        try:
            with self._metrics.leg(Leg.DECODE):
                verdict = await self._ask_decode(self.dispatch)
        except (UnreachableError, BrokenError, AnswerTooLargeError) as error:
            verdict = judge_error(error)
            if isinstance(error, UnreachableError):
                self._resources.dispatcher.suspect(worker)
        if verdict is not None:
            self._owed = self._prefilled
            kind = "rejected" if isinstance(verdict, Final) else verdict.kind
            self._metrics.upstream_error(Leg.DECODE, kind)
        return verdict

    async def _ask_decode(self, dispatch: Dispatch) -> Verdict | None:
        call = self._call
        body = decode_leg(call.body, self._prefilled.params) if self._prefilled else None
        async with self._resources.upstream.post(
            dispatch.decode,
            call.api,
            local_leg(call.body) if body is None else body,
            call.request_id,
            on_sent=self._settle,
        ) as answer:
            if answer.status >= 300:
                raw = await answer.read(self._settings.max_answer_bytes)
                return judge_answer(answer.status, answer.headers, raw)
            if answer.is_stream:
                return await self._relay_stream(answer)
            raw = await answer.read(self._settings.max_answer_bytes)
            await self._send(WholeAnswer(answer.status, answer.headers, raw))
        return None

    async def _relay_stream(self, answer: Answer) -> Verdict | None:
        """Pass the chunks on. The status is sent with the first of them, and not before: until
        then another worker may answer instead. So it may when the first is an error, as vLLM
        tells of a transfer that failed; that is a verdict."""
        chunk = b""
        try:
            async for chunk in answer.chunks():
                if not self._reply.started:
                    if chunk.startswith(_ERROR_EVENT):
                        return judge_answer(500, answer.headers, _data_of(chunk))
                    self._metrics.ttft(self._resources.dispatcher.now() - self._call.arrived_at)
                    await self._reply.start(answer.status, {**answer.headers, **self.headers()})
                await self._reply.write(chunk)
        except BrokenError as error:
            if not self._reply.started:
                raise
            self._metrics.upstream_error(Leg.DECODE, "cut")
            await self._end_stream(RequestError(Fault.ENGINE_FAILED, str(error)), chunk)
            return None
        if not self._reply.started:
            raise BrokenError(f"{answer.worker_id} sent an empty stream")
        await self._reply.finish()
        return None

    async def _find_another(self, ticket: Ticket, verdict: Verdict) -> bool:
        """Take a place at another decode worker. Returns False if there is none."""
        assert self.dispatch is not None
        if self._prefilled is not None and isinstance(verdict, Failed):
            return await self._compute_again(ticket, self.dispatch, verdict)
        self._avoid |= {self.dispatch.decode.worker_id}
        worker = ticket.move_decode(self._avoid)
        if worker is None:
            return False
        self.dispatch = replace(self.dispatch, decode=worker)
        return True

    async def _compute_again(self, ticket: Ticket, dispatch: Dispatch, verdict: Failed) -> bool:
        """Go on without the blocks, which may be half read. An engine that answered can still
        compute the prompt itself; one that broke the connection is probably dead."""
        if verdict.kind == "broken":
            self._avoid |= {dispatch.decode.worker_id}
        self._release_owed()
        self._prefilled = None
        place = ticket.place_again(Reason.TRANSFER_FAILED, self._avoid, separable=False)
        try:
            await self._take_place(place)
        except RequestError:
            return False
        return True

    def _settle(self) -> None:
        self._owed = None

    def _release_owed(self) -> None:
        owed, self._owed = self._owed, None
        if owed is not None:
            decode = self.dispatch.decode if self.dispatch else None
            self._resources.background.start(release(self._resources, self._call, owed, decode))

    async def _send(self, answer: WholeAnswer) -> None:
        await self._reply.send(replace(answer, headers={**answer.headers, **self.headers()}))

    async def _tell_too_late(self) -> None:
        seconds = self._settings.request_timeout_seconds
        error = RequestError(Fault.DEADLINE_EXCEEDED, f"not finished within {seconds:g} seconds")
        if not self._reply.started:
            raise error
        await self._end_stream(error, b"")

    async def _end_stream(self, error: RequestError, last_chunk: bytes) -> None:
        """Tell of *error* inside a stream, and end it. An event that was cut is closed first.

        Raises:
            ClientGoneError: the client does not even take that in time.
        """
        whole = last_chunk.endswith((b"\n\n", b"\r\n\r\n"))
        try:
            async with asyncio.timeout(LAST_WORDS_SECONDS):
                await self._reply.write((b"" if whole else b"\n\n") + error_events(error.body()))
                await self._reply.finish()
        except TimeoutError as timeout:
            self._reply.abort()
            raise ClientGoneError("the client does not read its stream") from timeout


def _data_of(event: bytes) -> bytes:
    """Return the data of the first server-sent event in *event*."""
    return event.partition(b"\n")[0].removeprefix(b"data: ").rstrip()
