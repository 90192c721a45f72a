"""Ports that engines are told to take."""

import socket
from pathlib import Path

import pytest

from twofold_engine import environment
from twofold_engine.environment import HIGHEST_PORT, LOWEST_PORT, free_port, free_ports

HOST = "127.0.0.1"


@pytest.fixture
def ephemeral(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the kernel says which ports it gives to connections: from 32,768 on."""
    path = tmp_path / "ip_local_port_range"
    path.write_text("32768\t60999\n")
    monkeypatch.setattr(environment, "_EPHEMERAL_PORTS", path)
    return path


def test_a_port_is_none_that_a_connection_may_get_before_it_is_bound(ephemeral: Path) -> None:
    assert all(LOWEST_PORT <= free_port(HOST) <= HIGHEST_PORT for _ in range(100))

    ephemeral.write_text(f"{LOWEST_PORT + 100}\t60999\n")

    assert all(LOWEST_PORT <= free_port(HOST) < LOWEST_PORT + 100 for _ in range(100))


@pytest.mark.parametrize("text", ["1024\t65535\n", "", "many few"])
def test_where_connections_may_get_all_of_them_the_kernel_chooses(
    ephemeral: Path, text: str
) -> None:
    ephemeral.write_text(text)

    assert len({free_port(HOST) for _ in range(20)}) > 1


def test_a_port_that_somebody_has_is_not_free(
    ephemeral: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = free_ports(HOST, 2)
    monkeypatch.setattr(environment, "LOWEST_PORT", first)
    monkeypatch.setattr(environment, "HIGHEST_PORT", first + 1)
    with socket.create_server((HOST, first)):
        assert {free_port(HOST) for _ in range(20)} == {first + 1}
