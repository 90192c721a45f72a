"""The command that makes keys."""

from hashlib import sha256

import pytest

from twofold_router.access import Limits
from twofold_router.access.__main__ import main
from twofold_router.access.callers import shared_salt
from twofold_router.access.key_file import parse_keys

NEW = ["new", "--name", "alice", "--tenant", "research"]


def test_the_entry_is_for_the_key_that_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(NEW) == 0

    shown = capsys.readouterr()
    key = shown.err.split()[-1]
    callers = parse_keys(shown.out.encode(), {"default"})
    assert callers[sha256(key.encode()).digest()].name == "alice"


def test_the_entry_does_not_hold_the_key(capsys: pytest.CaptureFixture[str]) -> None:
    main(NEW)

    shown = capsys.readouterr()
    assert shown.err.split()[-1].startswith("tf-")
    assert "tf-" not in shown.out


def test_all_that_is_told_is_in_the_entry(capsys: pytest.CaptureFixture[str]) -> None:
    limits = ["--requests-per-minute", "60", "--tokens-per-minute", "1000"]
    main([*NEW, *limits, "--class", "vip", "--salt", "s", "--model", "a", "--model", "b"])

    [caller] = parse_keys(capsys.readouterr().out.encode(), {"vip"}).values()
    assert caller.limits == Limits(60, 1000)
    assert (caller.class_name, caller.salt) == ("vip", shared_salt("s"))
    assert caller.models == frozenset({"a", "b"})


def test_what_would_not_be_valid_makes_no_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*NEW, "--requests-per-minute", "0"]) == 2

    shown = capsys.readouterr()
    assert shown.out == ""
    assert "requests_per_minute" in shown.err
    assert "tf-" not in shown.err
