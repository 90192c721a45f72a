import sys

import pytest

from twofold_engine.pools.__main__ import main


@pytest.mark.parametrize("holdings", ["0", "-5", "1000000001", "many"])
def test_a_directory_that_lists_nothing_or_too_much_is_refused_by_name(
    holdings: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = ["pools", "--service=s", "--redis=redis://h:1", f"--directory-holdings={holdings}"]
    monkeypatch.setattr(sys, "argv", told)

    with pytest.raises(SystemExit) as ended:
        main()

    assert ended.value.code == 2
    assert "directory" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("option", "named"),
    [
        ("--service=a/b", "--service"),
        ("--worker-prefix=a/b", "--worker-prefix"),
        ("--orphan-seconds=1", "--orphan-seconds"),
        ("--orphan-seconds=nan", "--orphan-seconds"),
        ("--orphan-seconds=inf", "--orphan-seconds"),
        ("--ray=local", "--leave-workers"),
    ],
)
def test_what_would_lose_workers_is_refused_by_name(
    option: str, named: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = ["pools", "--service=s", "--redis=redis://h:1", "--leave-workers", option]
    monkeypatch.setattr(sys, "argv", told)

    with pytest.raises(SystemExit) as ended:
        main()

    assert ended.value.code == 2
    assert named in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf"])
def test_a_start_that_would_have_no_time_or_no_limit_is_refused(
    seconds: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = ["pools", "--service=s", "--redis=redis://h:1", f"--start-seconds={seconds}"]
    monkeypatch.setattr(sys, "argv", told)

    with pytest.raises(SystemExit) as ended:
        main()

    assert ended.value.code == 2
    assert "--start-seconds" in capsys.readouterr().err.splitlines()[-1]
