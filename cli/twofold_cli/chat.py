"""Ask the running cluster, and show the answer as it comes."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import TextIO

import aiohttp
import msgspec
from rich.console import Console

from twofold_cli.api_key import KEY_FILE_OPTION, KEY_VARIABLE, key_headers
from twofold_cli.errors import BadArgumentError, CliError
from twofold_cli.showing import say
from twofold_cli.state import ClusterState

DEFAULT_PROMPT = "What is the capital of France?"
ANSWER_LIMIT_SECONDS = 600.0
SILENCE_LIMIT_SECONDS = 120.0

_KEY_HINT = f"; the key is taken from ${KEY_VARIABLE} or {KEY_FILE_OPTION} FILE"

Message = dict[str, str]


class _Delta(msgspec.Struct, frozen=True):
    content: str | None = None


class _Choice(msgspec.Struct, frozen=True):
    delta: _Delta = _Delta()


class _Error(msgspec.Struct, frozen=True):
    message: str = ""


class _Event(msgspec.Struct, frozen=True):
    choices: list[_Choice] = []
    error: _Error | None = None


class RefusedError(CliError):
    """The cluster answered with an error."""


@dataclass(frozen=True, slots=True)
class Answer:
    text: str
    headers: Mapping[str, str]


def question_of(argument: str | None, stdin: TextIO) -> str | None:
    """Return what to ask: *argument*, or else what is piped into *stdin*, or the default where that
    is nothing at all. None: a user sits there, and types it.

    Raises:
        BadArgumentError: it is empty, or no text.
    """
    if argument is None and stdin.isatty():
        return None
    try:
        question = (stdin.read() or DEFAULT_PROMPT) if argument is None else argument
    except UnicodeDecodeError as error:
        raise BadArgumentError(f"the question is no text: {error}") from error
    if not question.strip():
        raise BadArgumentError("the question is empty")
    return question


def chat(
    state: ClusterState, prompt: str, *, key: str | None, max_tokens: int, console: Console
) -> None:
    """Ask once, with the API *key* if there is one.

    Raises:
        RefusedError, CliError: it cannot answer.
    """
    asyncio.run(_ask(state, [{"role": "user", "content": prompt}], key, max_tokens, console))


def converse(state: ClusterState, *, key: str | None, max_tokens: int, console: Console) -> None:
    """Ask what the user types, until the end of input; earlier turns are sent along.

    Raises:
        CliError: it cannot answer.
    """
    say(console, f"Talking to {state.served_name}; end with Ctrl-D.")
    messages: list[Message] = []
    while True:
        try:
            prompt = console.input("> ").strip()
        except (EOFError, KeyboardInterrupt):
            return
        if not prompt:
            continue
        messages.append({"role": "user", "content": prompt})
        answer = asyncio.run(_ask(state, messages, key, max_tokens, console))
        messages.append({"role": "assistant", "content": answer.text})


async def _ask(
    state: ClusterState,
    messages: list[Message],
    key: str | None,
    max_tokens: int,
    console: Console,
) -> Answer:
    body = {
        "model": state.served_name,
        "messages": messages,
        "max_tokens": max_tokens,
        "stream": True,
    }
    text = ""
    try:
        async with (
            asyncio.timeout(ANSWER_LIMIT_SECONDS),
            aiohttp.ClientSession(timeout=_timeout(), headers=key_headers(key)) as session,
            session.post(f"{state.endpoint}/v1/chat/completions", json=body) as response,
        ):
            if response.status != 200:
                refusal = _refusal(response.status, await response.read())
                lacks_key = response.status == 401 and key is None
                raise RefusedError(refusal + (_KEY_HINT if lacks_key else ""))
            async for piece in _pieces(response.content):
                console.out(piece, end="", highlight=False)
                text += piece
            headers = {name.lower(): value for name, value in response.headers.items()}
    except (aiohttp.ClientError, OSError, TimeoutError, msgspec.DecodeError) as error:
        raise CliError(
            f"no answer from {state.endpoint}: {error or type(error).__name__}"
        ) from error
    say(console, f"\n{route(headers)}")
    return Answer(text, headers)


def route(headers: Mapping[str, str]) -> str:
    """Tell from the answer's *headers* (lower case) which way it went."""
    told = [
        f"{name}: {value}"
        for name in ("mode", "reason", "prefill", "decode")
        if (value := headers.get(f"x-twofold-{name}"))
    ]
    return f"[{', '.join(told)}]"


async def _pieces(content: aiohttp.StreamReader) -> AsyncIterator[str]:
    """Yield the text of each server-sent event.

    Raises:
        RefusedError: the stream carried an error.
    """
    async for line in content:
        if not line.startswith(b"data:") or line[5:].strip() == b"[DONE]":
            continue
        event = msgspec.json.decode(line[5:], type=_Event)
        if event.error is not None:
            raise RefusedError(event.error.message)
        for choice in event.choices:
            if choice.delta.content:
                yield choice.delta.content


def _refusal(status: int, body: bytes) -> str:
    try:
        error = msgspec.json.decode(body, type=_Event).error
    except msgspec.DecodeError:
        error = None
    return error.message if error is not None else f"the cluster answered {status}"


def _timeout() -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=SILENCE_LIMIT_SECONDS)
