import logging
from collections.abc import Mapping

import pytest

from twofold_cluster.identity import Role, WorkerId
from twofold_engine.network import network_warning
from twofold_engine.settings import WorkerSettings

ENVIRONMENT = {"UCX_TLS": "tcp"}


def some_settings(
    *, rdma: bool = True, connector: str = "nixl", transport: str = "nixl"
) -> WorkerSettings:
    return WorkerSettings(
        service="s",
        worker_id=WorkerId("w"),
        role=Role.DECODE,
        model="m",
        served_name="m",
        rdma=rdma,
        connector=connector,
        transport=transport,
    )


def no_port(environ: Mapping[str, str]) -> str:
    assert environ == ENVIRONMENT
    return "no port"


def not_to_be_asked(environ: Mapping[str, str]) -> str:
    raise AssertionError(environ)


@pytest.mark.parametrize(
    ("connector", "transport"), [("nixl", "nixl"), ("twofold", "nixl"), ("twofold", "nccl")]
)
def test_a_worker_without_the_rdma_it_was_asked_for_warns(
    connector: str, transport: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = some_settings(connector=connector, transport=transport)
    with caplog.at_level(logging.WARNING):
        warning = network_warning(settings, ENVIRONMENT, no_port)

    assert warning == "blocks would not cross the network by RDMA: no port"
    assert [record.message for record in caplog.records] == [warning]


def test_a_worker_with_rdma_is_silent(caplog: pytest.LogCaptureFixture) -> None:
    assert network_warning(some_settings(), ENVIRONMENT, lambda _: "") is None
    assert not caplog.records


def test_nobody_looks_for_rdma_that_was_not_asked_for() -> None:
    assert network_warning(some_settings(rdma=False), ENVIRONMENT, not_to_be_asked) is None


def test_a_transport_that_knows_no_rdma_needs_no_trial() -> None:
    settings = some_settings(connector="twofold", transport="tcp")

    assert "the transport is tcp" in (network_warning(settings, {}, not_to_be_asked) or "")
