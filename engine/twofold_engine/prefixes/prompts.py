"""A prompt as a client would send it."""

from dataclasses import dataclass

import msgspec

from twofold_cluster.apis import Api
from twofold_cluster.errors import RequestError
from twofold_cluster.fields import Fields, decode_fields
from twofold_cluster.legs import why_inseparable
from twofold_engine.prefixes.errors import InvalidPromptError

MAX_PROMPT_BYTES = 32 * 2**20
"""What a router takes as well."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt, for one answer."""

    api: Api
    fields: Fields

    @property
    def body(self) -> bytes:
        return msgspec.json.encode(self.fields)


def read_prompt(text: str, *, model: str) -> Prompt:
    """Read *text*, a request in JSON, for *model* unless it names another.

    Raises:
        InvalidPromptError: it is no such request, or is for several prompts or answers.
    """
    try:
        fields = dict(decode_fields(text.encode()))
        if "prompt" not in fields and "messages" not in fields:
            raise InvalidPromptError("the request has neither a prompt nor messages")
        fields.setdefault("model", msgspec.Raw(msgspec.json.encode(model)))
        api = Api.CHAT if "messages" in fields else Api.COMPLETIONS
        if (name := why_inseparable(api, fields)) is not None:
            raise InvalidPromptError(f"the request is not for one answer to one prompt: {name}")
    except RequestError as error:
        raise InvalidPromptError(error.message) from error
    return Prompt(api, fields)
