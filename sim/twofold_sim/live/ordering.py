"""What a request wants, whichever API it came by."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from twofold_sim.live.errors import BadRequestError, EngineFaultError
from twofold_sim.live.generating import Answer, Wish
from twofold_sim.live.tokens import Tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One request. Each prompt is answered *samples* times, and each answer is a choice."""

    model: str | None
    prompts: Sequence[Tokens]
    samples: int = 1
    max_tokens: int | None = None
    """None: as many as the model's length leaves."""
    max_tokens_name: str = "max_tokens"
    """What the API calls them."""
    min_tokens: int = 0
    stop: tuple[str, ...] = ()
    stop_token_ids: frozenset[int] = frozenset()
    keeps_stop: bool = False
    ignores_end: bool = False
    streams: bool = False
    tells_usage: bool = False
    """In a stream, at its end."""
    tells_usage_always: bool = False
    """In a stream, in each event what it is by then."""
    salt: str | None = None
    params: dict[str, Any] | None = None
    """``kv_transfer_params``."""

    @property
    def asks_for_blocks(self) -> bool:
        """True for leg 1: the blocks are to be kept."""
        return bool(self.params and self.params.get("do_remote_decode"))

    @property
    def brings_blocks(self) -> bool:
        """True for leg 2: the blocks are to be fetched."""
        return bool(self.params and self.params.get("do_remote_prefill"))

    def wish(self, prompt_tokens: int, max_model_tokens: int) -> Wish:
        """Return how the answer to a prompt of *prompt_tokens* ends: at the model's length at last.

        Raises:
            BadRequestError: the prompt does not fit in the model's length, or the limits are none.
        """
        asked = self.max_tokens
        if asked is not None and asked > max_model_tokens:
            raise BadRequestError(
                f"{self.max_tokens_name}={asked} cannot be greater than "
                f"max_model_len={max_model_tokens}. Please request fewer output tokens.",
                param=self.max_tokens_name,
            )
        if prompt_tokens == 0:
            raise BadRequestError("The decoder prompt cannot be empty", param="prompt")
        if prompt_tokens > max_model_tokens:
            raise BadRequestError(
                f"This model's maximum context length is {max_model_tokens} tokens. However, your "
                f"prompt contains {prompt_tokens} input tokens, which exceeds this limit even "
                "without any output tokens. Please reduce the length of the input prompt.",
                param="input_tokens",
            )
        left = max_model_tokens - prompt_tokens
        max_tokens = left if asked is None else min(asked, left)
        if max_tokens < 1:
            raise BadRequestError(
                f"max_tokens must be at least 1, got {max_tokens}.", param="max_tokens"
            )
        if self.min_tokens < 0:
            raise BadRequestError(
                f"min_tokens must be greater than or equal to 0, got {self.min_tokens}."
            )
        if self.min_tokens > max_tokens:
            raise BadRequestError(
                f"min_tokens must be less than or equal to max_tokens={max_tokens}, "
                f"got {self.min_tokens}."
            )
        return Wish(
            max_tokens,
            self.min_tokens,
            self.stop,
            self.stop_token_ids,
            self.keeps_stop,
            self.ignores_end,
        )


@dataclass(frozen=True, slots=True)
class Head:
    """What all events of an answer repeat."""

    answer_id: str
    created_at: int
    model: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Of all prompts and all answers of a request."""

    prompt_tokens: int
    cached_tokens: int
    output_tokens: int


class Telling(Protocol):
    """One answer as the events of a stream; asked for them in their order."""

    def open(self) -> bytes:
        """Tell what is told before anything is computed."""
        ...

    def begin(self, usage: Usage) -> bytes: ...

    def token(self, choice: int, text: str, token_count: int) -> bytes:
        """Tell of a token, the *token_count*-th of its choice."""
        ...

    def last(self, choice: int, text: str, answer: Answer) -> bytes:
        """Tell of a choice's last token."""
        ...

    def end(self, usage: Usage) -> bytes: ...


class Dialect(Protocol):
    """One of the APIs: how an order is read from it, and an answer told in it."""

    id_prefix: str

    def read(self, body: bytes) -> Order:
        """Read a request.

        Raises:
            BadRequestError: it is none of this API.
        """
        ...

    def whole(
        self, head: Head, answers: Sequence[Answer], usage: Usage, params: dict[str, Any] | None
    ) -> bytes:
        """Encode an answer in one piece, with the ``kv_transfer_params`` of leg 1."""
        ...

    def telling(self, head: Head, order: Order) -> Telling: ...

    def refused(self, error: EngineFaultError) -> bytes:
        """Encode *error* as the whole answer."""
        ...

    def broken(self, error: EngineFaultError) -> bytes | None:
        """Tell in a stream of the *error* that ends it; None: it breaks off untold."""
        ...
