"""The life of one request, from its place to its last byte (DESIGN, "The life of a request")."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from time import monotonic

import msgspec

from twofold_cluster.apis import Api
from twofold_cluster.errors import (
    Fault,
    RequestError,
    engine_error_message,
    engine_error_status,
)
from twofold_cluster.identity import WorkerId
from twofold_cluster.legs import decode_leg, local_leg
from twofold_cluster.worker import Worker
from twofold_router.gateway.continuing import Continuation, continuation_of
from twofold_router.gateway.doubting import Signs
from twofold_router.gateway.lessons import Lessons
from twofold_router.gateway.parsing import Call
from twofold_router.gateway.placing import placement_request
from twofold_router.gateway.prefilling import Prefilled, PrefillOutcome, Rejected, prefill
from twofold_router.gateway.releasing import release, release_when_over
from twofold_router.gateway.reply import Reply, WholeAnswer, relayed_headers
from twofold_router.gateway.request_timeout import Deadline
from twofold_router.gateway.resources import Resources
from twofold_router.gateway.stream_errors import end_of_stream
from twofold_router.gateway.tickets import Ticket
from twofold_router.gateway.verdicts import (
    Cut,
    Failed,
    Final,
    Verdict,
    judge_answer,
    judge_error,
    judge_silence,
)
from twofold_router.http import (
    AnswerTooLargeError,
    BrokenError,
    ClientGoneError,
    Response,
    StoppedError,
    UnreachableError,
)
from twofold_router.metrics import Leg
from twofold_router.placement import Dispatch, Reason

LAST_WORDS_SECONDS = 5.0
"""For the end of a stream whose client may have stopped to read."""

_ERROR_DATA = b'data: {"error"'
_ERROR_NAME = b"event: error\n"
_ERROR_EVENTS = (_ERROR_DATA, _ERROR_NAME)
"""OpenAI's, and Anthropic's. No other event has them within: in a text of JSON quotes and ends of
lines are escaped."""

_COMMENT = b":"
"""What vLLM sends while a stream is silent begins so (``--sse-keep-alive-interval``)."""

_PREFACES = (
    _COMMENT,
    b"event: response.created\n",
    b"event: response.in_progress\n",
    b"event: response.queued\n",
)
"""Which vLLM sends of a response before it has computed anything (openai/responses/serving.py,
``responses_stream_generator``)."""

_NAMED_EVENTS = frozenset((Api.MESSAGES, Api.RESPONSES))
"""Whose streams tell of errors by ``_ERROR_NAME``."""

_OUR_ERRORS = frozenset((429, *range(500, 600)))
"""Statuses that no client can help."""


class Exchange:
    """One request between its client and its workers. Used once.

    Invariant: ``_owed`` is set exactly while leg 1 has left blocks that no decode worker was asked
    to read, in a request that was sent whole: what was cut none begins. Whatever ends the exchange,
    they are released.
    """

    __slots__ = (
        "_avoid",
        "_call",
        "_continuation",
        "_lessons",
        "_metrics",
        "_owed",
        "_prefilled",
        "_reply",
        "_resources",
        "_responder",
        "_settings",
    )

    def __init__(self, resources: Resources, call: Call, reply: Reply) -> None:
        self._resources = resources
        self._settings = resources.settings
        self._metrics = resources.metrics
        self._call = call
        self._reply = reply
        self._lessons = Lessons(resources, reply, call)
        self._responder = reply.responder
        self._avoid: frozenset[WorkerId] = frozenset()
        self._prefilled: Prefilled | None = None
        self._owed: Prefilled | None = None
        self._continuation: Continuation | None = None

    async def run(self) -> None:
        """Serve the request to its end.

        Raises:
            RequestError: it is to be answered with this error; nothing was sent yet.
            ClientGoneError: nobody listens any more.
        """
        desk = self._resources.desk
        model = desk.models.get(self._call.model, self._call.model)
        request = placement_request(self._call, model, desk.unique_id(), self._settings)
        deadline = self._resources.deadlines.at(request.deadline_at)
        with Ticket(desk, request) as ticket:
            try:
                with deadline:
                    await self._serve(ticket)
            except TimeoutError:
                if not deadline.expired:
                    raise
                await self._tell_too_late()
            except RequestError as error:
                if error.fault.status in _OUR_ERRORS:
                    self._lessons.failed()
                raise
            finally:
                if self._owed is not None:
                    self._release_owed()

    async def _serve(self, ticket: Ticket) -> None:
        dispatch = await self._take_place(ticket.place())
        attempt = 0
        while dispatch.prefill is not None and self._prefilled is None:
            attempt += 1
            outcome = await self._leg_1(ticket, dispatch)
            if isinstance(outcome, Prefilled):
                self._prefilled = self._owed = outcome
            elif isinstance(outcome, Rejected):
                self._reply.send(outcome.answer)
                return
            else:
                reason = outcome.reason if outcome else Reason.PREFILL_FAILED
                dispatch = await self._after_failed_prefill(ticket, dispatch, reason, attempt)
        await self._leg_2(ticket)

    async def _take_place(self, place: Awaitable[Dispatch]) -> Dispatch:
        asked_at = monotonic()
        try:
            dispatch = await place
        finally:
            self._metrics.queue(monotonic() - asked_at)
        self._reply.dispatch = dispatch
        return dispatch

    async def _leg_1(self, ticket: Ticket, dispatch: Dispatch) -> PrefillOutcome | None:
        """Run leg 1 in the background: once begun, it is finished, so that its blocks are known."""
        background = self._resources.background
        leg_1 = background.start(prefill(self._resources, self._call, ticket, dispatch))
        ticket.hold_for(leg_1)
        try:
            return await asyncio.shield(leg_1)
        except asyncio.CancelledError:
            background.start(release_when_over(self._resources, self._call, leg_1, dispatch.decode))
            raise

    async def _after_failed_prefill(
        self, ticket: Ticket, dispatch: Dispatch, reason: Reason, attempt: int
    ) -> Dispatch:
        assert dispatch.prefill is not None
        another = reason is not Reason.INVALID_PARAMS and attempt < self._settings.max_attempts
        if reason is not Reason.INVALID_PARAMS:
            self._avoid |= {dispatch.prefill.worker_id}
        self._metrics.retry(Leg.PREFILL)
        return await self._take_place(ticket.place_again(reason, self._avoid, separable=another))

    async def _leg_2(self, ticket: Ticket) -> None:
        """Try decode workers until one answers, or nobody is left: then the last error counts."""
        attempts = 0
        while (verdict := await self._decode(ticket)) is not None:
            attempts += 1
            may_try = attempts < self._settings.max_attempts
            if isinstance(verdict, Final) or not await self._find_another(ticket, verdict, may_try):
                await self._give_up(verdict)
                return
            self._metrics.retry(Leg.DECODE)

    async def _decode(self, ticket: Ticket) -> Verdict | Cut | None:
        """Send leg 2 and relay its answer; return a verdict if that was not all of it."""
        dispatch = self._reply.dispatch
        assert dispatch is not None
        worker = dispatch.decode
        seconds = dispatch.ttft_seconds + self._settings.first_byte_timeout_seconds
        asked_at = self._resources.desk.now()
        deadline = self._resources.deadlines.at(asked_at + seconds, worker.worker_id)
        before = self._resources.doubts.signs_of(worker)
        if not self._call.asks_for_stream:
            # Its first byte comes with its last.
            deadline.look = self._doubting(worker, before)
        try:
            with deadline:
                verdict = await self._ask_decode(ticket, dispatch, deadline)
        except (UnreachableError, BrokenError, AnswerTooLargeError) as error:
            verdict = judge_error(error)
            if isinstance(error, UnreachableError):
                self._resources.desk.suspect(worker)
        except TimeoutError:
            if not deadline.expired:
                raise
            if self._call.asks_for_stream:
                self._resources.doubts.doubt(self._call, worker, before)
            verdict = judge_silence(self._resources.desk.now() - asked_at)
        if verdict is not None:
            if not self._responder.started:
                self._owed = self._prefilled
            self._metrics.upstream_error(Leg.DECODE, verdict.kind)
        return verdict

    async def _ask_decode(
        self, ticket: Ticket, dispatch: Dispatch, deadline: Deadline
    ) -> Verdict | Cut | None:
        call = self._call
        prefilled = self._prefilled
        if self._continuation is not None:
            body = self._continuation.body
        elif prefilled is not None:
            body = decode_leg(call.fields, prefilled.params)
        else:
            body = local_leg(call.fields)
        async with self._resources.upstream.post(
            dispatch.decode, call, body, Leg.DECODE, on_sent=self._settle
        ) as response:
            if response.status >= 300:
                raw = await response.read(self._settings.max_answer_bytes)
                return judge_answer(response.status, response.headers, raw)
            if response.is_stream:
                return await self._relay_stream(ticket, response, deadline)
            raw = await response.read(self._settings.max_answer_bytes)
            self._resources.doubts.hear(dispatch.decode)
            self._lessons.answer(ticket, raw)
            self._reply.send(WholeAnswer(response.status, relayed_headers(response.headers), raw))
        return None

    async def _relay_stream(
        self, ticket: Ticket, response: Response, deadline: Deadline
    ) -> Verdict | Cut | None:
        """Pass the stream on. The status is sent with its first piece, and not before: until then
        another worker may answer instead. So it may when the first piece is an error, as vLLM tells
        of a transfer that failed; that is a verdict. A comment, or an event that only says that a
        response has begun, waits for the next. A later error, as when the core has died, is a
        break."""
        first = await response.first(_PREFACES if self._call.api is Api.RESPONSES else (_COMMENT,))
        if not first:
            raise BrokenError("the worker sent an empty stream")
        deadline.lift(partial(response.close, "the worker hangs"))
        assert self._reply.dispatch is not None
        self._resources.doubts.hear(self._reply.dispatch.decode)
        if first.startswith(_ERROR_EVENTS):
            error = _data_of(first)
            return judge_answer(engine_error_status(error) or 500, response.headers, error)
        self._lessons.first_byte(ticket)
        keep_bytes = self._settings.max_kept_bytes
        continuation = self._continuation
        joining = continuation.sink(self._responder, keep_bytes) if continuation else None
        if not self._responder.started:
            self._reply.start(response.status, relayed_headers(response.headers))
        try:
            await response.relay(
                joining or self._responder,
                response.status,
                (),
                keep_bytes=keep_bytes,
                stop_at=_ERROR_NAME if self._call.api in _NAMED_EVENTS else _ERROR_DATA,
            )
        except StoppedError as stopped:
            message = engine_error_message(_data_of(stopped.rest))
            return Cut((joining or response).kept(), message)
        except BrokenError as error:
            return Cut((joining or response).kept(), str(error))
        finally:
            # Also when the client leaves.
            self._lessons.charge(response.ending(), self._prefilled)
        self._lessons.stream(ticket, response.ending())
        (joining or self._responder).finish()
        return None

    def _doubting(self, worker: Worker, before: Signs) -> Callable[[], float]:
        """Return what doubts *worker* now and then while a whole answer is waited for."""
        resources, call = self._resources, self._call
        pause_seconds = self._settings.first_byte_timeout_seconds

        def look() -> float:
            nonlocal before
            before = resources.doubts.doubt(call, worker, before)
            return resources.desk.now() + pause_seconds

        return look

    async def _find_another(self, ticket: Ticket, verdict: Verdict | Cut, may_try: bool) -> bool:
        """Take a place at another decode worker. Returns False if there is none.

        Unless *may_try*, enough have been asked: what they all refused to take over may only be
        computed again, once, since none of them has begun.

        Raises:
            RequestError: the transfer failed, and that is to be the end.
        """
        dispatch = self._reply.dispatch
        assert dispatch is not None
        if self._responder.started:
            return may_try and await self._go_on(ticket, dispatch, verdict)
        policy = self._settings.on_transfer_failure
        if self._prefilled is not None and isinstance(verdict, Failed):
            if policy == "fail":
                message = f"the prompt was computed, but leg 2 failed ({verdict.kind})"
                raise RequestError(Fault.TRANSFER_FAILED, message)
            if verdict.kind in ("broken", "timeout"):
                # Probably dead, or hung. One that answered can still compute the prompt itself.
                self._avoid |= {dispatch.decode.worker_id}
            return may_try and await self._compute_again(ticket, Reason.TRANSFER_FAILED)
        self._avoid |= {dispatch.decode.worker_id}
        if may_try and (self._prefilled is None or policy != "recompute"):
            worker = await ticket.move_decode(self._avoid)
            if worker is not None:
                self._reply.dispatch = msgspec.structs.replace(dispatch, decode=worker)
                return True
        if self._prefilled is None or policy == "fail":
            return False
        return await self._compute_again(ticket, Reason.DECODE_REFUSED)

    async def _compute_again(self, ticket: Ticket, reason: Reason) -> bool:
        """Go on without the blocks, which nobody takes, or which may be half read."""
        if self._owed is not None:
            self._release_owed()
        self._prefilled = None
        place = ticket.place_again(reason, self._avoid, separable=False)
        try:
            await self._take_place(place)
        except RequestError:
            return False
        return True

    async def _go_on(self, ticket: Ticket, dispatch: Dispatch, verdict: Verdict | Cut) -> bool:
        """Have another worker go on with a stream that broke, if that is sound."""
        if isinstance(verdict, Cut):
            kept = verdict.sent
            self._continuation = None if kept is None else continuation_of(self._call, kept)
            if self._continuation is None:
                self._metrics.continuation("unsound")
                return False
        self._avoid |= {dispatch.decode.worker_id}
        self._prefilled = None
        place = ticket.place_again(Reason.STREAM_CUT, self._avoid, separable=False)
        try:
            await self._take_place(place)
        except RequestError:
            self._metrics.continuation("no-worker")
            return False
        self._metrics.continuation("tried")
        return True

    def _settle(self) -> None:
        self._owed = None

    def _release_owed(self) -> None:
        owed, self._owed = self._owed, None
        assert owed is not None
        decode = self._reply.dispatch.decode if self._reply.dispatch else None
        self._resources.background.start(release(self._resources, self._call, owed, decode))

    async def _give_up(self, verdict: Verdict | Cut) -> None:
        """Answer with what the last worker said."""
        if isinstance(verdict, Cut):
            message = f"the stream broke: {verdict.message}"
        elif self._responder.started:
            message = "the stream broke, and no worker could go on with it"
        else:
            if verdict.answer.status in _OUR_ERRORS:
                self._lessons.failed()
            self._reply.send(verdict.answer)
            return
        await self._end_stream(RequestError(Fault.ENGINE_FAILED, message))

    async def _tell_too_late(self) -> None:
        error = self._resources.deadlines.error(self._settings.request_timeout_seconds)
        if not self._responder.started:
            self._lessons.failed()
            raise error
        self._metrics.refusal(error.fault.code)
        await self._end_stream(error)

    async def _end_stream(self, error: RequestError) -> None:
        """Tell of *error* inside a stream, and end it.

        Raises:
            ClientGoneError: the client does not even take that in time.
        """
        try:
            async with asyncio.timeout(LAST_WORDS_SECONDS):
                await self._responder.drain()
                # An empty line closes an event that was cut, and is none of its own.
                self._responder.write(b"\n\n" + end_of_stream(self._call.api, error))
                self._responder.finish()
        except TimeoutError as timeout:
            self._responder.abort()
            raise ClientGoneError("the client does not read its stream") from timeout


def _data_of(event: bytes) -> bytes:
    """Return the data of the first server-sent event in *event*."""
    return (
        event.removeprefix(b"event: error\n").partition(b"\n")[0].removeprefix(b"data: ").rstrip()
    )
