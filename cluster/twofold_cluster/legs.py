"""The two legs of a request: what the prefill worker and the decode worker are sent.

The protocol is that of vLLM's NixlConnector in pull mode: leg 1 computes the prompt and answers
with ``kv_transfer_params``; leg 2 is the client's request with those params, verbatim. What the
decode worker cannot use it ignores and prefills by itself, with no more than a log line, so the
params are checked here (llm-d#1189, llm-d-router#2427).

A leg is put together from the client's own bytes, field by field, and copies each once.
"""

import re

import msgspec

from twofold_cluster.apis import Api
from twofold_cluster.errors import TwofoldError
from twofold_cluster.fields import Fields, decode_field
from twofold_cluster.worker import Worker

FOLLOW_LIMIT_SECONDS = 120.0
"""How long an engine keeps a request waiting that only follows, and its source followed. Then it
serves the request like any other, so whoever sends one leaves it before."""

FOLLOWS_HEADER = b"x-twofold-follows"
"""Marks a request that only follows, for a worker, which reads no bodies and counts these apart."""


class InvalidTransferParamsError(TwofoldError):
    """The prefill worker's answer does not say where the blocks are."""


class PrefixSource(msgspec.Struct, frozen=True, kw_only=True):
    """Another worker, from which the one that is told of it may fetch the beginning of the prompt.
    It decides by itself whether to fetch or to compute."""

    engine_id: str
    host: str
    port: int
    """Of the side channel of its first rank."""
    tensor_parallel: int
    tokens: int
    """About how many of the prompt's first tokens it is thought to hold."""
    seconds_per_token: float
    """What it takes to compute one where the prefix goes, as the router has measured it."""
    follow: bool = False
    """It computes the prompt just now, and is waited for; see :func:`following_leg`."""


class PulledPrefix(msgspec.Struct, frozen=True):
    """What the worker of leg 1 has fetched from the source, and how long that took."""

    tokens: int
    seconds: float


_ASK_FOR_BLOCKS = msgspec.Raw(
    b'{"do_remote_decode":true,"do_remote_prefill":false,"remote_engine_id":null,'
    b'"remote_block_ids":null,"remote_host":null,"remote_port":null}'
)

_REQUIRED_PARAMS = ("remote_engine_id", "remote_request_id", "remote_host", "remote_port")

_SOURCE = b'"prefix_source":'

_NULL, _ONE = msgspec.Raw(b"null"), msgspec.Raw(b"1")
_FALSE, _TRUE = msgspec.Raw(b"false"), msgspec.Raw(b"true")
_NOTHING = (_NULL, msgspec.Raw(b'""'), msgspec.Raw(b"0"))
_NO_OBJECT = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

# They make an engine read another's memory, so a client must not choose them. vLLM takes them
# from ``vllm_xargs`` too, and a text there instead of an object ends its engine.
_PARAMS = "kv_transfer_params"
_NOT_A_CLIENTS = (_PARAMS, "ec_transfer_params")
_EXTRA_ARGUMENTS = "vllm_xargs"

# Without meaning for a single token, or refused beside it.
_NOT_IN_LEG_1 = ("stream_options", "min_tokens", "min_completion_tokens")

# What a field may be in a request of two legs. An engine reads "2" and 2.0 as 2 as well: what is
# not written as here need not be understood, one worker can serve it.
_UNUSED = {
    "n": (_NULL, _ONE),
    "best_of": (_NULL, _ONE),
    "use_beam_search": (_NULL, _FALSE),
    "echo": (_NULL, _FALSE),
    # vLLM then computes the whole prompt where it generates, and fetches nothing.
    "prompt_logprobs": (_NULL,),
    # vLLM's connector counts a prompt by its token ids (nixl/pull_scheduler.py): here there are
    # none, so it fetches nothing and tells nobody.
    "prompt_embeds": (_NULL,),
}
_UNUSED_IN_RESPONSES = _UNUSED | {
    "previous_response_id": (_NULL, msgspec.Raw(b'""')),
    "background": (_NULL, _FALSE),
}

# A prompt is a text or a list of token ids; there may also be a list of such prompts.
_LIST_OF_PROMPTS = re.compile(rb"\[[ \t\r\n]*[^]0-9 \t\r\n]")

# Tools whose calls are the client's to answer. With others vLLM may generate once more, with the
# same params, whose blocks are freed by then (openai/responses/serving.py,
# ``_generate_with_builtin_tools``).
_CLIENTS_TOOLS = frozenset(("function", "custom", "namespace"))


class _Tool(msgspec.Struct, frozen=True):
    type: str


_encode = msgspec.json.Encoder().encode
_decode_tools = msgspec.json.Decoder(list[_Tool] | None).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class _Pulled(msgspec.Struct, frozen=True):
    prefix_tokens: int = 0
    prefix_seconds: float = 0.0


_decode_pulled = msgspec.json.Decoder(_Pulled).decode


def why_inseparable(api: Api, fields: Fields) -> str | None:
    """Say why a request must be served by one worker; None when it can have two legs.

    One set of params stands for the blocks of one prompt, and these are freed once they were
    read: several prompts, or several samples that would each read them, need one worker.
    So does what is asked about the prompt itself, and a response for which the engine itself calls
    tools: each call makes another prompt. And a message that must call one tool: vLLM takes the one
    token of leg 1 for the call's arguments, cannot read them, and answers 400
    (anthropic/serving.py, ``messages_full_converter``). Leg 1 can have no other choice, since some
    models see it in their prompts (renderers/kimi_k3.py).

    Raises:
        RequestError: a field is not valid JSON.
    """
    unused = _UNUSED_IN_RESPONSES if api is Api.RESPONSES else _UNUSED
    for name, values in unused.items():
        if name in fields and fields[name] not in values:
            return name
    if api is Api.RESPONSES and "tools" in fields and _engine_may_call(fields["tools"]):
        return "tools"
    if api is Api.MESSAGES and _names_a_tool(fields):
        return "tool_choice"
    prompt = fields.get("prompt")
    several = api is Api.COMPLETIONS and prompt is not None and _is_of_several(prompt)
    return "prompt" if several else None


def prefix_source(
    worker: Worker, tokens: int, seconds_per_token: float, *, follow: bool = False
) -> PrefixSource | None:
    """Name *worker*, which should hold the prompt's first *tokens*, as a source; None if its side
    channel has no address. *seconds_per_token* is what computing takes where leg 1 goes."""
    host, _, port = worker.kv_side_channel.rpartition(":")
    if not host or not port.isdecimal():
        return None
    return PrefixSource(
        engine_id=worker.engine_id,
        host=host.removeprefix("[").removesuffix("]"),
        port=int(port),
        tensor_parallel=worker.engine.tensor_parallel,
        tokens=tokens,
        seconds_per_token=seconds_per_token,
        follow=follow,
    )


def prefill_leg(api: Api, fields: Fields, source: PrefixSource | None = None) -> bytes:
    """Encode leg 1: the same prompt, one token, not streamed, the blocks kept. Its beginning may be
    fetched from *source*.

    Raises:
        RequestError: a field is not valid JSON.
    """
    params = _ASK_FOR_BLOCKS
    if source is not None:
        params = msgspec.Raw(b"%b,%b%b}" % (bytes(params)[:-1], _SOURCE, _encode(source)))
    return _encode(_one_token(api, fields) | {_PARAMS: params})


def following_leg(api: Api, fields: Fields, source: PrefixSource) -> bytes:
    """Encode the leg that has a decode worker take the blocks of leg 1 from *source* while that
    computes them. It is not answered before it is left.

    Raises:
        RequestError: a field is not valid JSON.
    """
    params = msgspec.Raw(b"{%b%b}" % (_SOURCE, _encode(source)))
    return _encode(_one_token(api, fields) | {_PARAMS: params})


def decode_leg(fields: Fields, params: msgspec.Raw) -> bytes:
    """Encode leg 2: what the client sent, with *params* as the prefill worker sent them.

    Raises:
        RequestError: a field is not valid JSON.
    """
    return _encode(_clients_own(fields) | {_PARAMS: params})


def release_leg(api: Api, fields: Fields, params: msgspec.Raw) -> bytes:
    """Encode the leg that frees the blocks of a request that nobody waits for any more.

    Its answer of one token is to be thrown away.

    Raises:
        RequestError: a field is not valid JSON.
    """
    return _encode(_one_token(api, fields) | {_PARAMS: params})


def local_leg(fields: Fields) -> bytes:
    """Encode the request for a worker that does both phases.

    Raises:
        RequestError: a field is not valid JSON.
    """
    return _encode(_clients_own(fields))


def transfer_params(answer: bytes) -> msgspec.Raw:
    """Take the params out of the *answer* to leg 1.

    Raises:
        InvalidTransferParamsError: they are missing, or lack what the decode worker needs.
    """
    try:
        params = _decode_object(answer).get(_PARAMS, _NULL)
    except _NO_OBJECT as error:
        raise InvalidTransferParamsError("the answer is no JSON object") from error
    try:
        given = _decode_object(params)
    except _NO_OBJECT as error:
        raise InvalidTransferParamsError("the answer has no kv_transfer_params") from error
    missing = [name for name in _REQUIRED_PARAMS if given.get(name, _NULL) in _NOTHING]
    if missing:
        raise InvalidTransferParamsError(f"kv_transfer_params lack {', '.join(missing)}")
    if given.get("do_remote_prefill") != _TRUE:
        raise InvalidTransferParamsError("kv_transfer_params do not offer a remote prefill")
    return params


def pulled_prefix(params: msgspec.Raw) -> PulledPrefix | None:
    """Read in the *params* of an answer to leg 1 what was fetched from the source; None: nothing,
    or nothing that we understand."""
    try:
        told = _decode_pulled(params)
    except _NO_OBJECT:
        return None
    if told.prefix_tokens <= 0 or told.prefix_seconds <= 0:
        return None
    return PulledPrefix(told.prefix_tokens, told.prefix_seconds)


def _is_of_several(prompt: msgspec.Raw) -> bool:
    """Tell whether *prompt* is not one. A list of one is served as that one is (vLLM's
    ``prompt_to_seq``), with the same request ids."""
    if not _LIST_OF_PROMPTS.match(memoryview(prompt)):
        return False
    prompts = _decode_list(prompt)
    return len(prompts) != 1 or bytes(memoryview(prompts[0])[:1]) not in (b'"', b"[")


def _engine_may_call(tools: msgspec.Raw) -> bool:
    """Tell whether some of *tools* are not the client's to call, or not to be understood."""
    try:
        told = _decode_tools(tools)
    except _NO_OBJECT:
        return True
    return any(tool.type not in _CLIENTS_TOOLS for tool in told or ())


def _names_a_tool(fields: Fields) -> bool:
    choice = decode_field(fields, "tool_choice")
    return isinstance(choice, dict) and choice.get("type") == "tool"


def _clients_own(fields: Fields) -> dict[str, msgspec.Raw]:
    """Return the fields that are a client's to set."""
    own = {name: raw for name, raw in fields.items() if name not in _NOT_A_CLIENTS}
    if _EXTRA_ARGUMENTS in own:
        arguments = decode_field(own, _EXTRA_ARGUMENTS)
        if isinstance(arguments, dict) and not arguments.keys().isdisjoint(_NOT_A_CLIENTS):
            allowed = {name: a for name, a in arguments.items() if name not in _NOT_A_CLIENTS}
            own[_EXTRA_ARGUMENTS] = msgspec.Raw(_encode(allowed))
    return own


def _one_token(api: Api, fields: Fields) -> dict[str, msgspec.Raw]:
    leg = _clients_own(fields)
    for name in _NOT_IN_LEG_1:
        leg.pop(name, None)
    leg["stream"] = _FALSE
    if api is Api.RESPONSES:
        leg["max_output_tokens"] = _ONE
        return leg
    leg["max_tokens"] = _ONE
    if leg.get("max_completion_tokens", _NULL) != _NULL:
        leg["max_completion_tokens"] = _ONE
    for name in ("n", "best_of"):
        if name in leg:
            leg[name] = _ONE
    if api is Api.MESSAGES and _thinks_in_a_budget(leg):
        del leg["thinking"]
    return leg


def _thinks_in_a_budget(fields: Fields) -> bool:
    """A budget of thinking must be less than ``max_tokens``, and does not change the prompt."""
    thinking = decode_field(fields, "thinking")
    return isinstance(thinking, dict) and thinking.get("type") == "enabled"
