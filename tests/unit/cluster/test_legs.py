import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold_cluster.legs import (
    Api,
    Body,
    InvalidTransferParamsError,
    decode_leg,
    local_leg,
    prefill_leg,
    release_leg,
    transfer_params,
    why_inseparable,
)

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

NAMED_BY_THE_RULE = {
    "kv_transfer_params",
    "stream",
    "stream_options",
    "min_tokens",
    "min_completion_tokens",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "n",
    "best_of",
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
params = st.dictionaries(st.text(max_size=12), json_values, max_size=6)


@given(api=st.sampled_from(Api), body=bodies)
def test_leg_1_keeps_every_field_that_the_rule_does_not_name(api: Api, body: Body) -> None:
    leg = prefill_leg(api, body)

    assert _unnamed(leg) == _unnamed(body)


@given(api=st.sampled_from(Api), body=bodies)
def test_leg_1_always_asks_for_the_blocks_of_one_token(api: Api, body: Body) -> None:
    leg = prefill_leg(api, body)

    assert leg["kv_transfer_params"] == ASK_FOR_BLOCKS
    assert leg["stream"] is False
    assert leg["max_output_tokens" if api is Api.RESPONSES else "max_tokens"] == 1


@given(body=bodies, transferred=params)
def test_leg_2_is_the_body_with_the_params_verbatim(body: Body, transferred: Body) -> None:
    leg = decode_leg(body, transferred)

    assert leg == {**body, "kv_transfer_params": transferred}


@given(api=st.sampled_from(Api), body=bodies, transferred=params)
def test_the_legs_leave_the_body_of_the_client_alone(
    api: Api, body: dict[str, object], transferred: Body
) -> None:
    before = dict(body)

    prefill_leg(api, body)
    decode_leg(body, transferred)
    release_leg(api, body, transferred)
    local_leg(body)

    assert body == before


@given(body=bodies)
def test_a_local_leg_is_the_body_without_params(body: Body) -> None:
    leg = local_leg(body)

    assert leg == {name: value for name, value in body.items() if name != "kv_transfer_params"}


@every_api
def test_a_client_cannot_choose_the_params_of_any_leg(api: Api) -> None:
    body = {"kv_transfer_params": {"remote_host": "elsewhere"}}

    assert prefill_leg(api, body)["kv_transfer_params"] == ASK_FOR_BLOCKS
    assert decode_leg(body, PARAMS)["kv_transfer_params"] == PARAMS
    assert release_leg(api, body, PARAMS)["kv_transfer_params"] == PARAMS
    assert "kv_transfer_params" not in local_leg(body)


def test_two_first_legs_share_no_params() -> None:
    first = prefill_leg(Api.CHAT, {})
    first["kv_transfer_params"]["remote_host"] = "elsewhere"

    second = prefill_leg(Api.CHAT, {})

    assert second["kv_transfer_params"] == ASK_FOR_BLOCKS


@every_api
@pytest.mark.parametrize("name", ["stream_options", "min_tokens", "min_completion_tokens"])
def test_leg_1_drops_what_one_token_cannot_have(api: Api, name: str) -> None:
    leg = prefill_leg(api, {"stream": True, name: 7})

    assert name not in leg


@pytest.mark.parametrize("api", [Api.CHAT, Api.COMPLETIONS])
def test_leg_1_asks_for_one_sample_where_a_count_is_given(api: Api) -> None:
    leg = prefill_leg(api, {"n": None, "best_of": 3})

    assert (leg["n"], leg["best_of"]) == (1, 1)


@pytest.mark.parametrize("api", [Api.CHAT, Api.COMPLETIONS])
def test_leg_1_adds_no_sample_count_of_its_own(api: Api) -> None:
    leg = prefill_leg(api, {"prompt": "a"})

    assert not leg.keys() & {"n", "best_of"}


def test_leg_1_bounds_max_completion_tokens_where_the_client_set_it() -> None:
    leg = prefill_leg(Api.CHAT, {"max_completion_tokens": 200})

    assert (leg["max_tokens"], leg["max_completion_tokens"]) == (1, 1)


@pytest.mark.parametrize("body", [{}, {"max_completion_tokens": None}])
def test_leg_1_leaves_max_completion_tokens_where_the_client_did_not(body: Body) -> None:
    leg = prefill_leg(Api.CHAT, body)

    assert leg.get("max_completion_tokens") is None


def test_leg_1_of_a_response_is_bounded_by_the_name_of_its_own_api() -> None:
    leg = prefill_leg(Api.RESPONSES, {"input": "a", "max_output_tokens": 200})

    assert leg == {
        "input": "a",
        "max_output_tokens": 1,
        "stream": False,
        "kv_transfer_params": ASK_FOR_BLOCKS,
    }


@every_api
def test_a_release_is_leg_1_with_the_params_of_leg_2(api: Api) -> None:
    body = {"prompt": "a", "stream": True, "max_tokens": 90, "min_tokens": 3}

    leg = release_leg(api, body, PARAMS)

    assert leg == {**prefill_leg(api, body), "kv_transfer_params": PARAMS}


def test_params_pass_as_the_prefill_worker_sent_them() -> None:
    answer = {"id": "cmpl-1", "kv_transfer_params": PARAMS}

    assert transfer_params(answer) is PARAMS


@pytest.mark.parametrize("answer", [{}, {"kv_transfer_params": None}, {"kv_transfer_params": []}])
def test_an_answer_without_params_is_refused(answer: Body) -> None:
    with pytest.raises(InvalidTransferParamsError, match="no kv_transfer_params"):
        transfer_params(answer)


@pytest.mark.parametrize(
    "name", ["remote_engine_id", "remote_request_id", "remote_host", "remote_port"]
)
@pytest.mark.parametrize("value", [None, ""])
def test_params_without_an_address_are_refused_by_its_name(name: str, value: object) -> None:
    with pytest.raises(InvalidTransferParamsError, match=name):
        transfer_params({"kv_transfer_params": {**PARAMS, name: value}})


def test_params_that_offer_no_blocks_are_refused() -> None:
    with pytest.raises(InvalidTransferParamsError, match="remote prefill"):
        transfer_params({"kv_transfer_params": {**PARAMS, "do_remote_prefill": False}})


@pytest.mark.parametrize(
    ("api", "body"),
    [
        (Api.CHAT, {"messages": [{"role": "user", "content": "a"}], "n": 1}),
        (Api.CHAT, {"n": None, "best_of": None, "use_beam_search": False}),
        (Api.COMPLETIONS, {"prompt": "a text"}),
        (Api.COMPLETIONS, {"prompt": [1, 2, 3], "best_of": 1}),
        (Api.COMPLETIONS, {"prompt": []}),
        (Api.RESPONSES, {"input": ["a", "b"], "background": False}),
    ],
)
def test_one_prompt_with_one_sample_has_two_legs(api: Api, body: Body) -> None:
    assert why_inseparable(api, body) is None


@pytest.mark.parametrize(
    ("api", "body", "reason"),
    [
        (Api.CHAT, {"n": 2}, "n"),
        (Api.COMPLETIONS, {"prompt": "a", "best_of": 2}, "best_of"),
        (Api.COMPLETIONS, {"prompt": "a", "use_beam_search": True}, "use_beam_search"),
        (Api.COMPLETIONS, {"prompt": "a", "echo": True}, "echo"),
        (Api.CHAT, {"prompt_logprobs": 0}, "prompt_logprobs"),
        (Api.COMPLETIONS, {"prompt": ["a", "b"]}, "prompt"),
        (Api.COMPLETIONS, {"prompt": [[1, 2], [3]]}, "prompt"),
        (Api.RESPONSES, {"previous_response_id": "resp-1"}, "previous_response_id"),
        (Api.RESPONSES, {"background": True}, "background"),
    ],
)
def test_what_needs_one_worker_is_named(api: Api, body: Body, reason: str) -> None:
    assert why_inseparable(api, body) == reason


def _unnamed(body: Body) -> dict[str, object]:
    return {name: value for name, value in body.items() if name not in NAMED_BY_THE_RULE}
