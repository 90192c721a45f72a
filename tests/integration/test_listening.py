"""What listens in pods answers at the addresses of whichever family a cluster has."""

import asyncio
import socket
from typing import Any

import aiohttp
import grpc
import pytest
from prometheus_client import CollectorRegistry

from twofold_cluster.listening import listening_socket
from twofold_engine.pools.listening import new_server
from twofold_operator.operating.serving import Health, serving
from twofold_router.gateway import CannotListenError, listen
from twofold_router.processes.listening import listen_together

LIMIT_SECONDS = 10


def has_loopback_of_ipv6() -> bool:
    if not socket.has_ipv6:
        return False
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.fixture(params=["127.0.0.1", "::1"])
def loopback(request: pytest.FixtureRequest) -> str:
    if request.param == "::1" and not has_loopback_of_ipv6():
        pytest.skip("this machine has no ::1")
    return str(request.param)


def url(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def test_a_router_without_a_host_listens_on_both_families(loopback: str) -> None:
    with listen("", 0) as listener:
        port = listener.getsockname()[1]

        socket.create_connection((loopback, port), LIMIT_SECONDS).close()


def test_several_processes_of_a_router_do_too(loopback: str) -> None:
    first, second = listen_together("", 0, 2)
    with first, second:
        port = second.getsockname()[1]
        first.close()

        socket.create_connection((loopback, port), LIMIT_SECONDS).close()


def test_a_port_that_is_taken_in_one_family_is_not_had_in_both(loopback: str) -> None:
    with listening_socket(loopback, 0) as taken, pytest.raises(CannotListenError):
        listen("", taken.getsockname()[1])


def test_an_address_stands_for_its_family_alone() -> None:
    with listening_socket("127.0.0.1", 0) as one:
        assert one.family is socket.AF_INET


def test_a_kernel_without_ipv6_is_served_by_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)

    with listening_socket("", 0) as listener:
        assert listener.getsockname()[0] == "0.0.0.0"


async def test_an_operator_without_a_host_answers_on_both_families(loopback: str) -> None:
    health = Health(unhealthy=lambda: None, unready=lambda: None)
    async with (
        asyncio.timeout(LIMIT_SECONDS),
        serving("", 0, health, CollectorRegistry()) as port,
        aiohttp.ClientSession() as session,
        session.get(f"http://{url(loopback, port)}/healthz") as answer,
    ):
        assert answer.status == 200


async def test_grpc_takes_ipv4s_wildcard_of_a_pool_manager_for_both(loopback: str) -> None:
    server = new_server()
    port = server.add_insecure_port("0.0.0.0:0")
    await server.start()
    try:
        async with (
            asyncio.timeout(LIMIT_SECONDS),
            grpc.aio.insecure_channel(url(loopback, port)) as channel,
        ):
            check: Any = channel.unary_unary("/grpc.health.v1.Health/Check")

            assert await check(b"") == b"\x08\x01"
    finally:
        await server.stop(grace=None)
