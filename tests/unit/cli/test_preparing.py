import socket
from pathlib import Path

import pytest

from twofold_cli.errors import BadArgumentError, CannotStartError
from twofold_cli.models.resolving import Model
from twofold_cli.preparing import (
    Arguments,
    check_arguments,
    check_gpus,
    check_port,
    engine_args,
    simulated,
)

MODEL = Model("/m", "m", 0, engine_args=("--max-model-len", "2048"))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (Arguments(prefill=-1), "--prefill"),
        (Arguments(prefill=1000), "--prefill"),
        (Arguments(decode=0), "--decode"),
        (Arguments(decode=-2), "--decode"),
        (Arguments(port=0), "--port"),
        (Arguments(port=70000), "--port"),
        (Arguments(engine="tgi"), "--engine"),
        (Arguments(connector="mooncake"), "--connector must be nixl or twofold"),
        (Arguments(transport="smoke"), "--transport must be nixl or tcp or nccl"),
        (Arguments(compression="zip"), "--compression must be off or lossless"),
        (Arguments(compression="int8"), "--compression: .* needs connector twofold"),
        (Arguments(connector="twofold", compression="int8"), "and transport tcp"),
        (Arguments(profile="llama2-70b-h100-tp8"), "--profile"),
        (Arguments(host="0.0.0.0"), "--router-arg=--keys-file"),
        (Arguments(directory_holdings=0, kv_events=True), "--directory-holdings: .* 1 to"),
        (Arguments(directory_holdings=10**10, kv_events=True), "--directory-holdings: .* 1 to"),
        (Arguments(directory_holdings=100), "--directory-holdings is for --kv-events"),
        (Arguments(kv_cache_gib=0.0), "--kv-cache-gib"),
        (Arguments(kv_cache_gib=float("nan")), "--kv-cache-gib"),
        (Arguments(kv_cache_gib=float("inf")), "--kv-cache-gib"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(arguments: Arguments, named: str) -> None:
    with pytest.raises(BadArgumentError, match=named):
        check_arguments(arguments)


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (Arguments(engine="sim", connector="twofold"), "--connector"),
        (Arguments(engine="sim", transport="tcp"), "--transport"),
        (Arguments(engine="sim", compression="int8"), "--compression"),
        (Arguments(engine="sim", verify=False), "--no-verify"),
        (Arguments(engine="sim", kv_cache_gib=2.0), "--kv-cache-gib"),
    ],
)
def test_what_engines_without_a_model_have_no_use_for_is_refused(
    arguments: Arguments, option: str
) -> None:
    with pytest.raises(BadArgumentError, match=f"{option} is for --engine vllm"):
        check_arguments(arguments)


def test_no_prefill_worker_is_a_choice() -> None:
    check_arguments(Arguments(prefill=0, kv_cache_gib=0.5))


@pytest.mark.parametrize("told", [("--insecure",), ("--keys-file=k.toml",), ("--keys-file", "k")])
def test_other_machines_are_let_in_when_somebody_has_said_who_may_ask(
    told: tuple[str, ...],
) -> None:
    check_arguments(Arguments(host="0.0.0.0", router_args=told))


def test_a_port_in_use_is_told_with_the_way_out() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]

        with pytest.raises(CannotStartError, match=f"port {port} is in use; choose .* --port"):
            check_port("127.0.0.1", port)

    check_port("127.0.0.1", port)


def test_an_address_of_another_machine_is_a_bad_argument() -> None:
    with pytest.raises(BadArgumentError, match=r"cannot listen on 192\.0\.2\.1"):
        check_port("192.0.2.1", 8000)


def test_a_worker_without_a_gpu_of_its_own_is_refused() -> None:
    check_gpus(worker_count=2, count=2)

    with pytest.raises(CannotStartError, match=r"3 workers need .* this machine has 2"):
        check_gpus(worker_count=3, count=2)


@pytest.mark.parametrize("given", [("--max-model-len", "512"), ("--max-model-len=512",)])
def test_the_users_engine_argument_replaces_the_models(given: tuple[str, ...]) -> None:
    assert engine_args(MODEL, given) == given


def test_other_engine_arguments_are_added_to_the_models() -> None:
    assert engine_args(MODEL, ("--seed=1",)) == ("--max-model-len", "2048", "--seed=1")


def test_an_engine_without_a_model_needs_no_more_than_a_profile() -> None:
    settings = simulated(Arguments(engine="sim", prefill=4), Path("/valkey"))

    assert (settings.device, settings.prefill) == ("sim", 4)
    assert settings.engine_args == ("--profile", settings.served_name)


def test_it_is_called_as_the_user_says() -> None:
    arguments = Arguments(engine="sim", profile="dualmap", model="m", engine_args=("--speed=2",))

    settings = simulated(arguments, Path("/valkey"))

    assert settings.served_name == "m"
    assert settings.engine_args == ("--profile", "dualmap", "--speed=2")


def test_a_profile_that_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(BadArgumentError, match=r"--profile: 'nowhere' is no built-in profile"):
        simulated(Arguments(engine="sim", profile="nowhere"), Path("/valkey"))
