"""The blocks of a prompt under the names that KV events give them, as a worker with vLLM tells them
(``twofold_engine.chains``)."""

import dataclasses
from typing import Any

import msgspec

from twofold_sim.live.bodies import read_body
from twofold_sim.live.choices import Chat, Completions
from twofold_sim.live.engine import SimEngine
from twofold_sim.live.errors import BadRequestError


class Chain(msgspec.Struct, frozen=True):
    """The full blocks of one prompt, in order."""

    token_count: int
    """Of the whole prompt."""
    block_tokens: int
    blocks: tuple[str, ...]
    """In hexadecimal digits: 64 bits, big end first, as the directory reads an event's integers."""


class _Asked(msgspec.Struct):
    messages: Any = None


_decode_asked = msgspec.json.Decoder(_Asked).decode


def name_chain(engine: SimEngine, body: bytes) -> Chain:
    """Name the blocks of the only prompt in *body*, a request for completions or for a chat.

    Raises:
        BadRequestError: the engine would not serve it either, or it has several prompts.
        UnknownModelError: there is no such adapter.
    """
    order = (Chat() if _is_chat(body) else Completions()).read(body)
    adapter = engine.adapter(order.model)
    if len(order.prompts) != 1:
        count = len(order.prompts)
        raise BadRequestError(f"one prompt is named at a time, not {count}", param="prompt")
    prompt = order.prompts[0]
    shortest = dataclasses.replace(order, max_tokens=1, min_tokens=0)
    shortest.wish(len(prompt), engine.settings.max_model_tokens)
    names = engine.block_ids(prompt, adapter, order.salt)
    return Chain(
        len(prompt),
        engine.settings.profile.block_tokens,
        tuple(f"{name:016x}" for name in names),
    )


def _is_chat(body: bytes) -> bool:
    return read_body(_decode_asked, body).messages is not None
