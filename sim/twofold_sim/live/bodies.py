"""The bodies of requests: the fields that the APIs share, taken and refused as vLLM does.

Others are ignored: what they ask for, as a temperature or a schema, makes no difference to an
engine without a model.
"""

import dataclasses
import json
import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

import msgspec

from twofold_sim.live.errors import BadRequestError, InvalidBodyError, UnparsedBodyError
from twofold_sim.live.ordering import Order
from twofold_sim.live.tokens import Tokens

MAX_SAMPLES = 128
"""Of one request, over all its prompts. vLLM's is 16,384 for each of 1,024 prompts."""

MAX_STOPS = 4
"""vLLM's, VLLM_MAX_STOP_STRINGS."""

MAX_SALT_CHARACTERS = 128
"""vLLM's, entrypoints/generate/base/protocol.py, as is what a salt must not have in it."""

_NOT_IN_SALTS = frozenset("@/\\\0")

_ON = frozenset(("1", "on", "t", "true", "y", "yes"))
_OFF = frozenset(("0", "off", "f", "false", "n", "no"))
"""pydantic's words for a boolean, in any case."""

_MISSING = re.compile(r"Object missing required field `(.+?)`")
_STEPS = re.compile(r"[^.\[\]`]+")
"""Of a path as msgspec writes it: ``.messages[0].role``, or ``[...]`` for any element."""

Body = TypeVar("Body")

Switch = bool | int | float | str
"""A boolean as pydantic takes it; ``is_on`` reads it."""

Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class Common(msgspec.Struct, kw_only=True):
    """What all APIs have."""

    model: str | None = None
    stream: Switch | None = False
    cache_salt: str | None = None
    kv_transfer_params: dict[str, Any] | None = None

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
        _check_salt(self.cache_salt)
        return Order(
            model=self.model,
            prompts=prompts,
            max_tokens=max_tokens,
            max_tokens_name=max_tokens_name,
            streams=is_on(self.stream, "stream"),
            salt=self.cache_salt,
            params=self.kv_transfer_params,
        )


class Sampled(Common, kw_only=True):
    """What the APIs of OpenAI have, vLLM's own fields among it."""

    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    include_stop_str_in_output: Switch = False
    ignore_eos: Switch = False
    seed: Int64 | None = None
    """Of no use to an engine that draws by its prompt."""

    def order(
        self,
        prompts: Sequence[Tokens],
        max_tokens: int | None,
        max_tokens_name: str = "max_tokens",
    ) -> Order:
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return dataclasses.replace(
            super().order(prompts, max_tokens, max_tokens_name),
            stop=checked_stops(stop, "stop"),
            stop_token_ids=frozenset(self.stop_token_ids or ()),
            keeps_stop=is_on(self.include_stop_str_in_output, "include_stop_str_in_output"),
            ignores_end=is_on(self.ignore_eos, "ignore_eos"),
        )


class Several(Sampled, kw_only=True):
    """What the APIs have whose answers may be several choices."""

    n: int | None = 1
    min_tokens: int = 0
    stream_options: dict[str, Any] | None = None

    def order(
        self,
        prompts: Sequence[Tokens],
        max_tokens: int | None,
        max_tokens_name: str = "max_tokens",
    ) -> Order:
        samples = 1 if self.n is None else self.n
        if samples < 1:
            raise BadRequestError(f"n must be at least 1, got {samples}.")
        if (choices := samples * len(prompts)) > MAX_SAMPLES:
            of_all = "" if len(prompts) == 1 else f" for {len(prompts)} prompts together"
            raise BadRequestError(f"n must be at most {MAX_SAMPLES}{of_all}, got {choices}.")
        options = self.stream_options or {}
        if options and not self.stream:
            message = "Stream options can only be defined when `stream=True`."
            raise BadRequestError(message, param="stream_options")
        tells_usage, always = (
            is_on(options.get(name), f"stream_options.{name}")
            for name in ("include_usage", "continuous_usage_stats")
        )
        return dataclasses.replace(
            super().order(prompts, max_tokens, max_tokens_name),
            samples=samples,
            min_tokens=self.min_tokens,
            tells_usage=tells_usage,
            tells_usage_always=tells_usage and always,
        )


def read_body(decode: Callable[[bytes], Body], body: bytes) -> Body:
    """Return *body* as *decode* reads it.

    Raises:
        InvalidBodyError: it cannot be read so.
    """
    try:
        return decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        unreadable = _cannot_be_read(body)
        if unreadable is not None:
            raise unreadable from error
        raise InvalidBodyError(str(error), param=_way_to(str(error))) from error


def is_on(switch: Switch | None, name: str) -> bool:
    """Return what *switch* says, the body's field *name*, as pydantic reads a boolean.

    Raises:
        InvalidBodyError: it is none.
    """
    if switch is None or isinstance(switch, bool):
        return bool(switch)
    word = switch.lower() if isinstance(switch, str) else None
    if switch == 1 or word in _ON:
        return True
    if switch == 0 or word in _OFF:
        return False
    raise InvalidBodyError("Input should be a valid boolean", param=f"body.{name}")


def checked_stops(stop: Sequence[str], name: str) -> tuple[str, ...]:
    """Return the stop strings of the body's field *name*.

    Raises:
        BadRequestError: there are too many, or one is empty.
    """
    if len(stop) > MAX_STOPS:
        message = f"List should have at most {MAX_STOPS} items, not {len(stop)}"
        raise InvalidBodyError(message, param=f"body.{name}")
    if not all(stop):
        raise BadRequestError("stop cannot contain an empty string.")
    return tuple(stop)


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


def _cannot_be_read(body: bytes) -> InvalidBodyError | None:
    """Return why *body* is no JSON, if it is none: as vLLM's web framework says, which has it read
    by the standard library (fastapi/routing.py)."""
    told: dict[str, Any] = {"type": "missing", "loc": "body", "msg": "Field required"}
    told["input"] = "None"
    try:
        if body:
            json.loads(body)
            return None
    except json.JSONDecodeError as error:
        told = {"type": "json_invalid", "loc": f"body.{error.pos}", "msg": "JSON decode error"}
        told |= {"input": "<dict of 0 items>", "ctx": {"error": error.msg}}
    except (ValueError, RecursionError):
        return UnparsedBodyError("There was an error parsing the body")
    return InvalidBodyError(f"1 validation error:\n  {told}", param=told["loc"])


def _way_to(message: str) -> str:
    """Return where the value is that *message* is about: it ends with " - at `$.n`" unless the body
    as a whole is wrong, and begins with the name of the field if one is missing there."""
    what, _, path = message.partition(" - at `$")
    missing = _MISSING.match(what)
    return ".".join(["body", *_STEPS.findall(path), *(missing.groups() if missing else ())])
