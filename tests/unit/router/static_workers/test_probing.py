"""One probe: what makes a server one that can serve, and what it may lack."""

import json

import pytest

from twofold_router.static_workers.engine_metrics import EngineMetrics
from twofold_router.static_workers.errors import ProbeFailedError, RefusedError
from twofold_router.static_workers.probing import Reading, probe
from twofold_router.static_workers.testing import FakeServers, Pages, vllm_pages

ORIGIN = "http://a:80"


async def probe_of(pages: Pages) -> Reading:
    return await probe(FakeServers({ORIGIN: pages}), ORIGIN)


async def test_a_vllm_server_tells_all_that_is_needed() -> None:
    reading = await probe_of(vllm_pages("m", running=3))

    assert (reading.model, reading.max_model_tokens, reading.version) == ("m", 8192, "0.32.0")
    assert reading.metrics.running_count == 3


async def test_adapters_are_told_beside_the_model() -> None:
    pages = vllm_pages("base", adapters=["b", "a"])
    models = json.loads(pages["/v1/models"][1])
    models["data"].reverse()
    pages["/v1/models"] = (200, json.dumps(models).encode())

    reading = await probe_of(pages)

    assert (reading.model, reading.adapters) == ("base", ("a", "b"))


async def test_all_names_of_a_model_are_told_the_first_of_them_first() -> None:
    reading = await probe_of(vllm_pages("a", aliases=["c", "b"], adapters=["tuned"]))

    assert (reading.model, reading.aliases, reading.adapters) == ("a", ("c", "b"), ("tuned",))


@pytest.mark.parametrize(("path", "status"), [("/v1/models", 401), ("/health", 403)])
async def test_a_server_that_lets_nobody_in_without_a_key_says_where_to_put_it(
    path: str, status: int
) -> None:
    told = f"{path} answered {status}: .* TWOFOLD_ENGINE_API_KEY or the .* --engine-api-key-file"

    with pytest.raises(ProbeFailedError, match=told):
        await probe_of(vllm_pages() | {path: (status, b'{"error": "Unauthorized"}')})


@pytest.mark.parametrize("version", [b"", b"[]", b'{"version": 1}'])
async def test_a_server_without_metrics_or_a_version_serves(version: bytes) -> None:
    pages = vllm_pages() | {"/version": (200, version)}
    del pages["/metrics"]

    reading = await probe_of(pages)

    assert (reading.version, reading.metrics) == ("", EngineMetrics())


async def test_what_an_error_page_says_is_not_believed() -> None:
    pages = vllm_pages(running=3)
    for path in ("/version", "/metrics"):
        pages[path] = (500, pages[path][1])

    reading = await probe_of(pages)

    assert (reading.version, reading.metrics) == ("", EngineMetrics())


@pytest.mark.parametrize(
    ("path", "status", "body", "reason"),
    [
        ("/health", 503, b"", "/health answered 503"),
        ("/v1/models", 401, b"{}", "/v1/models answered 401"),
        ("/v1/models", 200, b"<html>", "no list of models"),
        ("/v1/models", 200, b'{"data": 1}', "no list of models"),
        ("/v1/models", 200, b'{"data": [{"id": null}]}', "no list of models"),
        ("/v1/models", 200, b'{"data": []}', "names no base model"),
        ("/v1/models", 200, b'{"data": [{"id": "a", "parent": "b"}]}', "names no base model"),
    ],
)
async def test_a_server_that_cannot_serve_fails_the_probe(
    path: str, status: int, body: bytes, reason: str
) -> None:
    with pytest.raises(ProbeFailedError, match=reason):
        await probe_of(vllm_pages() | {path: (status, body)})


async def test_a_refused_connection_is_told_from_others() -> None:
    async def broken(origin: str, path: str, /) -> tuple[int, bytes]:
        raise ConnectionResetError("reset")

    with pytest.raises(RefusedError):
        await probe(FakeServers(), ORIGIN)
    with pytest.raises(ProbeFailedError, match="reset") as raised:
        await probe(broken, ORIGIN)
    assert not isinstance(raised.value, RefusedError)
