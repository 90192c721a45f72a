"""What an answer tells of tokens and times: for the placement, the metrics and the limits."""

from twofold_router.gateway.prefilling import Prefilled
from twofold_router.gateway.reply import Reply
from twofold_router.gateway.resources import Resources
from twofold_router.gateway.tickets import Ticket
from twofold_router.gateway.usage import TokenUsage, event_count, usage_of, usage_of_stream
from twofold_router.placement import Outcome


class Lessons:
    """Those of one exchange, whatever workers it takes."""

    __slots__ = ("_arrived_at", "_desk", "_first_byte_at", "_metrics", "_reply")

    def __init__(self, resources: Resources, reply: Reply, arrived_at: float) -> None:
        self._desk = resources.desk
        self._metrics = resources.metrics
        self._reply = reply
        self._arrived_at = arrived_at
        self._first_byte_at = 0.0

    def first_byte(self, ticket: Ticket) -> None:
        """Take note that the worker begins to stream."""
        dispatch = self._reply.dispatch
        assert dispatch is not None
        self._first_byte_at = now = self._desk.now()
        if not self._reply.responder.started:
            self._metrics.ttft(now - self._arrived_at)
            ends_at = dispatch.decided_at + dispatch.ttft_seconds
            self._metrics.ttft_predicted(ends_at - self._arrived_at)
        if dispatch.prefill is None:
            ticket.prefilled(None)

    def stream(self, ticket: Ticket, kept: bytes | None, prefilled: Prefilled | None) -> None:
        """Learn from a stream that is whole; *kept* is None if it was too long to be kept."""
        dispatch = self._reply.dispatch
        if kept is None or dispatch is None:
            return
        decode_seconds = self._desk.now() - self._first_byte_at
        ttft_seconds = self._first_byte_at - dispatch.decided_at
        usage = usage_of_stream(kept)
        if usage is not None:
            self._learn(ticket, usage, decode_seconds, ttft_seconds)
            return
        tokens = event_count(kept)
        ticket.outcome = Outcome(tokens, decode_seconds, ttft_seconds)
        self._metrics.output(tokens)
        told = prefilled.usage if prefilled else None
        prompt_tokens = told.prompt_tokens if told else round(dispatch.prompt_tokens)
        self._reply.used_tokens = prompt_tokens + tokens

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
