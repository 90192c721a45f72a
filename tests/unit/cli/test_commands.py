from pathlib import Path

import msgspec

from twofold_cli.commands import pools, router, valkey
from twofold_cli.settings import Settings

SETTINGS = Settings(
    model="m",
    served_name="m",
    device="cpu",
    port=9000,
    valkey_command=("valkey-server",),
    pools_command=("pools",),
    router_command=("router",),
)


def test_valkey_keeps_nothing_on_disk_and_listens_on_loopback() -> None:
    command = " ".join(valkey(SETTINGS, 7000, Path("/state")))

    assert command == (
        "valkey-server --port 7000 --bind 127.0.0.1 --save  --appendonly no "
        "--dir /state --daemonize no"
    )


def test_the_pool_manager_is_told_where_everything_is() -> None:
    command = " ".join(pools(SETTINGS, "redis://h:1", "h:2", Path("/logs")))

    assert command == (
        "pools --service local --redis redis://h:1 --listen h:2 --ray local --log-dir /logs"
    )


def test_the_pool_manager_is_told_that_engines_have_no_model() -> None:
    simulated = msgspec.structs.replace(SETTINGS, device="sim")

    assert pools(simulated, "redis://h:1", "h:2", Path("/logs"))[-2:] == ["--engine", "sim"]
    assert "--block-tokens" not in router(simulated, "redis://h:1")


def test_the_pool_manager_is_told_how_much_the_directory_may_list() -> None:
    bounded = msgspec.structs.replace(SETTINGS, directory_holdings=100)

    command = pools(bounded, "redis://h:1", "h:2", Path("/logs"))

    assert command[-2:] == ["--directory-holdings", "100"]


def test_the_router_is_told_when_there_is_no_prefill() -> None:
    expected = "router --service local --redis redis://h:1 --host 127.0.0.1 --port 9000"
    on_gpus = msgspec.structs.replace(SETTINGS, device="cuda")
    alone = msgspec.structs.replace(on_gpus, prefill=0)

    assert " ".join(router(on_gpus, "redis://h:1")) == expected
    assert " ".join(router(alone, "redis://h:1")) == f"{expected} --no-disaggregation"


def test_the_router_of_a_cpu_compares_prompts_by_the_blocks_of_its_engines() -> None:
    assert " ".join(router(SETTINGS, "redis://h:1")).endswith("--block-tokens 128")


def test_what_the_user_tells_the_router_comes_last() -> None:
    told = msgspec.structs.replace(SETTINGS, router_args=("--policy", "dual-map"))

    assert router(told, "redis://h:1")[-2:] == ["--policy", "dual-map"]
