"""A request as an engine got it, and what its prompt says."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from twofold_cluster.apis import Api
from twofold_router.http import Request

BYTES_PER_TOKEN = 4

_OUTPUT_LIMITS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
_OWN_TOKENS = re.compile(r"(?:a\d+ )*$")


@dataclass(frozen=True, slots=True)
class Received:
    """One request of an engine's API."""

    path: str
    headers: Mapping[bytes, bytes]
    raw: bytes
    body: dict[str, Any]

    @classmethod
    def of(cls, request: Request) -> "Received":
        body = msgspec.json.decode(request.body)
        return cls(request.path, request.headers, request.body, body)

    @property
    def request_id(self) -> str:
        return self.headers[b"x-request-id"].decode()

    @property
    def params(self) -> dict[str, Any]:
        return self.body.get("kv_transfer_params") or {}

    @property
    def is_leg_1(self) -> bool:
        return bool(self.params.get("do_remote_decode"))

    @property
    def follows(self) -> bool:
        """True for one that is only there to have blocks taken while leg 1 runs."""
        return bool((self.params.get("prefix_source") or {}).get("follow"))

    @property
    def prompt(self) -> str:
        """Return a text that a later turn's extends."""
        if self.path == Api.COMPLETIONS:
            return str(self.body.get("prompt"))
        messages = self.body.get("messages" if self.path != Api.RESPONSES else "input") or []
        if isinstance(messages, str):
            return f"<user>{messages}"
        return "".join(f"<{message['role']}>{message['content']}" for message in messages)

    @property
    def told_count(self) -> int:
        """Return how many tokens of the answer the prompt ends with, to be gone on from."""
        is_begun = self.path == Api.COMPLETIONS or self.body.get("continue_final_message")
        match = _OWN_TOKENS.search(self.prompt)
        return match[0].count(" ") if is_begun and match else 0

    @property
    def is_contradictory(self) -> bool:
        """True for a message that is to be gone on with after a new one was begun (vLLM: 400)."""
        begins = self.body.get("add_generation_prompt", True)
        return bool(self.body.get("continue_final_message") and begins)

    @property
    def output_limit(self) -> int | None:
        limits = [self.body[name] for name in _OUTPUT_LIMITS if self.body.get(name)]
        return min(limits) if limits else None
