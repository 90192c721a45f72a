"""The requests of a workload with their text, as clients would send them.

A workload names its blocks only. The same block becomes the same text in all prompts, as many
tokens of the simulated engine's tokenizer as it stands for, so that prompts share in the engines'
caches and in a router's eyes what they share in the workload.
"""

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import msgspec

from twofold_sim.workloads import BLOCK_TOKENS, Prompt

TOKEN_BYTES = 4
"""A space and three letters are one token of the simulated engine's."""

_HEX_TO_LETTERS = str.maketrans("0123456789abcdef", "abcdefghijklmnop")
_LETTERS = TOKEN_BYTES - 1


class ReplayedRequest(msgspec.Struct, frozen=True):
    """One request to send."""

    at: float
    """Seconds from the start."""
    prompt_tokens: int
    """Without the few that a chat adds."""
    head: bytes
    """Of HTTP."""
    body: list[bytes]
    """In parts: a block that prompts share is in memory once."""


def replayed(prompts: Sequence[Prompt], model: str, max_tokens: int) -> list[ReplayedRequest]:
    """Make streamed chats of *prompts*, which are in order of their arrivals, with answers of at
    most *max_tokens*.

    Each carries ``X-Session-ID``, by which some routers keep a conversation together.
    """
    text_of = lru_cache(maxsize=None)(block_text)
    fields = f'"model":"{model}","stream":true,"max_tokens":{max_tokens}'
    start = f'{{{fields},"messages":[{{"role":"user","content":"'.encode()
    end = b'"}]}'
    made = []
    for prompt, session in zip(prompts, sessions(prompts), strict=True):
        full_count, rest_tokens = divmod(prompt.prompt_tokens, BLOCK_TOKENS)
        texts = [text_of(block_id) for block_id in prompt.block_ids[:full_count]]
        if rest_tokens:
            texts.append(text_of(prompt.block_ids[full_count])[: rest_tokens * TOKEN_BYTES])
        body = [start, *texts, end]
        head = (
            "POST /v1/chat/completions HTTP/1.1\r\nHost: benchmark\r\n"
            "Content-Type: application/json\r\nAccept: */*\r\n"
            f"X-Session-ID: session-{session}\r\n"
            f"Content-Length: {sum(map(len, body))}\r\n\r\n"
        ).encode()
        made.append(ReplayedRequest(prompt.at, prompt.prompt_tokens, head, body))
    return made


def block_text(block_id: int) -> bytes:
    """Return the text of a block: BLOCK_TOKENS words of three letters, a space before each."""
    digest = hashlib.shake_128(str(block_id).encode()).hexdigest(BLOCK_TOKENS * _LETTERS // 2 + 1)
    letters = digest.translate(_HEX_TO_LETTERS)
    words = (letters[at : at + _LETTERS] for at in range(0, BLOCK_TOKENS * _LETTERS, _LETTERS))
    return "".join(f" {word}" for word in words).encode()


def sessions(prompts: Sequence[Prompt]) -> list[int]:
    """Return the conversation of each of *prompts*, which are in order: a prompt that begins with
    all full blocks of an earlier one goes on with that one's.

    A prompt whose blocks had all been there before, a shared system prompt say, is not one to be
    gone on with.
    """
    known: set[int] = set()
    session_by_end: dict[int, int] = {}
    found = []
    for number, prompt in enumerate(prompts):
        full = prompt.block_ids[: prompt.prompt_tokens // BLOCK_TOKENS]
        earlier = (session_by_end[block] for block in full if block in session_by_end)
        session = next(earlier, number)
        if full and full[-1] not in known:
            session_by_end[full[-1]] = session
        known.update(full)
        found.append(session)
    return found
