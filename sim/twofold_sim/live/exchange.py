"""One request: its jobs in the engine, and its answer as they get on."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from twofold_router.http import Responder
from twofold_sim.engine_model import Event, Job, JobTooLargeError
from twofold_sim.live.engine import SimEngine
from twofold_sim.live.errors import BadRequestError, LoadFailedError
from twofold_sim.live.generating import Answer, generate
from twofold_sim.live.loans import Loan, loan_of
from twofold_sim.live.observing import JobObserver
from twofold_sim.live.ordering import Dialect, Head, Order, Telling, Usage
from twofold_sim.live.tokens import Tokens

CUT_SECONDS = 0.2
"""From the last chunk to the end of its connection, for the client to read it: a reset takes what
was not read with it."""

JSON = (b"content-type", b"application/json")
_EVENT_STREAM = (b"content-type", b"text/event-stream; charset=utf-8")


@dataclass(slots=True)
class Choice:
    """One answer, and how far it is told."""

    index: int
    job_id: str
    prompt: Tokens
    answer: Answer
    observer: JobObserver
    told_count: int = 0
    is_over: bool = False


class Exchange:
    """Serves one order. Used once: ``run`` ends with the answer, or when it is cancelled.

    However it ends, no job of it goes on, and its loan is given back.
    """

    def __init__(
        self,
        engine: SimEngine,
        dialect: Dialect,
        order: Order,
        request_id: str,
        responder: Responder,
    ) -> None:
        self._engine = engine
        self._dialect = dialect
        self._order = order
        self._responder = responder
        self._adapter = engine.adapter(order.model)
        self._head = Head(
            dialect.id_prefix + request_id, int(time.time()), order.model or engine.settings.model
        )
        self._choices = self._plan()
        self._open_count = len(self._choices)
        self._over = asyncio.get_running_loop().create_future()
        self._telling: Telling | None = None
        self._loan: Loan | None = None
        self._params: dict[str, Any] | None = None
        self._cached_tokens = 0
        self._is_prefilled = False
        self._cut_after: int | None = None

    async def run(self) -> None:
        """Serve the order.

        Raises:
            EngineFaultError: it cannot be served; nothing was answered.
        """
        with self._engine.using(self._adapter):
            await self._serve()

    async def _serve(self) -> None:
        engine, order, responder = self._engine, self._order, self._responder
        engine.gate.enter()
        outcome = "abort"
        try:
            if order.streams:
                # vLLM begins its answer before it knows whether the engine can give one.
                self._telling = self._dialect.telling(self._head, order)
                responder.start(200, [_EVENT_STREAM])
                responder.write(self._telling.open())
            try:
                await self._fetch()
            except LoadFailedError as error:
                outcome = "error"
                if not order.streams:
                    raise
                await self._break(self._dialect.broken(error))
                return
            self._begin()
            is_cut = await self._over
            if is_cut:
                await self._break(None)
                return
            outcome = self._choices[0].answer.finish_reason
            self._end()
        finally:
            engine.metrics.finished(outcome)
            self._close()

    def _plan(self) -> list[Choice]:
        order, engine = self._order, self._engine
        choices: list[Choice] = []
        for prompt in order.prompts:
            wish = order.wish(len(prompt), engine.settings.max_model_tokens)
            for sample in range(order.samples):
                job_id = engine.next_job_id(self._head.answer_id)
                answer = generate(prompt, wish, sample)
                observer = JobObserver(engine, len(prompt))
                choices.append(Choice(len(choices), job_id, prompt, answer, observer))
        return choices

    async def _fetch(self) -> None:
        """Make sure of the blocks that leg 2 brings, if it does.

        Raises:
            LoadFailedError: they cannot be had, and the engine is to fail then.
        """
        params = self._order.params
        if params is None or not self._order.brings_blocks:
            return
        try:
            loan = loan_of(params)
            if loan is not None:
                await self._engine.borrowing.borrow(loan)
            self._loan = loan
        except LoadFailedError:
            if self._engine.settings.on_load_failure == "fail":
                raise

    def _begin(self) -> None:
        engine, order = self._engine, self._order
        if order.streams and (cut := engine.faults.strike("cut")):
            self._cut_after = cut.after_chunks
        for choice in self._choices:
            job = Job(
                job_id=choice.job_id,
                block_ids=engine.block_ids(choice.prompt, self._adapter, order.salt),
                prompt_tokens=len(choice.prompt),
                output_tokens=len(choice.answer.tokens),
                fetched_tokens=len(choice.prompt) if self._loan else 0,
                keeps_blocks=order.asks_for_blocks,
            )
            try:
                engine.driver.add(job, lambda event, choice=choice: self._on_event(choice, event))
            except JobTooLargeError as error:
                raise BadRequestError(str(error)) from error

    def _on_event(self, choice: Choice, event: Event) -> None:
        if self._over.done():
            return
        match event.kind:
            case "first-token":
                self._take_first(choice, event)
            case "tokens":
                choice.observer.token(event)
                self._tell(choice, event.token_count)
            case "finished":
                self._finish(choice, event)

    def _take_first(self, choice: Choice, event: Event) -> None:
        engine, loan = self._engine, self._loan
        choice.observer.first_token(event)
        cached_tokens = event.cached_tokens
        if loan is not None:
            engine.external_queries += len(choice.prompt) - event.cached_tokens
            engine.external_hits += event.fetched_tokens
            engine.borrowing.give_back(loan)
            if loan.cached_tokens is not None:
                cached_tokens = loan.cached_tokens
        if choice.index % self._order.samples == 0:
            self._cached_tokens += cached_tokens
        if not self._is_prefilled:
            self._is_prefilled = True
            engine.gate.prefilled()
            if self._telling is not None:
                self._responder.write(self._telling.begin(self._usage()))
        self._tell(choice, 1)

    def _tell(self, choice: Choice, token_count: int) -> None:
        """Tell of the tokens up to *token_count*, one event each."""
        telling, answer = self._telling, choice.answer
        if telling is None:
            return
        end = len(answer.texts)
        pieces: list[bytes] = []
        for number in range(choice.told_count, token_count):
            if self._cut_after == number:
                break
            text = answer.texts[number]
            if number == end - 1:
                pieces.append(telling.last(choice.index, text, answer))
            elif text:
                pieces.append(telling.token(choice.index, text, number + 1))
        choice.told_count = token_count
        self._responder.write(b"".join(pieces))
        if self._cut_after is not None and token_count > self._cut_after:
            self._over.set_result(True)

    def _finish(self, choice: Choice, event: Event) -> None:
        choice.is_over = True
        choice.observer.finished(event)
        if self._order.asks_for_blocks:
            prompt_tokens = len(choice.prompt)
            self._params = self._engine.lend(choice.job_id, prompt_tokens, self._cached_tokens)
        self._open_count -= 1
        if not self._open_count:
            self._over.set_result(False)

    async def _break(self, last_words: bytes | None) -> None:
        """End a stream before its answer ends: with *last_words*, or with its connection."""
        if last_words is None:
            await asyncio.sleep(CUT_SECONDS)
            self._responder.abort()
        else:
            self._responder.write(last_words)
            self._responder.finish()

    def _end(self) -> None:
        if self._telling is not None:
            self._responder.write(self._telling.end(self._usage()))
            self._responder.finish()
            return
        answers: Sequence[Answer] = [choice.answer for choice in self._choices]
        body = self._dialect.whole(self._head, answers, self._usage(), self._params)
        self._responder.send(200, [JSON], body)

    def _usage(self) -> Usage:
        prompt_tokens = sum(map(len, self._order.prompts))
        output_tokens = sum(len(choice.answer.tokens) for choice in self._choices)
        return Usage(prompt_tokens, self._cached_tokens, output_tokens)

    def _close(self) -> None:
        if not self._over.done():
            self._over.cancel()
        for choice in self._choices:
            if not choice.is_over:
                self._engine.driver.abort(choice.job_id)
        if self._loan is not None:
            self._engine.borrowing.give_back(self._loan)
        self._engine.gate.leave(was_prefilled=self._is_prefilled)
        self._engine.on_change()
