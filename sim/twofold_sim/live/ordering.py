"""What a request wants, whichever API it came by."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import msgspec

from twofold_sim.live.errors import BadRequestError, EngineFaultError, InvalidBodyError
from twofold_sim.live.generating import Answer, Wish
from twofold_sim.live.tokens import Tokens

MAX_SAMPLES = 128
"""Of one request, over all its prompts. vLLM's is 16,384 for each of 1,024 prompts."""

MAX_STOPS = 4
"""vLLM's, VLLM_MAX_STOP_STRINGS."""

MAX_SALT_CHARACTERS = 128
"""vLLM's, entrypoints/generate/base/protocol.py, as is what a salt must not have in it."""

_NOT_IN_SALTS = frozenset("@/\\\0")

_MISSING = re.compile(r"Object missing required field `(.+?)`")
_STEPS = re.compile(r"[^.\[\]`]+")
"""Of a path as msgspec writes it: ``.messages[0].role``, or ``[...]`` for any element."""


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


class Common(msgspec.Struct, kw_only=True):
    """The fields that the APIs of OpenAI share, and vLLM's own. Others are ignored: what they ask
    for, as a temperature or a schema, makes no difference to an engine without a model."""

    model: str | None = None
    stream: bool | None = False
    stream_options: "StreamOptions | None" = None
    n: int | None = 1
    min_tokens: int | None = 0
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    include_stop_str_in_output: bool | None = False
    ignore_eos: bool | None = False
    cache_salt: str | None = None
    kv_transfer_params: dict[str, Any] | None = None

    stop_name: ClassVar[str] = "stop"
    """What the API calls it."""

    def order(
        self,
        prompts: Sequence[Tokens],
        max_tokens: int | None,
        max_tokens_name: str = "max_tokens",
    ) -> Order:
        """Return the order to answer *prompts*.

        Raises:
            BadRequestError: a field's value is out of its range.
        """
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        if len(stop) > MAX_STOPS:
            message = f"List should have at most {MAX_STOPS} items, not {len(stop)}"
            raise InvalidBodyError(message, param=f"body.{self.stop_name}")
        _check_salt(self.cache_salt)
        samples = 1 if self.n is None else self.n
        if samples < 1:
            raise BadRequestError(f"n must be at least 1, got {samples}.")
        if (choices := samples * len(prompts)) > MAX_SAMPLES:
            of_all = "" if len(prompts) == 1 else f" for {len(prompts)} prompts together"
            raise BadRequestError(f"n must be at most {MAX_SAMPLES}{of_all}, got {choices}.")
        if self.stream_options and not self.stream:
            message = "Stream options can only be defined when `stream=True`."
            raise BadRequestError(message, param="stream_options")
        if not all(stop):
            raise BadRequestError("stop cannot contain an empty string.")
        options = self.stream_options or StreamOptions()
        return Order(
            model=self.model,
            prompts=prompts,
            samples=samples,
            max_tokens=max_tokens,
            max_tokens_name=max_tokens_name,
            min_tokens=self.min_tokens or 0,
            stop=tuple(stop),
            stop_token_ids=frozenset(self.stop_token_ids or ()),
            keeps_stop=bool(self.include_stop_str_in_output),
            ignores_end=bool(self.ignore_eos),
            streams=bool(self.stream),
            tells_usage=bool(options.include_usage),
            tells_usage_always=bool(options.include_usage and options.continuous_usage_stats),
            salt=self.cache_salt,
            params=self.kv_transfer_params,
        )


class StreamOptions(msgspec.Struct):
    include_usage: bool | None = False
    continuous_usage_stats: bool | None = False
    """Nothing without ``include_usage``."""


def _check_salt(salt: str | None) -> None:
    if salt == "":
        message = "Parameter 'cache_salt' must be a non-empty string if provided."
        raise BadRequestError(message, param="cache_salt")
    if salt and (len(salt) > MAX_SALT_CHARACTERS or not _NOT_IN_SALTS.isdisjoint(salt)):
        raise BadRequestError(
            f"Parameter 'cache_salt' must be at most {MAX_SALT_CHARACTERS} characters and must not "
            "contain '@', '/', '\\\\', or NUL.",
            param="cache_salt",
        )


def as_bad_request(error: Exception) -> InvalidBodyError:
    """Return what a decoder's *error* is to the client."""
    if isinstance(error, msgspec.ValidationError):
        return InvalidBodyError(str(error), param=_way_to(str(error)))
    return InvalidBodyError(f"JSON decode error: {error}")


def _way_to(message: str) -> str:
    """Return where the value is that *message* is about: it ends with " - at `$.n`" unless the body
    as a whole is wrong, and begins with the name of the field if one is missing there."""
    what, _, path = message.partition(" - at `$")
    missing = _MISSING.match(what)
    return ".".join(["body", *_STEPS.findall(path), *(missing.groups() if missing else ())])
