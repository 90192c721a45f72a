from pathlib import Path

from twofold_cli.directories import cache_directory, state_directory


def test_the_own_variable_comes_before_the_general_one() -> None:
    environ = {"TWOFOLD_STATE_DIR": "/own", "XDG_STATE_HOME": "/general"}

    assert state_directory(environ) == Path("/own")
    assert cache_directory({"TWOFOLD_CACHE_DIR": "/own"}) == Path("/own/twofold")


def test_without_any_variable_it_is_below_home() -> None:
    assert state_directory({}) == Path.home() / ".local/state/twofold"
    assert cache_directory({}) == Path.home() / ".cache/twofold"


def test_a_relative_general_directory_is_ignored() -> None:
    assert state_directory({"XDG_STATE_HOME": "here"}) == Path.home() / ".local/state/twofold"
