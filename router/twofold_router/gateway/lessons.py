"""What an answer tells of tokens and times: for the placement, the metrics and the limits."""

from twofold_router.gateway.parsing import Call
from twofold_router.gateway.prefilling import Prefilled
from twofold_router.gateway.reply import Reply
from twofold_router.gateway.resources import Resources
from twofold_router.gateway.tickets import Ticket
from twofold_router.gateway.usage import (
    TokenUsage,
    event_count,
    output_tokens_of_stream,
    usage_of,
    usage_of_stream,
)
from twofold_router.metrics import Promise
from twofold_router.placement import Outcome


class Lessons:
    """Those of one exchange, whatever workers it takes."""

    __slots__ = ("_call", "_desk", "_first_byte_at", "_metrics", "_reply", "_told_tokens")

    def __init__(self, resources: Resources, reply: Reply, call: Call) -> None:
        self._desk = resources.desk
        self._metrics = resources.metrics
        self._reply = reply
        self._call = call
        self._first_byte_at = 0.0
        self._told_tokens = 0

    def first_byte(self, ticket: Ticket) -> None:
        """Take note that the worker begins to stream."""
        dispatch = self._reply.dispatch
        assert dispatch is not None
        self._first_byte_at = now = self._desk.now()
        if not self._reply.responder.started:
            call = self._call
            ttft_seconds = now - call.arrived_at
            self._metrics.ttft(ttft_seconds)
            ends_at = dispatch.decided_at + dispatch.ttft_seconds
            self._metrics.ttft_predicted(ends_at - call.arrived_at)
            terms = call.terms
            slo_seconds = terms.ttft_slo_seconds
            slo_seconds += terms.ttft_slo_seconds_per_token * dispatch.prompt_tokens
            is_met = ttft_seconds <= slo_seconds
            self._metrics.promise(terms.class_name, Promise.MET if is_met else Promise.LATE)
        if dispatch.prefill is None:
            ticket.prefilled(None)

    def failed(self) -> None:
        """Take note that the request ends in an error of ours, before its first byte."""
        if self._call.asks_for_stream:
            self._metrics.promise(self._call.terms.class_name, Promise.FAILED)

    def stream(self, ticket: Ticket, ending: tuple[bytes, int]) -> None:
        """Learn from a stream that is whole, by its *ending* and the number of events before."""
        dispatch = self._reply.dispatch
        assert dispatch is not None
        body, events_before = ending
        decode_seconds = self._desk.now() - self._first_byte_at
        ttft_seconds = self._first_byte_at - dispatch.decided_at
        usage = usage_of_stream(body)
        if usage is not None:
            self._learn(ticket, usage, decode_seconds, ttft_seconds)
            self._observe_tpot(usage.output_tokens, decode_seconds)
            return
        tokens = events_before + event_count(body)
        self._observe_tpot(tokens, decode_seconds)
        ticket.outcome = Outcome(tokens, decode_seconds, ttft_seconds)
        self._metrics.output(tokens)

    def charge(self, ending: tuple[bytes, int], prefilled: Prefilled | None) -> None:
        """Have a key pay for a stream, or for the part of it that the client has got, by its
        *ending* and the number of events before."""
        limits = self._call.caller.limits
        if limits is None or limits.tokens_per_minute is None:
            return
        body, events_before = ending
        usage = usage_of_stream(body)
        if usage is not None:
            self._reply.used_tokens = usage.total_tokens
            return
        self._told_tokens += output_tokens_of_stream(self._call.two_legged_api, body, events_before)
        dispatch = self._reply.dispatch
        assert dispatch is not None
        told = prefilled.usage if prefilled else None
        prompt_tokens = told.prompt_tokens if told else round(dispatch.prompt_tokens)
        self._reply.used_tokens = prompt_tokens + self._told_tokens

    def _observe_tpot(self, tokens: int, seconds: float) -> None:
        if tokens <= 1:
            return
        tpot_seconds = seconds / (tokens - 1)
        self._metrics.tpot(tpot_seconds)
        terms = self._call.terms
        if terms.tpot_slo_seconds is not None:
            is_met = tpot_seconds <= terms.tpot_slo_seconds
            self._metrics.pace(terms.class_name, Promise.MET if is_met else Promise.LATE)

    def answer(self, ticket: Ticket, raw: bytes) -> None:
        """Learn from an answer that came in one piece."""
        usage = usage_of(raw)
        if usage is not None:
            self._learn(ticket, usage, None, None)

    def _learn(
        self,
        ticket: Ticket,
        usage: TokenUsage,
        decode_seconds: float | None,
        ttft_seconds: float | None,
    ) -> None:
        dispatch = self._reply.dispatch
        assert dispatch is not None
        # Leg 1 has told of the prompt where there was one; leg 2 finds all of it transferred.
        prompt = usage.prompt if dispatch.prefill is None else None
        ticket.outcome = Outcome(usage.output_tokens, decode_seconds, ttft_seconds, prompt)
        self._metrics.output(usage.output_tokens)
        self._reply.used_tokens = usage.total_tokens
        if prompt is not None:
            self._metrics.prompt(dispatch, prompt)
