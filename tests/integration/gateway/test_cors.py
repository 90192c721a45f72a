"""Web pages of other origins: which of them a browser lets ask, and read the answers."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from twofold_cluster.apis import Api
from twofold_router.access.minting import hash_of

if TYPE_CHECKING:
    from tests.integration.gateway.conftest import OpenCluster

CHAT = "/v1/chat/completions"
PAGE, OTHER = "https://chat.example", "https://other.example"
PREFLIGHT = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type,x-stainless-os",
}


async def test_without_origins_nothing_is_said(open_cluster: "OpenCluster") -> None:
    async with open_cluster("d1") as cluster:
        preflight = await cluster.client.options(CHAT, headers={"Origin": PAGE, **PREFLIGHT})
        seen = await cluster.ask(headers={"Origin": PAGE})

        assert preflight.status_code == 405
        told = {*preflight.headers, *seen.headers}
        assert not [name for name in told if name.startswith("access-control") or name == "vary"]


@pytest.mark.parametrize("origins", [(PAGE, "https://b.example"), ("*",)])
async def test_a_page_may_ask_and_read(
    open_cluster: "OpenCluster", tmp_path: Path, origins: tuple[str, ...]
) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text(f'[[key]]\nname = "a"\nhash = "{hash_of("tf-" + "a" * 43)}"\ntenant = "t"\n')
    headers = {"Origin": PAGE}
    async with open_cluster("d1", keys_file=keys, allowed_origins=origins) as cluster:
        preflight = await cluster.client.options(CHAT, headers={**headers, **PREFLIGHT})
        refused = await cluster.ask(headers=headers)

        assert (preflight.status_code, preflight.content) == (204, b"")
        assert preflight.headers["access-control-allow-methods"] == "GET, POST"
        asked = PREFLIGHT["Access-Control-Request-Headers"]
        assert preflight.headers["access-control-allow-headers"] == asked
        assert refused.status == 401
        for told in (preflight.headers, refused.headers):
            assert told["access-control-allow-origin"] in (PAGE, "*")
            assert told["access-control-expose-headers"] == "*"
            assert "access-control-allow-credentials" not in told
            assert told.get("vary") == (None if origins == ("*",) else "origin")


@pytest.mark.parametrize("api", Api)
async def test_streams_and_what_is_not_read_say_so_too(
    open_cluster: "OpenCluster", api: Api
) -> None:
    async with open_cluster("d1", allowed_origins=(PAGE,), max_body_bytes=1000) as cluster:
        headers = {"Origin": PAGE}
        body = {"stream": True, "prompt": "x", "input": "x"}
        answers = [
            (await cluster.ask(api, headers, **body)).headers,
            (await cluster.ask(api, headers, prompt="x" * 1001)).headers,
            (await cluster.get("/v1/models", headers)).headers,
            (await cluster.get("/nothing", headers)).headers,
        ]

        assert {told["access-control-allow-origin"] for told in answers} == {PAGE}
        assert {told["vary"] for told in answers} == {"origin"}


async def test_another_page_may_not(open_cluster: "OpenCluster") -> None:
    async with open_cluster("d1", allowed_origins=(PAGE,)) as cluster:
        preflight = await cluster.client.options(CHAT, headers={"Origin": OTHER, **PREFLIGHT})
        seen = await cluster.ask(headers={"Origin": OTHER})
        plain = await cluster.ask()

        assert preflight.status_code == 405
        for told in (preflight.headers, seen.headers, plain.headers):
            assert "access-control-allow-origin" not in told
            assert told["vary"] == "origin"  # else a cache would give it to the page that may


@pytest.mark.parametrize("path", ["/ready", "/metrics", "/metrics/targets", "/ready/"])
async def test_no_page_reads_what_tells_of_the_workers_without_a_key(
    open_cluster: "OpenCluster", path: str
) -> None:
    async with open_cluster("d1", allowed_origins=("*",)) as cluster:
        seen = await cluster.get(path, {"Origin": PAGE})
        preflight = await cluster.client.options(path, headers={"Origin": PAGE, **PREFLIGHT})

        assert (seen.status, preflight.status_code) == (200, 405)
        for told in (seen.headers, preflight.headers):
            assert "access-control-allow-origin" not in told


async def test_an_answer_of_nobody_is_for_all_pages_or_none(open_cluster: "OpenCluster") -> None:
    async with open_cluster("d1", allowed_origins=("*",)) as cluster:
        client = await cluster.connect(b"nonsense\r\n\r\n")
        async with asyncio.timeout(10):
            told = await client.reader.read()
        await client.leave()

        assert b"\r\naccess-control-allow-origin: *\r\n" in told
