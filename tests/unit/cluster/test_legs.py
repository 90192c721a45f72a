from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold_cluster.apis import Api
from twofold_cluster.errors import Fault, RequestError
from twofold_cluster.fields import Fields, decode_fields
from twofold_cluster.identity import Incarnation, Role, WorkerId
from twofold_cluster.legs import (
    InvalidTransferParamsError,
    PrefixSource,
    PulledPrefix,
    decode_leg,
    local_leg,
    prefill_leg,
    prefix_source,
    pulled_prefix,
    release_leg,
    transfer_params,
    why_inseparable,
)
from twofold_cluster.worker import Engine, Worker

Body = Mapping[str, Any]

ASK_FOR_BLOCKS = {
    "do_remote_decode": True,
    "do_remote_prefill": False,
    "remote_engine_id": None,
    "remote_block_ids": None,
    "remote_host": None,
    "remote_port": None,
}

PARAMS = {
    "do_remote_prefill": True,
    "do_remote_decode": False,
    "remote_block_ids": [[1, 2, 3]],
    "remote_engine_id": "prefill-0",
    "remote_request_id": "cmpl-1",
    "remote_host": "127.0.0.1",
    "remote_port": 5600,
    "tp_size": 1,
}

RAW_PARAMS = msgspec.Raw(b'{ "as": ["it", 1.50], "is":"\\u00e9" }')

NAMED_BY_THE_RULE = {
    "kv_transfer_params",
    "ec_transfer_params",
    "vllm_xargs",
    "stream",
    "stream_options",
    "min_tokens",
    "min_completion_tokens",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "n",
    "best_of",
    "thinking",
}

every_api = pytest.mark.parametrize("api", list(Api))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
field_names = st.sampled_from(sorted(NAMED_BY_THE_RULE)) | st.text(max_size=12)
bodies = st.dictionaries(field_names, json_values, max_size=8)
counts = st.integers(min_value=0, max_value=2**31)
sources = st.builds(
    PrefixSource,
    engine_id=st.text(max_size=9),
    host=st.text(max_size=9),
    port=counts,
    tensor_parallel=counts,
    tokens=counts,
    seconds_per_token=st.floats(min_value=0.0, max_value=1.0),
)


@given(api=st.sampled_from(Api), body=bodies)
def test_leg_1_keeps_every_field_that_the_rule_does_not_name(api: Api, body: Body) -> None:
    leg = decoded(prefill_leg(api, fields_of(body)))

    assert unnamed(leg) == unnamed(body)


@given(api=st.sampled_from(Api), body=bodies)
def test_leg_1_always_asks_for_the_blocks_of_one_token(api: Api, body: Body) -> None:
    leg = decoded(prefill_leg(api, fields_of(body)))

    assert leg["kv_transfer_params"] == ASK_FOR_BLOCKS
    assert leg["stream"] is False
    assert leg["max_output_tokens" if api is Api.RESPONSES else "max_tokens"] == 1


@given(api=st.sampled_from(Api), body=bodies, source=sources)
def test_leg_1_names_a_source_beside_what_it_asks_for(
    api: Api, body: Body, source: PrefixSource
) -> None:
    leg = decoded(prefill_leg(api, fields_of(body), source))

    named = leg["kv_transfer_params"].pop("prefix_source")
    assert leg == decoded(prefill_leg(api, fields_of(body)))
    assert msgspec.convert(named, PrefixSource) == source
    assert set(named) >= {
        *("engine_id", "host", "port", "tensor_parallel"),
        *("tokens", "seconds_per_token"),
    }


def worker_at(side_channel: str) -> Worker:
    return Worker(
        worker_id=WorkerId("w"),
        incarnation=Incarnation("7"),
        service="s",
        role=Role.PREFILL,
        revision="r",
        address="http://a:1",
        model="m",
        engine=Engine("0", "c", tensor_parallel=2),
        kv_capacity_tokens=1,
        kv_block_tokens=1,
        max_model_tokens=1,
        kv_side_channel=side_channel,
    )


@pytest.mark.parametrize(
    ("side_channel", "host"), [("10.0.0.1:5600", "10.0.0.1"), ("[fd00::1]:5600", "fd00::1")]
)
def test_a_source_is_named_as_its_peers_know_it(side_channel: str, host: str) -> None:
    assert prefix_source(worker_at(side_channel), 1024, 0.001) == PrefixSource(
        engine_id="w:7",
        host=host,
        port=5600,
        tensor_parallel=2,
        tokens=1024,
        seconds_per_token=0.001,
    )


@pytest.mark.parametrize("side_channel", ["", "host", "host:", ":5600", "host:port"])
def test_a_worker_without_the_address_of_a_side_channel_is_no_source(side_channel: str) -> None:
    assert prefix_source(worker_at(side_channel), 1024, 0.001) is None


def test_what_was_fetched_is_read_in_the_answer_and_passed_on_as_it_is() -> None:
    told = raw({**PARAMS, "prefix_tokens": 1024, "prefix_seconds": 0.25})

    assert pulled_prefix(told) == PulledPrefix(1024, 0.25)
    assert decoded(decode_leg({}, told))["kv_transfer_params"]["prefix_tokens"] == 1024


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"prefix_tokens": 0, "prefix_seconds": 0.0},
        {"prefix_tokens": -1, "prefix_seconds": 1.0},
        {"prefix_tokens": 1024},
        {"prefix_tokens": 1024, "prefix_seconds": -1.0},
        {"prefix_tokens": "1024", "prefix_seconds": 1.0},
        {"prefix_tokens": None, "prefix_seconds": None},
    ],
)
def test_an_answer_that_tells_of_nothing_fetched_is_none(told: Body) -> None:
    assert pulled_prefix(raw({**PARAMS, **told})) is None


@given(body=bodies)
def test_leg_2_and_a_local_leg_differ_from_the_body_only_in_what_is_not_the_clients(
    body: Body,
) -> None:
    others = {
        name: value
        for name, value in body.items()
        if name not in ("kv_transfer_params", "ec_transfer_params")
    }

    assert decoded(local_leg(fields_of(body))) == others
    leg = decoded(decode_leg(fields_of(body), raw(PARAMS)))
    assert leg == {**others, "kv_transfer_params": PARAMS}


@given(api=st.sampled_from(Api), body=bodies)
def test_the_legs_leave_the_fields_of_the_client_alone(api: Api, body: Body) -> None:
    fields = fields_of(body)
    before = dict(fields)

    prefill_leg(api, fields)
    decode_leg(fields, RAW_PARAMS)
    release_leg(api, fields, RAW_PARAMS)
    local_leg(fields)

    assert fields == before


@every_api
def test_what_no_leg_changes_is_sent_byte_for_byte(api: Api) -> None:
    fields = decode_fields(b'{"prompt" : "\\u00e9 \\/" , "seed":1.50, "x": { "b":1,  "a":2 } }')
    own = b'{"prompt":"\\u00e9 \\/","seed":1.50,"x":{ "b":1,  "a":2 }'

    legs = [
        prefill_leg(api, fields),
        decode_leg(fields, RAW_PARAMS),
        release_leg(api, fields, RAW_PARAMS),
        local_leg(fields),
    ]

    assert all(leg.startswith(own) for leg in legs)


@every_api
def test_params_are_sent_byte_for_byte(api: Api) -> None:
    ending = b'"kv_transfer_params":' + bytes(RAW_PARAMS) + b"}"

    assert decode_leg({}, RAW_PARAMS) == b"{" + ending
    assert release_leg(api, {}, RAW_PARAMS).endswith(ending)


@every_api
@pytest.mark.parametrize(
    "body",
    [
        b'{"kv_transfer_params":{"remote_host":"elsewhere"}}',
        b'{"kv_transfer_params":{},"kv_transfer_params":{"remote_host":"elsewhere"}}',
        b'{"\\u006bv_transfer_params":{"remote_host":"elsewhere"}}',
        b'{"ec_transfer_params":{"remote_host":"elsewhere"}}',
        b'{"vllm_xargs":{"kv_transfer_params":"elsewhere"}}',
        b'{"vllm_xargs":{"ec_transfer_params":"elsewhere"}}',
        b'{"vllm_xargs":{"a":1,"\\u006bv_transfer_params":"elsewhere"}}',
    ],
)
def test_a_client_cannot_choose_the_params_of_any_leg(api: Api, body: bytes) -> None:
    fields = decode_fields(body)

    assert b"elsewhere" not in local_leg(fields)
    assert b"elsewhere" not in prefill_leg(api, fields)
    assert b"elsewhere" not in decode_leg(fields, RAW_PARAMS)
    assert b"elsewhere" not in release_leg(api, fields, RAW_PARAMS)
    assert decoded(prefill_leg(api, fields))["kv_transfer_params"] == ASK_FOR_BLOCKS


def test_other_extra_arguments_pass() -> None:
    fields = decode_fields(b'{"vllm_xargs":{"kv_transfer_params":"x","a":1.5,"b":["c"]}}')

    assert decoded(local_leg(fields)) == {"vllm_xargs": {"a": 1.5, "b": ["c"]}}


def test_extra_arguments_that_hide_their_names_are_refused() -> None:
    # Python's own json, which the engine uses, reads this half of a surrogate pair.
    fields = decode_fields(b'{"vllm_xargs":{"\xed\xa0\x80":1,"kv_transfer_params":"x"}}')

    with pytest.raises(RequestError) as raised:
        local_leg(fields)

    assert raised.value.fault is Fault.INVALID_JSON


@every_api
@pytest.mark.parametrize("name", ["stream_options", "min_tokens", "min_completion_tokens"])
def test_leg_1_drops_what_one_token_cannot_have(api: Api, name: str) -> None:
    leg = decoded(prefill_leg(api, fields_of({"stream": True, name: 7})))

    assert name not in leg


@pytest.mark.parametrize("api", [Api.CHAT, Api.COMPLETIONS])
def test_leg_1_asks_for_one_sample_where_a_count_is_given(api: Api) -> None:
    leg = decoded(prefill_leg(api, fields_of({"n": None, "best_of": 3})))

    assert (leg["n"], leg["best_of"]) == (1, 1)


@every_api
def test_leg_1_adds_no_sample_count_of_its_own(api: Api) -> None:
    leg = decoded(prefill_leg(api, fields_of({"prompt": "a"})))

    assert not leg.keys() & {"n", "best_of"}


def test_leg_1_bounds_max_completion_tokens_where_the_client_set_it() -> None:
    leg = decoded(prefill_leg(Api.CHAT, fields_of({"max_completion_tokens": 200})))

    assert (leg["max_tokens"], leg["max_completion_tokens"]) == (1, 1)


@pytest.mark.parametrize("body", [{}, {"max_completion_tokens": None}])
def test_leg_1_leaves_max_completion_tokens_where_the_client_did_not(body: Body) -> None:
    leg = decoded(prefill_leg(Api.CHAT, fields_of(body)))

    assert leg.get("max_completion_tokens") is None


def test_leg_1_of_a_response_is_bounded_by_the_name_of_its_own_api() -> None:
    leg = decoded(prefill_leg(Api.RESPONSES, fields_of({"input": "a", "max_output_tokens": 200})))

    assert leg == {
        "input": "a",
        "max_output_tokens": 1,
        "stream": False,
        "kv_transfer_params": ASK_FOR_BLOCKS,
    }


def test_a_budget_of_thinking_is_left_out_of_the_legs_of_one_token() -> None:
    thinking = {"type": "enabled", "budget_tokens": 2048}
    fields = fields_of({"max_tokens": 4096, "thinking": thinking})

    assert "thinking" not in decoded(prefill_leg(Api.MESSAGES, fields))
    assert "thinking" not in decoded(release_leg(Api.MESSAGES, fields, RAW_PARAMS))
    assert decoded(decode_leg(fields, RAW_PARAMS))["thinking"] == thinking


def test_to_think_not_at_all_changes_the_prompt_and_so_stays_in_every_leg() -> None:
    fields = fields_of({"max_tokens": 4096, "thinking": {"type": "disabled"}})

    assert decoded(prefill_leg(Api.MESSAGES, fields))["thinking"] == {"type": "disabled"}


@every_api
def test_a_release_is_leg_1_with_the_params_of_leg_2(api: Api) -> None:
    fields = fields_of({"prompt": "a", "stream": True, "max_tokens": 90, "min_tokens": 3})

    leg = decoded(release_leg(api, fields, raw(PARAMS)))

    assert leg == {**decoded(prefill_leg(api, fields)), "kv_transfer_params": PARAMS}


def test_params_pass_as_the_prefill_worker_sent_them() -> None:
    sent = msgspec.json.format(msgspec.json.encode(PARAMS), indent=2)

    params = transfer_params(b'{"id":"cmpl-1","kv_transfer_params": ' + sent + b"}")

    assert bytes(params) == sent


@pytest.mark.parametrize(
    "answer", [b"", b"no JSON", b"[]", b'{"a":NaN}', b'{"a":' + b"[" * 100_000]
)
def test_an_answer_that_is_no_object_is_refused(answer: bytes) -> None:
    with pytest.raises(InvalidTransferParamsError, match="no JSON object"):
        transfer_params(answer)


@pytest.mark.parametrize(
    "answer", [b"{}", b'{"kv_transfer_params":null}', b'{"kv_transfer_params":[]}']
)
def test_an_answer_without_params_is_refused(answer: bytes) -> None:
    with pytest.raises(InvalidTransferParamsError, match="no kv_transfer_params"):
        transfer_params(answer)


@pytest.mark.parametrize(
    "name", ["remote_engine_id", "remote_request_id", "remote_host", "remote_port"]
)
@pytest.mark.parametrize("value", [None, ""])
def test_params_without_an_address_are_refused_by_its_name(name: str, value: object) -> None:
    with pytest.raises(InvalidTransferParamsError, match=name):
        transfer_params(answer_with({**PARAMS, name: value}))


def test_params_that_lack_an_address_are_refused_by_its_name() -> None:
    params = {name: value for name, value in PARAMS.items() if name != "remote_host"}

    with pytest.raises(InvalidTransferParamsError, match="remote_host"):
        transfer_params(answer_with(params))


def test_params_that_offer_no_blocks_are_refused() -> None:
    with pytest.raises(InvalidTransferParamsError, match="remote prefill"):
        transfer_params(answer_with({**PARAMS, "do_remote_prefill": False}))


@pytest.mark.parametrize(
    ("api", "body"),
    [
        (Api.CHAT, b'{"messages": [{"role": "user", "content": "a"}], "n": 1}'),
        (Api.CHAT, b'{"n": null, "best_of": null, "use_beam_search": false}'),
        (Api.COMPLETIONS, b'{"prompt": "[a text]", "prompt_logprobs": null}'),
        (Api.COMPLETIONS, b'{"prompt": [1, 2, 3], "best_of": 1, "echo": false}'),
        (Api.COMPLETIONS, b'{"prompt": [ \n\t 1]}'),
        (Api.COMPLETIONS, b'{"prompt": [ ]}'),
        (Api.COMPLETIONS, b'{"prompt": ["a"]}'),
        (Api.COMPLETIONS, b'{"prompt": [ \n "a, \\"b" ]}'),
        (Api.COMPLETIONS, b'{"prompt": [[1, 2, 3]]}'),
        (Api.COMPLETIONS, b"{}"),
        (Api.RESPONSES, b'{"input": ["a", "b"], "background": false}'),
        (Api.RESPONSES, b'{"input": "a", "previous_response_id": ""}'),
        (Api.RESPONSES, b'{"input": "a", "tools": null}'),
        (Api.RESPONSES, b'{"input": "a", "tools": []}'),
        (Api.RESPONSES, b'{"tools": [{"type": "function", "name": "f"}, {"type": "custom"}]}'),
        (Api.RESPONSES, b'{"tools": [{"type": "namespace", "name": "n", "tools": []}]}'),
        (Api.MESSAGES, b'{"messages": [{"role": "user", "content": "a"}], "max_tokens": 9}'),
        (Api.MESSAGES, b'{"tool_choice": {"type": "any"}}'),
        (Api.CHAT, b'{"tool_choice": {"type": "function", "function": {"name": "f"}}}'),
        (Api.RESPONSES, b'{"tool_choice": {"type": "function", "name": "f"}}'),
    ],
)
def test_one_prompt_with_one_sample_has_two_legs(api: Api, body: bytes) -> None:
    assert why_inseparable(api, decode_fields(body)) is None


@pytest.mark.parametrize(
    ("api", "body", "reason"),
    [
        (Api.CHAT, b'{"n": 2}', "n"),
        (Api.CHAT, b'{"n": 1, "n": 2}', "n"),
        (Api.CHAT, b'{"n": "2"}', "n"),
        (Api.CHAT, b'{"\\u006e": 2}', "n"),
        (Api.COMPLETIONS, b'{"prompt": "a", "best_of": 2}', "best_of"),
        (Api.COMPLETIONS, b'{"prompt": "a", "use_beam_search": true}', "use_beam_search"),
        (Api.COMPLETIONS, b'{"prompt": "a", "echo": true}', "echo"),
        (Api.COMPLETIONS, b'{"prompt": "a", "echo": "yes"}', "echo"),
        (Api.CHAT, b'{"prompt_logprobs": 0}', "prompt_logprobs"),
        (Api.COMPLETIONS, b'{"prompt": ["a", "b"]}', "prompt"),
        (Api.COMPLETIONS, b'{"prompt": [ \n [1, 2], [3]]}', "prompt"),
        (Api.COMPLETIONS, b'{"prompt": [{"prompt_embeds": "AAAA"}]}', "prompt"),
        (Api.COMPLETIONS, b'{"prompt": [null]}', "prompt"),
        (Api.COMPLETIONS, b'{"prompt_embeds": "AAAA"}', "prompt_embeds"),
        (Api.RESPONSES, b'{"previous_response_id": "resp-1"}', "previous_response_id"),
        (Api.RESPONSES, b'{"background": true}', "background"),
        (Api.RESPONSES, b'{"tools": [{"type": "code_interpreter"}]}', "tools"),
        (Api.RESPONSES, b'{"tools": [{"type": "function"}, {"type": "mcp"}]}', "tools"),
        (Api.RESPONSES, b'{"tools": [{"name": "f"}]}', "tools"),
        (Api.RESPONSES, b'{"tools": "all"}', "tools"),
        (Api.MESSAGES, b'{"tool_choice": {"type": "tool", "name": "f"}}', "tool_choice"),
    ],
)
def test_what_needs_one_worker_is_named(api: Api, body: bytes, reason: str) -> None:
    assert why_inseparable(api, decode_fields(body)) == reason


def fields_of(body: Body) -> Fields:
    return decode_fields(msgspec.json.encode(body))


def raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def decoded(leg: bytes) -> dict[str, Any]:
    return msgspec.json.decode(leg, type=dict[str, Any])


def answer_with(params: object) -> bytes:
    return msgspec.json.encode({"id": "cmpl-1", "kv_transfer_params": params})


def unnamed(body: Body) -> dict[str, object]:
    return {name: value for name, value in body.items() if name not in NAMED_BY_THE_RULE}
