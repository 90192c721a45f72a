"""The two legs of a request: what the prefill worker and the decode worker are sent.

The protocol is that of vLLM's NixlConnector in pull mode: leg 1 computes the prompt and answers
with ``kv_transfer_params``; leg 2 is the client's request with those params, verbatim. What the
decode worker cannot use it ignores and prefills by itself, with no more than a log line, so the
params are checked here (llm-d#1189, llm-d-router#2427).
"""

import enum
from collections.abc import Mapping
from typing import Any

from twofold_cluster.errors import TwofoldError

Body = Mapping[str, Any]
"""A request or answer of OpenAI's API, decoded."""


class Api(enum.StrEnum):
    """The paths that have two legs."""

    CHAT = "/v1/chat/completions"
    COMPLETIONS = "/v1/completions"
    RESPONSES = "/v1/responses"


class InvalidTransferParamsError(TwofoldError):
    """The prefill worker's answer does not say where the blocks are."""


_ASK_FOR_BLOCKS: Body = {
    "do_remote_decode": True,
    "do_remote_prefill": False,
    "remote_engine_id": None,
    "remote_block_ids": None,
    "remote_host": None,
    "remote_port": None,
}

_REQUIRED_PARAMS = ("remote_engine_id", "remote_request_id", "remote_host", "remote_port")

# Without meaning for a single token, or refused beside it.
_NOT_IN_LEG_1 = ("stream_options", "min_tokens", "min_completion_tokens")


def why_inseparable(api: Api, body: Body) -> str | None:
    """Say why *body* must be served by one worker; None when it can have two legs.

    One set of params stands for the blocks of one prompt, and these are freed once they were
    read: several prompts, or several samples that would each read them, need one worker.
    So does what is asked about the prompt itself.
    """
    for name in ("n", "best_of"):
        if body.get(name, 1) not in (1, None):
            return name
    for name in ("use_beam_search", "echo"):
        if body.get(name):
            return name
    if body.get("prompt_logprobs") is not None:
        # vLLM then computes the whole prompt where it generates, and fetches nothing.
        return "prompt_logprobs"
    if api is Api.COMPLETIONS and _holds_several_prompts(body.get("prompt")):
        return "prompt"
    if api is Api.RESPONSES and (body.get("previous_response_id") or body.get("background")):
        return "previous_response_id" if body.get("previous_response_id") else "background"
    return None


def prefill_leg(api: Api, body: Body) -> dict[str, Any]:
    """Make leg 1 of *body*: the same prompt, one token, not streamed, the blocks kept."""
    leg = _one_token(api, body)
    leg["kv_transfer_params"] = dict(_ASK_FOR_BLOCKS)
    return leg


def decode_leg(body: Body, params: Body) -> dict[str, Any]:
    """Make leg 2: *body* as the client sent it, with *params* as the prefill worker sent them."""
    return {**body, "kv_transfer_params": params}


def release_leg(api: Api, body: Body, params: Body) -> dict[str, Any]:
    """Make the leg that frees the blocks of a request that nobody waits for any more.

    Its answer of one token is to be thrown away.
    """
    return decode_leg(_one_token(api, body), params)


def local_leg(body: Body) -> dict[str, Any]:
    """Make the request for a worker that does both phases: no params of a client's own get in."""
    return {name: value for name, value in body.items() if name != "kv_transfer_params"}


def transfer_params(answer: Body) -> dict[str, Any]:
    """Take the params out of the *answer* to leg 1.

    Raises:
        InvalidTransferParamsError: they are missing, or lack what the decode worker needs.
    """
    params = answer.get("kv_transfer_params")
    if not isinstance(params, dict):
        raise InvalidTransferParamsError("the answer has no kv_transfer_params")
    missing = [name for name in _REQUIRED_PARAMS if not params.get(name)]
    if missing:
        raise InvalidTransferParamsError(f"kv_transfer_params lack {', '.join(missing)}")
    if not params.get("do_remote_prefill"):
        raise InvalidTransferParamsError("kv_transfer_params do not offer a remote prefill")
    return params


def _one_token(api: Api, body: Body) -> dict[str, Any]:
    leg = {name: value for name, value in body.items() if name not in _NOT_IN_LEG_1}
    leg["stream"] = False
    if api is Api.RESPONSES:
        leg["max_output_tokens"] = 1
        return leg
    leg["max_tokens"] = 1
    if body.get("max_completion_tokens") is not None:
        leg["max_completion_tokens"] = 1
    for name in ("n", "best_of"):
        if name in leg:
            leg[name] = 1
    return leg


def _holds_several_prompts(prompt: object) -> bool:
    """A prompt is a text or a list of token ids; a list of texts or of such lists is several."""
    return isinstance(prompt, list) and bool(prompt) and not isinstance(prompt[0], int)
