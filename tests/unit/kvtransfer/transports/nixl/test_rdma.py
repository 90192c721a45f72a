from collections.abc import Mapping
from pathlib import Path

from twofold_kvtransfer.transports.nixl.rdma import active_ports, lack_of_rdma
from twofold_kvtransfer.transports.nixl.trying import NoWayError
from twofold_kvtransfer.transports.nixl.ways import Way, lanes_of


def add_port(devices: Path, device: str, port: int, state: str) -> None:
    folder = devices / device / "ports" / str(port)
    folder.mkdir(parents=True)
    (folder / "state").write_text(f"{state}\n")


class FakeTry:
    """Finds the lanes of *config*, or no way where that is empty."""

    def __init__(self, config: str) -> None:
        self.config = config
        self.environments: list[Mapping[str, str]] = []

    def __call__(self, environ: Mapping[str, str]) -> Way:
        self.environments.append(environ)
        if not self.config:
            raise NoWayError("no usable transports/devices")
        return Way("zero-copy", lanes_of(self.config))


def test_ports_with_a_link_are_named_as_ucx_does(tmp_path: Path) -> None:
    add_port(tmp_path, "mlx5_0", 1, "4: ACTIVE")
    add_port(tmp_path, "mlx5_0", 2, "1: DOWN")
    add_port(tmp_path, "mlx5_1", 1, "2: INIT")
    add_port(tmp_path, "rdmap16s0", 1, "4: ACTIVE")

    assert active_ports(tmp_path) == ("mlx5_0:1", "rdmap16s0:1")


def test_a_machine_without_devices_has_no_ports(tmp_path: Path) -> None:
    assert active_ports(tmp_path / "infiniband") == ()


def test_without_a_port_ucx_need_not_be_tried(tmp_path: Path) -> None:
    tried = FakeTry("rc_mlx5/mlx5_0:1")

    assert "no InfiniBand or RoCE port" in lack_of_rdma({}, devices=tmp_path, try_way=tried)
    assert tried.environments == []


def test_nothing_is_lacking_where_ucx_takes_rdma_to_other_machines(tmp_path: Path) -> None:
    add_port(tmp_path, "mlx5_0", 1, "4: ACTIVE")
    tried = FakeTry("rc_mlx5/mlx5_0:1/path0")

    assert lack_of_rdma({"A": "b"}, devices=tmp_path, try_way=tried) == ""
    assert tried.environments == [{"A": "b", "UCX_TLS": "^shm", "UCX_NET_DEVICES": "^lo"}]


def test_what_ucx_takes_in_place_of_rdma_is_named(tmp_path: Path) -> None:
    add_port(tmp_path, "mlx5_0", 1, "4: ACTIVE")

    lack = lack_of_rdma({}, devices=tmp_path, try_way=FakeTry("tcp/eth0"))

    assert lack == "UCX takes tcp/eth0 (TCP) though mlx5_0:1 is active"


def test_why_ucx_takes_no_way_is_named(tmp_path: Path) -> None:
    add_port(tmp_path, "mlx5_0", 1, "4: ACTIVE")

    lack = lack_of_rdma({}, devices=tmp_path, try_way=FakeTry(""))

    assert "no usable transports/devices" in lack
