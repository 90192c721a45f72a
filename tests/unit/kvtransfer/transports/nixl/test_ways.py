import pytest

from twofold_kvtransfer.transports.nixl.ways import Kind, Lane, Way, lanes_of


@pytest.mark.parametrize(
    ("config", "lanes"),
    [
        ("tcp/lo", ["tcp/lo"]),
        ("self/memory", ["self/memory"]),
        ("rc_mlx5/mlx5_0:1/path0", ["rc_mlx5/mlx5_0:1"]),
        ("rc_mlx5/mlx5_0:1 50% on path0 and 50% on path1", ["rc_mlx5/mlx5_0:1"]),
        (
            "72% on rc_mlx5/mlx5_2:1 and 28% on dc_mlx5/mlx5_bond_3:1",
            ["rc_mlx5/mlx5_2:1", "dc_mlx5/mlx5_bond_3:1"],
        ),
        (
            "25% on rc_verbs/mlx5_0:1/path0, 25% on rc_verbs/mlx5_1:1/path0 and 50%",
            ["rc_verbs/mlx5_0:1", "rc_verbs/mlx5_1:1"],
        ),
        ("", []),
    ],
)
def test_each_lane_of_a_config_is_named_once(config: str, lanes: list[str]) -> None:
    assert [str(lane) for lane in lanes_of(config)] == lanes


@pytest.mark.parametrize(
    ("transport", "kind"),
    [
        ("tcp", Kind.TCP),
        ("cma", Kind.SHARED_MEMORY),
        ("posix", Kind.SHARED_MEMORY),
        ("cuda_ipc", Kind.GPU),
        ("rc_verbs", Kind.RDMA),
        ("dc_mlx5", Kind.RDMA),
        ("srd", Kind.RDMA),
        ("carrier_pigeon", Kind.UNKNOWN),
    ],
)
def test_a_way_is_of_the_kind_of_its_lane(transport: str, kind: Kind) -> None:
    assert Way("zero-copy", (Lane(transport, "0"),)).kind is kind


@pytest.mark.parametrize(
    ("transports", "kind"),
    [
        (("rc_mlx5", "tcp"), Kind.TCP),
        (("cma", "rc_mlx5"), Kind.RDMA),
        (("cuda_copy", "rc_mlx5"), Kind.RDMA),
        (("cuda_copy",), Kind.UNKNOWN),
        ((), Kind.UNKNOWN),
    ],
)
def test_a_way_of_several_lanes_is_as_slow_as_the_slowest_between_processes(
    transports: tuple[str, ...], kind: Kind
) -> None:
    assert Way("zero-copy", tuple(Lane(name, "0") for name in transports)).kind is kind
