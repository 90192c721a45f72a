"""One engine without a model, over real sockets and with the clients that people use."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import openai
import pytest

from twofold_sim.live.serving import Serving, open_engine, open_engines
from twofold_sim.live.testing import QUICK, quick_engine

ASKED: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]
LONG = "The quick brown fox jumps over the lazy dog. " * 40
WAIT_SECONDS = 10.0
CHAT, COMPLETIONS, FAULTS = "/v1/chat/completions", "/v1/completions", "/sim/faults"


@pytest.fixture
async def serving() -> AsyncIterator[Serving]:
    async with open_engine(quick_engine(adapters=("adapter",))) as serving:
        yield serving


@pytest.fixture
async def http(serving: Serving) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=serving.url, timeout=WAIT_SECONDS) as client:
        yield client


@pytest.fixture
async def client(serving: Serving) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{serving.url}/v1", api_key="none", max_retries=0
    ) as client:
        yield client


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():
            await asyncio.sleep(0.01)


async def complete(http: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    response = await http.post(COMPLETIONS, json=body)
    assert response.status_code == 200, response.text
    told: dict[str, Any] = response.json()
    return told


def cached(told: dict[str, Any]) -> int:
    count: int = told["usage"]["prompt_tokens_details"]["cached_tokens"]
    return count


async def test_a_chat_is_the_same_whole_and_streamed(client: openai.AsyncOpenAI) -> None:
    whole = await client.chat.completions.create(model="quick", messages=ASKED, max_tokens=20)
    stream = await client.chat.completions.create(
        model="quick",
        messages=ASKED,
        max_tokens=20,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    texts = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]

    assert "".join(filter(None, texts)) == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "length"
    assert whole.usage is not None
    assert chunks[-1].usage == whole.usage
    assert whole.usage.completion_tokens == len(list(filter(None, texts))) == 20


async def test_completions_responses_and_messages_are_served(
    client: openai.AsyncOpenAI, http: httpx.AsyncClient
) -> None:
    completion = await client.completions.create(model="quick", prompt="Hello", max_tokens=5)
    response = await client.responses.create(model="quick", input="Hello", max_output_tokens=5)
    stream = await client.responses.create(
        model="quick", input="Hello", max_output_tokens=5, stream=True
    )
    deltas = [event.delta async for event in stream if event.type == "response.output_text.delta"]
    async with client.responses.stream(model="quick", input="Hello", max_output_tokens=5) as helped:
        final = await helped.get_final_response()
    body = {"model": "quick", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 5}
    message = (await http.post("/v1/messages", json=body)).json()
    counted = (await http.post("/v1/messages/count_tokens", json=body)).json()

    assert completion.usage is not None
    assert completion.usage.completion_tokens == 5
    assert response.output_text == "".join(deltas) == message["content"][0]["text"]
    assert final.output_text == response.output_text
    assert response.usage is not None
    assert response.usage.input_tokens == message["usage"]["input_tokens"]
    assert counted["input_tokens"] == message["usage"]["input_tokens"]


async def test_what_was_computed_is_cached_for_the_same_model_adapter_and_salt(
    http: httpx.AsyncClient,
) -> None:
    first = await complete(http, prompt=LONG)
    again = await complete(http, prompt=LONG)
    more = await complete(http, prompt=LONG + "And then?")
    salted = await complete(http, prompt=LONG, cache_salt="mine")
    adapted = await complete(http, prompt=LONG, model="adapter")

    full_blocks = first["usage"]["prompt_tokens"] // QUICK.block_tokens * QUICK.block_tokens
    assert cached(first) == cached(salted) == cached(adapted) == 0
    assert cached(again) == cached(more) == full_blocks > 0
    assert again["choices"] == first["choices"]


async def test_a_text_is_counted_as_it_is_tokenized(http: httpx.AsyncClient) -> None:
    tokenized = (await http.post("/tokenize", json={"prompt": LONG})).json()
    back = await http.post("/detokenize", json={"tokens": tokenized["tokens"]})
    chat = (await http.post("/tokenize", json={"messages": ASKED})).json()
    by_text = await complete(http, prompt=LONG)
    by_tokens = await complete(http, prompt=tokenized["tokens"])
    answer = await http.post(CHAT, json={"messages": ASKED, "max_tokens": 1})

    assert back.json() == {"prompt": LONG}
    assert by_text["usage"]["prompt_tokens"] == tokenized["count"]
    assert by_text["choices"] == by_tokens["choices"]
    assert answer.json()["usage"]["prompt_tokens"] == chat["count"]
    assert tokenized["max_model_len"] == QUICK.max_model_tokens


async def test_the_next_turn_finds_the_one_before_in_the_cache(http: httpx.AsyncClient) -> None:
    asked = [{"role": "user", "content": LONG}]
    first = (await http.post(CHAT, json={"messages": asked, "max_tokens": 20})).json()
    said = first["choices"][0]["message"]
    second = await http.post(CHAT, json={"messages": [*asked, said, *ASKED], "max_tokens": 1})

    assert cached(second.json()) == first["usage"]["prompt_tokens"] // 16 * 16


async def test_several_prompts_and_samples_are_as_many_choices(http: httpx.AsyncClient) -> None:
    alone = await complete(http, prompt=LONG, max_tokens=8)
    told = await complete(http, prompt=["Hello", LONG], n=2, max_tokens=8)

    texts = [choice["text"] for choice in told["choices"]]
    assert len(set(texts)) == 4
    assert texts[2] == alone["choices"][0]["text"]
    assert told["usage"]["completion_tokens"] == 32
    assert told["usage"]["prompt_tokens"] == alone["usage"]["prompt_tokens"] + 1
    assert cached(told) == alone["usage"]["prompt_tokens"] // 16 * 16


async def test_a_stop_string_ends_a_stream(client: openai.AsyncOpenAI) -> None:
    whole = await client.completions.create(model="quick", prompt="Hello", max_tokens=20)
    text = whole.choices[0].text
    stop = text[30:40]
    stream = await client.completions.create(
        model="quick", prompt="Hello", max_tokens=20, stop=stop, stream=True
    )
    chunks = [chunk async for chunk in stream]

    assert "".join(chunk.choices[0].text for chunk in chunks) == text[: text.index(stop)]
    assert chunks[-1].choices[0].finish_reason == "stop"


async def test_an_error_of_messages_is_in_anthropics_shape(http: httpx.AsyncClient) -> None:
    body = {"model": "other", "messages": ASKED, "max_tokens": 5}
    answer = await http.post("/v1/messages", json=body)
    bodiless = await http.post("/v1/messages", json={"messages": ASKED, "max_tokens": 0})

    assert (answer.status_code, answer.json()) == (
        404,
        {
            "type": "error",
            "error": {"type": "NotFoundError", "message": "The model `other` does not exist."},
        },
    )
    assert bodiless.json()["error"]["param"] == "body.max_tokens"


async def test_errors_are_those_of_vllm(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="The model `other` does not exist"):
        await client.completions.create(model="other", prompt="Hello")
    with pytest.raises(openai.BadRequestError, match="maximum context length is 8192 tokens"):
        await client.completions.create(model="quick", prompt="a " * 10_000)
    with pytest.raises(openai.BadRequestError, match="max_tokens") as raised:
        await client.completions.create(model="quick", prompt="a", max_tokens=0)

    assert raised.value.body == {
        "message": "max_tokens must be at least 1, got 0.",
        "type": "BadRequestError",
        "param": "max_tokens",
        "code": 400,
    }


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", CHAT, b"{", 400),
        ("POST", COMPLETIONS, b'{"prompt":"a","n":"many"}', 400),
        ("GET", CHAT, b"", 405),
        ("GET", "/nowhere", b"", 404),
        ("POST", FAULTS, b'[{"kind":"explode"}]', 400),
        ("POST", "/tokenize", b"[]", 400),
        ("POST", "/tokenize", b"{}", 400),
        ("POST", "/tokenize", b'{"model":"other","prompt":"a"}', 404),
        ("POST", "/detokenize", b'{"model":"other","tokens":[1]}', 404),
        ("POST", "/v1/messages/count_tokens", b"{}", 400),
        ("POST", "/v1/messages/count_tokens", b'{"model":"other","messages":[]}', 404),
    ],
)
async def test_what_cannot_be_is_refused_and_costs_nothing_else(
    http: httpx.AsyncClient, method: str, path: str, body: bytes, status: int
) -> None:
    assert (await http.request(method, path, content=body)).status_code == status
    assert (await http.get("/health")).status_code == 200
    assert (await http.get("/load")).json() == {"server_load": 0}


async def test_it_says_what_it_is(http: httpx.AsyncClient) -> None:
    cards = (await http.get("/v1/models")).json()["data"]

    assert [(card["id"], card["parent"]) for card in cards] == [
        ("quick", None),
        ("adapter", "quick"),
    ]
    assert cards[0]["max_model_len"] == QUICK.max_model_tokens
    assert (await http.get("/version")).json() == {"version": "0.32.0"}


async def test_the_tokens_of_prompts_are_counted_by_their_sources(http: httpx.AsyncClient) -> None:
    first = await complete(http, prompt=LONG, max_tokens=1)
    second = await complete(http, prompt=LONG, max_tokens=1)
    page = (await http.get("/metrics")).text
    counts = {
        source: float(value)
        for source, value in re.findall(
            r'^vllm:prompt_tokens_by_source_total\{.*source="(\w+)"\} (\S+)$', page, re.MULTILINE
        )
    }

    assert counts == {
        "local_compute": 2 * first["usage"]["prompt_tokens"] - cached(second),
        "local_cache_hit": cached(second),
        "external_kv_transfer": 0,
    }
    assert cached(second) > 0


async def test_the_times_of_a_request_are_in_the_metrics(http: httpx.AsyncClient) -> None:
    await complete(http, prompt=LONG, max_tokens=5)
    page = (await http.get("/metrics")).text
    counts = {
        name: float(value)
        for name, value in re.findall(r"^vllm:(\w+)_count\{.*\} (\S+)$", page, re.MULTILINE)
    }

    assert counts == {
        "time_to_first_token_seconds": 1,
        "inter_token_latency_seconds": 4,
        "request_time_per_output_token_seconds": 1,
        "e2e_request_latency_seconds": 1,
        "request_queue_time_seconds": 1,
        "request_prefill_time_seconds": 1,
        "request_decode_time_seconds": 1,
        "nixl_xfer_time_seconds": 0,
    }


async def test_an_adapter_is_in_the_metrics_as_long_as_it_has_requests(serving: Serving) -> None:
    body = {"prompt": "Hi", "max_tokens": 8000, "ignore_eos": True, "stream": True}
    async with httpx.AsyncClient(base_url=serving.url) as client:
        await complete(client, prompt="Hi")
        async with client.stream("POST", COMPLETIONS, json=body | {"model": "adapter"}) as response:
            await anext(response.aiter_lines())
            busy = (await client.get("/metrics")).text
        await until(lambda: serving.engine.gate.request_count == 0)
        idle = (await client.get("/metrics")).text

    told = 'vllm:lora_requests_info{max_lora="1",running_lora_adapters="%s",'
    assert told % "adapter" in busy
    assert told % "adapter" not in idle
    assert told % "" in idle


async def test_a_client_that_leaves_ends_its_job(serving: Serving) -> None:
    body = {"prompt": "Hello", "max_tokens": 8000, "ignore_eos": True, "stream": True}
    async with (
        httpx.AsyncClient(base_url=serving.url) as client,
        client.stream("POST", COMPLETIONS, json=body) as response,
    ):
        await anext(response.aiter_lines())
        assert serving.engine.driver.counts().running == 1
    await until(lambda: serving.engine.driver.counts().running == 0)

    counts = serving.engine.driver.counts()
    assert serving.engine.gate.request_count == 0
    assert counts.kv_used_fraction == 0
    assert counts.generated_tokens < 8000
    assert b'finished_reason="abort",model_name="quick"} 1.0' in serving.engine.metrics.page()


async def test_engines_of_one_process_share_nothing() -> None:
    async with open_engines(quick_engine(), quick_engine()) as engines:
        for count, serving in enumerate(engines):
            async with httpx.AsyncClient(base_url=serving.url) as http:
                for _ in range(count + 1):
                    told = await complete(http, prompt=LONG)
                    assert cached(told) == 0 or count
        totals = [serving.engine.driver.counts().generated_tokens for serving in engines]

    assert totals == [16, 32]
    assert len({serving.engine.settings.engine_id for serving in engines}) == 2


async def test_an_answer_under_way_ends_before_the_engine_does() -> None:
    async with httpx.AsyncClient(timeout=WAIT_SECONDS) as http:
        async with open_engine(quick_engine(drain_seconds=WAIT_SECONDS)) as serving:
            body = {"prompt": "Hello", "max_tokens": 200, "ignore_eos": True}
            asking = asyncio.create_task(http.post(serving.url + COMPLETIONS, json=body))
            await until(lambda: serving.engine.gate.request_count == 1)
        response = await asking

    assert response.json()["usage"]["completion_tokens"] == 200


async def test_a_slowed_engine_takes_as_many_times_as_long_and_recovers(
    serving: Serving, http: httpx.AsyncClient
) -> None:
    await http.post(FAULTS, json=[{"kind": "slow", "factor": 50.0}])
    slowed = serving.engine.driver.speed
    told = await complete(http, prompt="Hello", max_tokens=2)
    await http.post(FAULTS, json=[])

    assert (slowed, serving.engine.driver.speed) == (0.02, 1.0)
    assert told["usage"]["completion_tokens"] == 2


async def test_faults_strike_as_often_as_ordered_and_are_told(http: httpx.AsyncClient) -> None:
    order = {"kind": "refuse", "count": 2, "status": 500}
    await http.post(FAULTS, json=[order])
    statuses = [
        (await http.post(COMPLETIONS, json={"prompt": "Hello"})).status_code for _ in range(3)
    ]

    assert statuses == [500, 500, 200]
    (state,) = (await http.get(FAULTS)).json()
    assert (state["struck"], state["order"]["kind"]) == (2, "refuse")


async def test_a_reset_connection_has_no_answer(http: httpx.AsyncClient) -> None:
    await http.post(FAULTS, json=[{"kind": "reset", "count": 1}])

    with pytest.raises(httpx.TransportError):
        await http.post(COMPLETIONS, json={"prompt": "Hello"})
    assert (await http.post(COMPLETIONS, json={"prompt": "Hello"})).status_code == 200


async def test_a_hanging_request_is_never_answered_and_others_are(
    serving: Serving, http: httpx.AsyncClient
) -> None:
    await http.post(FAULTS, json=[{"kind": "hang", "count": 1}])
    hanging = asyncio.create_task(http.post(COMPLETIONS, json={"prompt": "Hello"}))
    await until(lambda: serving.engine.faults.snapshot()[0].struck == 1)
    other = await http.post(COMPLETIONS, json={"prompt": "Hello"})

    assert other.status_code == 200
    assert not hanging.done()
    hanging.cancel()


async def test_a_stream_is_cut_after_its_chunks(http: httpx.AsyncClient) -> None:
    await http.post(FAULTS, json=[{"kind": "cut", "after_chunks": 3}])
    lines: list[str] = []

    async def read() -> None:
        body = {"messages": ASKED, "stream": True, "max_tokens": 50}
        async with http.stream("POST", CHAT, json=body) as response:
            async for line in response.aiter_lines():
                lines.append(line)  # noqa: PERF401 - kept although the rest does not come

    with pytest.raises(httpx.TransportError):
        await read()
    assert sum('"content":' in line and '"content":""' not in line for line in lines) == 3
