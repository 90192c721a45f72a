"""Two engines without a model: the one computes prompts, the other fetches their blocks."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import msgspec
import pytest

from twofold_cluster.apis import Api
from twofold_cluster.legs import decode_leg, prefill_leg, release_leg, transfer_params
from twofold_router.gateway import listen
from twofold_router.http import (
    HeaderPairs,
    RefusedError,
    Request,
    Responder,
    ServerLimits,
    serve,
)
from twofold_sim.live.lending import LENT, READ
from twofold_sim.live.serving import Serving, open_engine
from twofold_sim.live.testing import quick_engine

WAIT_SECONDS = 10.0
PROMPT = "The quick brown fox jumps over the lazy dog. " * 40
BODY = {"model": "quick", "prompt": PROMPT, "max_tokens": 20}
LEASE_SECONDS = 30.0


@dataclass
class Pair:
    """A prefill engine, a decode engine, and a client of both."""

    prefill: Serving
    decode: Serving
    http: httpx.AsyncClient

    async def leg_1(self, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the params."""
        raw = prefill_leg(Api.COMPLETIONS, fields(body or BODY))
        response = await self.http.post(self.prefill.url + Api.COMPLETIONS, content=raw)
        assert response.status_code == 200, response.text
        params: dict[str, Any] = msgspec.json.decode(transfer_params(response.content))
        return params

    async def leg_2(self, params: dict[str, Any], **more: Any) -> httpx.Response:
        raw = decode_leg(fields({**BODY, **more}), msgspec.Raw(msgspec.json.encode(params)))
        return await self.http.post(self.decode.url + Api.COMPLETIONS, content=raw)

    async def alone(self) -> dict[str, Any]:
        """Return what the decode engine answers without any help."""
        response = await self.http.post(self.decode.url + Api.COMPLETIONS, json=BODY)
        told: dict[str, Any] = response.json()
        return told

    @property
    def lease_count(self) -> int:
        return len(self.prefill.engine.leases)

    @property
    def lent_fraction(self) -> float:
        return self.prefill.engine.driver.counts().kv_used_fraction


@asynccontextmanager
async def open_pair(
    prefill: dict[str, Any] | None = None, decode: dict[str, Any] | None = None
) -> AsyncIterator[Pair]:
    async with AsyncExitStack() as stack:
        engines = [
            await stack.enter_async_context(open_engine(quick_engine(**settings)))
            for settings in (prefill or {}, decode or {})
        ]
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=WAIT_SECONDS))
        yield Pair(engines[0], engines[1], http)


def fields(body: dict[str, Any]) -> dict[str, msgspec.Raw]:
    return {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in body.items()}


def usage(response: httpx.Response) -> dict[str, Any]:
    told: dict[str, Any] = response.json()["usage"]
    return told


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():
            await asyncio.sleep(0.01)


async def test_two_engines_say_what_one_says_and_nothing_stays_lent() -> None:
    async with open_pair() as pair:
        params = await pair.leg_1()
        lent = (pair.lease_count, pair.lent_fraction > 0)
        answer = await pair.leg_2(params)
        await until(lambda: pair.lease_count == 0)
        decoded = pair.decode.engine.snapshot()
        alone = await pair.alone()

        assert lent == (1, True)
        assert answer.json()["choices"] == alone["choices"]
        assert pair.lent_fraction == 0
        assert decoded.external_hits == usage(answer)["prompt_tokens"]
        assert (decoded.failed_transfers, decoded.failed_notifications) == (0, 0)


async def test_blocks_are_given_back_when_they_were_read_not_when_the_answer_ends() -> None:
    async with open_pair() as pair:
        params = await pair.leg_1()
        asking = asyncio.create_task(pair.leg_2(params, max_tokens=7000, ignore_eos=True))
        await until(lambda: pair.lease_count == 0)

        assert pair.decode.engine.gate.request_count == 1
        asking.cancel()


async def test_the_params_are_those_of_vllm() -> None:
    async with open_pair() as pair:
        params = await pair.leg_1()

        assert params.keys() == {
            *("do_remote_prefill", "do_remote_decode", "remote_block_ids", "remote_engine_id"),
            *("remote_request_id", "remote_host", "remote_port", "tp_size", "dcp_size", "pp_size"),
            *("remote_num_tokens", "remote_blocks_expiry_time", "transfer_mode"),
            "remote_prefill_cached_tokens",
        }
        assert len(params["remote_block_ids"][0]) == -(-params["remote_num_tokens"] // 16)


async def test_the_client_is_told_what_was_cached_where_the_prompt_was_computed() -> None:
    async with open_pair() as pair:
        first = await pair.leg_2(await pair.leg_1())
        second = await pair.leg_2(await pair.leg_1())

        assert usage(first)["prompt_tokens_details"] == {"cached_tokens": 0}
        full_blocks = usage(second)["prompt_tokens"] // 16 * 16
        assert usage(second)["prompt_tokens_details"] == {"cached_tokens": full_blocks}
        assert pair.decode.engine.external_queries < 2 * usage(second)["prompt_tokens"]


async def test_a_release_frees_the_blocks_for_one_token() -> None:
    async with open_pair() as pair:
        params = msgspec.Raw(msgspec.json.encode(await pair.leg_1()))
        body = release_leg(Api.COMPLETIONS, fields(BODY), params)
        answer = await pair.http.post(pair.decode.url + Api.COMPLETIONS, content=body)
        await until(lambda: pair.lease_count == 0)

        assert usage(answer)["completion_tokens"] == 1
        assert pair.lent_fraction == 0


BROKEN: list[dict[str, Any]] = [
    {"remote_request_id": "unknown"},
    {"remote_engine_id": "another"},
    {"remote_block_ids": [[1]]},
    {"remote_block_ids": "nonsense"},
    {"remote_port": 1},
    {"remote_port": "none"},
]


@pytest.mark.parametrize("broken", BROKEN)
async def test_blocks_that_cannot_be_had_fail_the_request(broken: dict[str, Any]) -> None:
    async with open_pair() as pair:
        params = {**await pair.leg_1(), **broken}
        whole = await pair.leg_2(params)
        stream = await pair.leg_2(params, stream=True)

        error = {
            "message": "Internal server error",
            "type": "InternalServerError",
            "param": None,
            "code": 500,
        }
        assert (whole.status_code, whole.json()) == (500, {"error": error})
        first, done = stream.text.strip().split("\n\n")
        assert stream.status_code == 200
        assert msgspec.json.decode(first.removeprefix("data: ")) == {"error": error}
        assert done == "data: [DONE]"
        assert pair.lease_count == 1


async def test_a_stream_of_responses_that_cannot_have_its_blocks_breaks_off_as_vllms() -> None:
    async with open_pair() as pair:
        params = {**await pair.leg_1(), "remote_port": 1}
        body = {"input": PROMPT, "stream": True, "kv_transfer_params": params}
        told = b""
        is_whole = False
        async with pair.http.stream("POST", pair.decode.url + Api.RESPONSES, json=body) as got:
            with contextlib.suppress(httpx.TransportError):
                async for part in got.aiter_raw():
                    told += part
                is_whole = True

        assert not is_whole
        assert re.findall(rb"event: (.+)", told) == [b"response.created", b"response.in_progress"]
        assert b"Internal server error" not in told


@pytest.mark.parametrize("broken", BROKEN)
async def test_or_the_engine_computes_the_prompt_itself_if_it_was_told_so(
    broken: dict[str, Any],
) -> None:
    async with open_pair(decode={"on_load_failure": "recompute"}) as pair:
        answer = await pair.leg_2({**await pair.leg_1(), **broken})

        assert answer.json()["choices"] == (await pair.alone())["choices"]
        assert pair.decode.engine.external_hits == 0


@pytest.mark.parametrize(
    "missing", ["remote_engine_id", "remote_request_id", "remote_host", "remote_port"]
)
async def test_params_that_lack_something_are_passed_over_in_silence(missing: str) -> None:
    async with open_pair() as pair:
        answer = await pair.leg_2({**await pair.leg_1(), missing: None})

        assert answer.json()["choices"] == (await pair.alone())["choices"]
        assert pair.lease_count == 1
        assert pair.decode.engine.external_hits == 0


async def test_a_prefill_engine_that_was_started_again_is_another() -> None:
    async with open_pair() as pair:
        params = await pair.leg_1()
        port = pair.prefill.engine.side_channel_port
    async with (
        open_pair(prefill={"side_channel_port": port}) as pair,
    ):
        answer = await pair.leg_2(params)

        assert params["remote_port"] == pair.prefill.engine.side_channel_port
        assert answer.status_code == 500
        assert pair.decode.engine.snapshot().failed_transfers == 1


async def test_blocks_that_nobody_fetches_are_free_when_their_lease_is_over() -> None:
    async with open_pair(prefill={"lease_seconds": 0.05}) as pair:
        params = await pair.leg_1()
        await until(lambda: pair.lease_count == 0)
        answer = await pair.leg_2(params)
        page = (await pair.http.get(pair.prefill.url + "/metrics")).text

        assert pair.lent_fraction == 0
        assert 'vllm:nixl_num_kv_expired_reqs_total{engine="0",model_name="quick"} 1.0' in page
        assert answer.status_code == 500


async def test_a_leg_2_that_waits_keeps_its_blocks_lent() -> None:
    lease = {"lease_seconds": 0.6}
    async with open_pair(prefill=lease, decode=lease) as pair:
        params = await pair.leg_1()
        # The fetch and the first step then take two seconds, of which the lease has less.
        await pair.http.post(
            pair.decode.url + "/sim/faults", json=[{"kind": "slow", "factor": 1000.0}]
        )
        answer = await pair.leg_2(params, max_tokens=1)
        await until(lambda: pair.lease_count == 0)

        assert answer.status_code == 200
        snapshot = pair.prefill.engine.snapshot()
        assert (snapshot.expired_leases, snapshot.late_notifications) == (0, 0)


async def test_a_client_that_leaves_leg_2_leaves_no_block_behind() -> None:
    async with open_pair() as pair:
        params = await pair.leg_1()
        await pair.http.post(
            pair.decode.url + "/sim/faults", json=[{"kind": "slow", "factor": 1e6}]
        )
        leaving = asyncio.create_task(pair.leg_2(params))
        await until(lambda: pair.decode.engine.driver.counts().waiting == 1)
        leaving.cancel()
        await until(lambda: pair.lease_count == 0)

        assert pair.prefill.engine.snapshot().late_notifications == 0
        assert pair.decode.engine.driver.counts().kv_used_fraction == 0


async def test_a_client_that_leaves_before_the_lender_has_answered_leaves_no_block_behind() -> None:
    told: list[tuple[str, Any]] = []

    async def lender(request: Request, responder: Responder) -> None:
        told.append((request.path, msgspec.json.decode(request.body)["request_ids"]))
        if request.path == LENT:
            await asyncio.Event().wait()
        responder.send(200, (), b"")

    def refusal(_: RefusedError) -> tuple[HeaderPairs, bytes]:
        return (), b""

    listener = listen("127.0.0.1", 0)
    served = serve(listener, lender, ServerLimits(), refusal, drain_seconds=0.05)
    async with open_pair() as pair, served:
        params = await pair.leg_1()
        port = listener.getsockname()[1]
        leaving = asyncio.create_task(pair.leg_2({**params, "remote_port": port}))
        await until(lambda: len(told) == 1)
        leaving.cancel()
        await until(lambda: len(told) == 2)

    request_ids = [params["remote_request_id"]]
    assert told == [(LENT, request_ids), (READ, request_ids)]


async def test_a_dropped_lease_fails_leg_2() -> None:
    async with open_pair() as pair:
        await pair.http.post(pair.prefill.url + "/sim/faults", json=[{"kind": "drop-lease"}])
        params = await pair.leg_1()

        assert (pair.lease_count, pair.lent_fraction) == (0, 0)
        assert (await pair.leg_2(params)).status_code == 500


async def test_corrupt_params_fail_leg_2_and_their_lease_has_to_end() -> None:
    async with open_pair() as pair:
        order = {"kind": "corrupt-params", "count": 1}
        await pair.http.post(pair.prefill.url + "/sim/faults", json=[order])

        assert (await pair.leg_2(await pair.leg_1())).status_code == 500
        assert pair.lease_count == 1
        assert (await pair.leg_2(await pair.leg_1())).status_code == 200


async def test_an_engine_that_crashes_before_leg_1_answers_nothing_any_more() -> None:
    async with open_pair() as pair:
        order = {"kind": "crash-before-leg-1"}
        await pair.http.post(pair.prefill.url + "/sim/faults", json=[order])
        with pytest.raises(httpx.TransportError):
            await pair.leg_1()
        with pytest.raises(httpx.TransportError):
            await pair.http.get(pair.prefill.url + "/health")

        assert (await pair.alone())["usage"]["completion_tokens"] == 20


async def test_an_engine_that_crashes_after_leg_1_takes_the_blocks_with_it() -> None:
    async with open_pair() as pair:
        order = {"kind": "crash-after-leg-1"}
        await pair.http.post(pair.prefill.url + "/sim/faults", json=[order])
        params = await pair.leg_1()
        await pair.prefill.engine.crashed.wait()
        with pytest.raises(httpx.TransportError):
            await pair.http.get(pair.prefill.url + "/health")

        assert (await pair.leg_2(params)).status_code == 500
