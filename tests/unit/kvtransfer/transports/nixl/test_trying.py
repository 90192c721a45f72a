import pytest

from twofold_kvtransfer.transports.nixl.trying import NoWayError, network_environment


@pytest.mark.parametrize(
    ("told", "left"),
    [
        ({}, ("^shm", "^lo")),
        ({"UCX_TLS": "all"}, ("^shm", "^lo")),
        ({"UCX_TLS": "^rc"}, ("^rc,shm", "^lo")),
        ({"UCX_TLS": "tcp,cma,self"}, ("tcp", "^lo")),
        ({"UCX_TLS": "rc,cuda,sm"}, ("rc,cuda", "^lo")),
        ({"UCX_NET_DEVICES": "mlx5_0:1"}, ("^shm", "mlx5_0:1")),
    ],
)
def test_only_ways_out_of_the_machine_are_left(told: dict[str, str], left: tuple[str, str]) -> None:
    found = network_environment({"PATH": "/bin", **told})

    assert (found["UCX_TLS"], found["UCX_NET_DEVICES"]) == left
    assert found["PATH"] == "/bin"


def test_an_environment_that_allows_no_network_is_named() -> None:
    with pytest.raises(NoWayError, match="UCX_TLS=cma,self ends at this machine"):
        network_environment({"UCX_TLS": "cma,self"})
