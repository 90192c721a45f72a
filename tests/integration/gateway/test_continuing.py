"""Streams that break in the middle: they go on elsewhere where that is sound, or end with an error
that their client can read."""

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from twofold_cluster.apis import Api
from twofold_cluster.errors import Fault
from twofold_router.testing import text_of

if TYPE_CHECKING:
    from tests.integration.gateway.conftest import Cluster, OpenCluster, Seen


async def ask_first(cluster: "Cluster", first: str, api: Api = Api.CHAT, **body: Any) -> "Seen":
    """Ask for a stream that engine *first* begins; when that answers, the others are there too."""
    prefills = [name for name in cluster.engines if name.startswith("p")]
    cluster.follow(first, *prefills)
    cluster[first].behaviour.gate.clear()
    asking = asyncio.create_task(cluster.ask(api, stream=True, **body))
    await cluster.eventually(lambda: cluster[first].running)
    cluster.follow(*cluster.engines)
    cluster[first].behaviour.gate.set()
    return await asking


def cut(cluster: "Cluster", *names: str, after_events: int, within_event: bool = False) -> None:
    for name in names:
        cluster[name].behaviour.cut_after_events = after_events
        cluster[name].behaviour.cuts_within_event = within_event


def give_all(cluster: "Cluster", token_count: int) -> None:
    for engine in cluster.engines.values():
        engine.behaviour.token_count = token_count


def assert_one_stream(seen: "Seen", token_count: int) -> list[Any]:
    """Check that the client sees what one worker would have said. Returns the events."""
    *events, done = seen.events
    choices = [event["choices"][0] for event in events if event["choices"]]
    assert seen.status == 200
    assert seen.said == text_of(0, token_count)
    assert done == "[DONE]"
    assert "[DONE]" not in events
    assert len({(event["id"], event["created"]) for event in events}) == 1
    assert sum("role" in choice.get("delta", {}) for choice in choices) <= 1
    assert [choice["finish_reason"] for choice in choices if choice["finish_reason"]] == ["stop"]
    return events


@pytest.mark.parametrize("names", ["p1 d1 d2", "d1 d2", "b1 b2"])
async def test_a_broken_stream_goes_on_at_another_worker(
    open_cluster: "OpenCluster", names: str
) -> None:
    first, second = names.split()[-2:]
    async with open_cluster(names) as cluster:
        give_all(cluster, 6)
        cut(cluster, first, after_events=3)
        seen = await ask_first(cluster, first, max_tokens=50)

        events = assert_one_stream(seen, 6)
        (rest,) = cluster[second].received
        assert "role" in events[0]["choices"][0]["delta"]
        assert events[0]["id"].startswith(first)
        assert rest.body["messages"][-1] == {"role": "assistant", "content": "a0 a1 "}
        assert rest.body["continue_final_message"] is True
        assert rest.body["add_generation_prompt"] is False
        assert rest.body["max_tokens"] == 48
        assert "kv_transfer_params" not in rest.body
        assert rest.request_id == seen.headers["x-request-id"]
        assert cluster.metric("continuations_total", outcome="tried") == 1
        assert cluster.metric("upstream_errors_total", leg="2", kind="cut") == 1
        labels = {"mode": "fallback", "reason": "stream-cut", "status": "2xx"}
        assert cluster.metric("requests_total", **labels) == 1


def die(cluster: "Cluster", name: str, *, after_events: int) -> None:
    cluster[name].behaviour.dies_after_events = after_events


@pytest.mark.parametrize("names", ["p1 d1 d2", "d1 d2", "b1 b2"])
@pytest.mark.parametrize("api", [Api.CHAT, Api.COMPLETIONS])
async def test_a_stream_goes_on_elsewhere_when_its_engine_tells_that_its_core_has_died(
    open_cluster: "OpenCluster", names: str, api: Api
) -> None:
    first, second = names.split()[-2:]
    async with open_cluster(names) as cluster:
        give_all(cluster, 6)
        die(cluster, first, after_events=3)
        seen = await ask_first(cluster, first, api, prompt="say: ")

        assert_one_stream(seen, 6)
        assert len(cluster[second].received) == 1
        assert cluster.metric("continuations_total", outcome="tried") == 1
        assert cluster.metric("upstream_errors_total", leg="2", kind="cut") == 1


async def test_a_stream_of_a_list_of_one_prompt_goes_on_elsewhere(
    open_cluster: "OpenCluster",
) -> None:
    async with open_cluster("d1 d2") as cluster:
        give_all(cluster, 6)
        die(cluster, "d1", after_events=3)
        seen = await ask_first(cluster, "d1", Api.COMPLETIONS, prompt=["say: "])

        assert_one_stream(seen, 6)
        assert cluster["d2"].received[-1].body["prompt"].startswith("say: a0 ")


async def test_a_part_that_goes_on_elsewhere_may_end_with_a_dead_core_too(
    open_cluster: "OpenCluster",
) -> None:
    async with open_cluster("d1 d2 d3", disaggregate=False) as cluster:
        give_all(cluster, 9)
        die(cluster, "d1", after_events=3)
        asking, second, third = await begin(cluster)
        die(cluster, second, after_events=3)
        cluster[second].behaviour.gate.set()

        assert_one_stream(await asking, 9)
        assert cluster[third].received[0].body["messages"][-1]["content"] == text_of(0, 4)


@pytest.mark.parametrize("api", list(Api))
async def test_a_dead_core_is_told_where_nobody_can_go_on(
    open_cluster: "OpenCluster", api: Api
) -> None:
    async with open_cluster("d1", disaggregate=False) as cluster:
        die(cluster, "d1", after_events=3)
        seen = await cluster.ask(api, stream=True, prompt="x", input="x")

        ends = api in (Api.CHAT, Api.COMPLETIONS)
        error = seen.events[-1 - ends]["error"]
        assert error["message"] == "the stream broke: EngineCore encountered an issue."
        assert error.get("code", "engine_failed") == "engine_failed"
        assert seen.body.count(b"event: error") == (not ends)
        assert seen.body.count(b'"error":{') == 1
        assert seen.body.count(b"[DONE]") == ends
        assert cluster.metric("upstream_errors_total", leg="2", kind="cut") == 1


async def test_a_broken_completion_goes_on_from_its_prompt_and_text(
    open_cluster: "OpenCluster",
) -> None:
    async with open_cluster("d1 d2", disaggregate=False) as cluster:
        give_all(cluster, 5)
        cut(cluster, "d1", after_events=2)
        seen = await ask_first(
            cluster, "d1", Api.COMPLETIONS, prompt="say: ", max_tokens=9, min_tokens=3
        )

        assert_one_stream(seen, 5)
        (rest,) = cluster["d2"].received
        assert rest.body["prompt"] == "say: a0 a1 "
        assert (rest.body["max_tokens"], rest.body["min_tokens"]) == (7, 1)
        assert "continue_final_message" not in rest.body


async def test_what_broke_before_its_first_token_goes_on_from_the_start(
    open_cluster: "OpenCluster",
) -> None:
    async with open_cluster("d1 d2", disaggregate=False) as cluster:
        cut(cluster, "d1", after_events=1)

        assert_one_stream(await ask_first(cluster, "d1"), 3)


async def test_the_usage_of_both_parts_is_added_up(open_cluster: "OpenCluster") -> None:
    usage: dict[str, Any] = {"stream_options": {"include_usage": True}}
    prompt = [{"role": "user", "content": "x" * 400}]
    async with open_cluster("d1 d2", disaggregate=False) as cluster:
        give_all(cluster, 6)
        whole = await cluster.ask(stream=True, messages=prompt, **usage)
        cut(cluster, "d1", after_events=4)
        seen = await ask_first(cluster, "d1", messages=prompt, **usage)

        (expected,) = [event["usage"] for event in whole.events[:-1] if "usage" in event]
        (added,) = [event["usage"] for event in assert_one_stream(seen, 6) if "usage" in event]
        assert added["completion_tokens"] == expected["completion_tokens"] == 6
        # The fake engine's tokens of a prompt and of an answer have not the same size.
        assert added["prompt_tokens"] == pytest.approx(expected["prompt_tokens"], abs=6)
        assert added["total_tokens"] == added["prompt_tokens"] + 6


async def begin(cluster: "Cluster", **body: Any) -> tuple["asyncio.Task[Seen]", str, str]:
    """Have d1 break a stream and d2 or d3 wait before it goes on. Returns the request, the one that
    waits and the third."""
    for name in ("d2", "d3"):
        cluster[name].behaviour.gate.clear()
    asking = asyncio.create_task(ask_first(cluster, "d1", **body))
    await cluster.eventually(lambda: cluster["d2"].running or cluster["d3"].running)
    names = ["d2", "d3"] if cluster["d2"].running else ["d3", "d2"]
    cluster[names[1]].behaviour.gate.set()
    return asking, names[0], names[1]


async def test_a_stream_may_break_twice(open_cluster: "OpenCluster") -> None:
    async with open_cluster("d1 d2 d3", disaggregate=False) as cluster:
        give_all(cluster, 9)
        cut(cluster, "d1", after_events=3)
        asking, second, third = await begin(cluster)
        cut(cluster, second, after_events=3, within_event=True)
        cluster[second].behaviour.gate.set()
        seen = await asking

        assert_one_stream(seen, 9)
        assert cluster[third].received[0].body["messages"][-1]["content"] == text_of(0, 4)
        assert cluster.metric("continuations_total", outcome="tried") == 2


async def test_a_worker_that_cannot_go_on_is_replaced_too(open_cluster: "OpenCluster") -> None:
    async with open_cluster("d1 d2 d3", disaggregate=False) as cluster:
        cut(cluster, "d1", after_events=2)
        asking, second, third = await begin(cluster)
        cluster[second].behaviour.refusal = Fault.DECODE_BUSY
        cluster[second].behaviour.gate.set()

        assert_one_stream(await asking, 3)
        assert len(cluster[third].received) == 1


def assert_ends_with_an_error(seen: "Seen", code: str = "engine_failed") -> None:
    *_, error, done = seen.events
    assert seen.status == 200
    assert set(error["error"]) == {"message", "type", "param", "code"}
    assert error["error"]["code"] == code
    assert done == "[DONE]"
    assert seen.body.count(b"[DONE]") == 1


UNSOUND: list[dict[str, Any]] = [
    {"tools": [{"type": "function", "function": {"name": "f"}}]},
    {"n": 2},
    {"logprobs": True},
    {"logprobs": True, "top_logprobs": 2},
    {"response_format": {"type": "json_object"}},
    {"structured_outputs": {"json": {}}},
    {"guided_regex": "a+"},
    {"stop": ["x"]},
    {"echo": True},
    {"return_token_ids": True},
    {"continue_final_message": True, "add_generation_prompt": False},
    {"max_tokens": 2},
]


@pytest.mark.parametrize("body", UNSOUND, ids=str)
async def test_a_chat_that_is_more_than_one_text_ends_with_an_error(
    open_cluster: "OpenCluster", body: dict[str, Any]
) -> None:
    async with open_cluster("d1 d2", disaggregate=False) as cluster:
        cut(cluster, "d1", after_events=3)
        seen = await ask_first(cluster, "d1", **body)

        assert_ends_with_an_error(seen)
        assert seen.said == "a0 a1 "
        assert not cluster["d2"].received
        assert cluster.metric("continuations_total", outcome="unsound") == 1


@pytest.mark.parametrize(
    "body", [{"logprobs": 0}, {"prompt": ["a", "b"]}, {"prompt": [1]}], ids=str
)
async def test_a_completion_that_is_more_than_one_text_ends_with_an_error(
    open_cluster: "OpenCluster", body: dict[str, Any]
) -> None:
    async with open_cluster("d1 d2", disaggregate=False) as cluster:
        cut(cluster, "d1", after_events=1)
        body = {"prompt": "x", **body}
        seen = await ask_first(cluster, "d1", Api.COMPLETIONS, **body)

        assert_ends_with_an_error(seen)
        assert not cluster["d2"].received


SAYS_MORE = [
    b'data: {"id":"1","choices":[{"index":0,"delta":{"tool_calls":[{"index":0}]}}]}\n\n',
    b'data: {"id":"1","choices":[{"index":0,"delta":{"reasoning":"hm"}}]}\n\n',
    b'data: {"id":"1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n',
    b"data: {half of an event",
    b"data: {no JSON}\n\n",
]


@pytest.mark.parametrize("event", SAYS_MORE)
async def test_what_was_said_beside_text_cannot_be_gone_on_from(
    open_cluster: "OpenCluster", event: bytes
) -> None:
    async with open_cluster("d1 d2", disaggregate=False) as cluster:
        cluster["d1"].behaviour.pieces = [event, b"never sent"]
        cut(cluster, "d1", after_events=1)
        seen = await ask_first(cluster, "d1")

        assert seen.body.startswith(event)
        assert b'"code":"engine_failed"' in seen.body
        assert seen.body.endswith(b"\n\ndata: [DONE]\n\n")
        assert not cluster["d2"].received


async def test_a_stream_with_a_comment_goes_on(open_cluster: "OpenCluster") -> None:
    async with open_cluster("d1 d2", disaggregate=False) as cluster:
        said = b'data: {"id":"1","created":1,"choices":[{"index":0,"delta":{"content":"a0 "}}]}\n\n'
        cluster["d1"].behaviour.pieces = [said, b": keep-alive\n\n", b"never sent"]
        cut(cluster, "d1", after_events=2)
        seen = await ask_first(cluster, "d1")

        assert seen.body.startswith(said + b": keep-alive\n\n")
        assert seen.body.count(b"a0 ") == 1
        assert b'"a1 "' in seen.body
        assert b"error" not in seen.body
        assert cluster["d2"].received


async def test_a_part_of_an_event_is_closed_before_the_error(open_cluster: "OpenCluster") -> None:
    async with open_cluster("d1 d2", disaggregate=False) as cluster:
        cut(cluster, "d1", after_events=2, within_event=True)
        seen = await ask_first(cluster, "d1")

        *_, half, error, done = [event for event in seen.body.split(b"\n\n") if event]
        assert half.startswith(b'data: {"id"')
        assert error.startswith(b'data: {"error"')
        assert done == b"data: [DONE]"


async def test_a_message_ends_with_anthropics_error(open_cluster: "OpenCluster") -> None:
    async with open_cluster("d1 d2", disaggregate=False) as cluster:
        cut(cluster, "d1", after_events=3)
        seen = await ask_first(cluster, "d1", Api.MESSAGES)

        *_, name, data = seen.body.strip().split(b"\n")
        told = seen.events[-1]
        assert name == b"event: error"
        assert data.startswith(b"data: ")
        assert (told["type"], told["error"]["type"]) == ("error", "api_error")
        assert b"[DONE]" not in seen.body


async def test_a_response_ends_with_openais_error_event(open_cluster: "OpenCluster") -> None:
    async with open_cluster("d1 d2", disaggregate=False) as cluster:
        cut(cluster, "d1", after_events=3)
        seen = await ask_first(cluster, "d1", Api.RESPONSES, input="hello")

        told = seen.events[-1]
        assert seen.body.strip().split(b"\n")[-2] == b"event: error"
        assert (told["type"], told["code"]) == ("error", "engine_failed")
        assert told["sequence_number"] > len(seen.events)
        assert told["error"]["type"] == "server_error"
        assert {name: told[name] for name in ("code", "message", "param")}.items() <= told[
            "error"
        ].items()
        assert b"[DONE]" not in seen.body


async def test_with_no_worker_left_a_stream_ends_with_an_error(open_cluster: "OpenCluster") -> None:
    async with open_cluster("d1", disaggregate=False) as cluster:
        cut(cluster, "d1", after_events=2)
        seen = await cluster.ask(stream=True)

        assert_ends_with_an_error(seen)
        assert cluster.metric("continuations_total", outcome="no-worker") == 1


@pytest.mark.parametrize("behaviour", [{"status": 400}, {"drops": True}, {"status": 500}])
async def test_when_the_others_cannot_go_on_a_stream_ends_with_an_error(
    open_cluster: "OpenCluster", behaviour: dict[str, Any]
) -> None:
    async with open_cluster("d1 d2", disaggregate=False) as cluster:
        cut(cluster, "d1", after_events=2)
        for name, value in behaviour.items():
            setattr(cluster["d2"].behaviour, name, value)
        seen = await ask_first(cluster, "d1")

        assert_ends_with_an_error(seen)
        assert seen.said == "a0 "


async def test_the_workers_that_are_tried_are_bounded(open_cluster: "OpenCluster") -> None:
    names = "d1 d2 d3 d4 d5"
    async with open_cluster(names, disaggregate=False, max_attempts=3) as cluster:
        give_all(cluster, 20)
        cut(cluster, *names.split(), after_events=2)
        seen = await ask_first(cluster, "d1")

        assert_ends_with_an_error(seen)
        assert len(cluster.leg_2s) == 3
        assert seen.said == "a0 a1 a2 "


@pytest.mark.parametrize("breaks", [1, 2])
async def test_a_stream_that_was_too_long_to_keep_ends_with_an_error(
    open_cluster: "OpenCluster", breaks: int
) -> None:
    bound = {1: 200, 2: 1000}[breaks]
    names = "d1 d2 d3"
    async with open_cluster(names, disaggregate=False, max_kept_bytes=bound) as cluster:
        give_all(cluster, 20)
        cut(cluster, *names.split(), after_events=6 if breaks == 1 else 5)
        seen = await ask_first(cluster, "d1")

        assert_ends_with_an_error(seen)
        assert len(cluster.leg_2s) == breaks
        assert cluster.metric("continuations_total", outcome="unsound") == 1


async def test_a_stream_that_is_not_kept_is_passed_on_whole(open_cluster: "OpenCluster") -> None:
    async with open_cluster("d1", disaggregate=False, max_kept_bytes=0) as cluster:
        give_all(cluster, 20)

        assert_one_stream(await cluster.ask(stream=True), 20)


async def test_strange_events_of_the_other_worker_are_passed_on(
    open_cluster: "OpenCluster",
) -> None:
    strange = [b": a comment\n\n", b"data: {no JSON}\n\n", b'data: {"usage":{}}\n\n', b"data: 1"]
    async with open_cluster("d1 d2", disaggregate=False) as cluster:
        cut(cluster, "d1", after_events=2)
        cluster["d2"].behaviour.pieces = strange
        seen = await ask_first(cluster, "d1")

        assert seen.said_before(strange[0]) == "a0 "
        for event in strange[:2]:
            assert event in seen.body
        assert seen.body.endswith(b"data: 1")


async def test_the_deadline_holds_for_the_rest_too(open_cluster: "OpenCluster") -> None:
    async with open_cluster("d1 d2", disaggregate=False, request_timeout_seconds=0.4) as cluster:
        cut(cluster, "d1", after_events=2)
        cluster["d2"].behaviour.pause_after_events = 2
        seen = await ask_first(cluster, "d1")

        assert_ends_with_an_error(seen, "deadline_exceeded")
        await cluster.eventually(lambda: cluster["d2"].aborted == 1)


async def test_a_client_that_leaves_during_the_rest_aborts_it(open_cluster: "OpenCluster") -> None:
    async with open_cluster("d1 d2", disaggregate=False) as cluster:
        cut(cluster, "d1", "d2", after_events=2)
        for name in ("d1", "d2"):
            cluster[name].behaviour.pause_after_events = 3
        cluster.follow("d1")
        cluster["d1"].behaviour.gate.clear()
        client = await cluster.leaving_client(stream=True)
        await cluster.eventually(lambda: cluster["d1"].running)
        cluster["d2"].behaviour.cut_after_events = None
        cluster.follow("d1", "d2")
        cluster["d1"].behaviour.gate.set()
        await cluster.eventually(lambda: cluster["d2"].running)
        await client.leave()

        await cluster.eventually(lambda: cluster["d2"].aborted == 1)
