"""A log that does not fill the disk."""

import io
from pathlib import Path

import pytest

from twofold_engine.log_files import LogFile

LINES = [b"%03d\n" % number for number in range(20)]


def test_the_last_lines_are_kept_whole_and_in_order(tmp_path: Path) -> None:
    path = tmp_path / "w.log"
    with LogFile(path, limit_bytes=30) as log:
        for line in LINES:
            log.write(line)

    kept = (tmp_path / "w.log.1").read_bytes() + path.read_bytes()
    assert kept == b"".join(LINES[-13:])
    assert max(each.stat().st_size for each in tmp_path.iterdir()) <= 30


def test_a_log_goes_on_where_the_worker_before_left_it(tmp_path: Path) -> None:
    path = tmp_path / "w.log"
    path.write_bytes(b"before\n" * 4)
    with LogFile(path, limit_bytes=30) as log:
        log.write(b"after\n")

    assert path.read_bytes() == b"after\n"
    assert (tmp_path / "w.log.1").read_bytes() == b"before\n" * 4


def test_a_line_that_is_longer_than_the_limit_is_kept_and_drives_nothing_out(
    tmp_path: Path,
) -> None:
    old = tmp_path / "w.log.1"
    old.write_bytes(b"before\n")
    with LogFile(tmp_path / "w.log", limit_bytes=10) as log:
        log.write(b"x" * 20)
        kept = old.read_bytes()
        log.write(b"y\n")

    assert kept == b"before\n"
    assert old.read_bytes() == b"x" * 20


def test_a_disk_that_refuses_a_line_takes_the_next(tmp_path: Path) -> None:
    old = tmp_path / "w.log.1"
    old.mkdir()  # the full file cannot be put there
    with LogFile(tmp_path / "w.log", limit_bytes=10) as log:
        log.write(b"12345678\n")
        with pytest.raises(OSError, match=r"w\.log"):
            log.write(b"lost\n")
        old.rmdir()
        log.write(b"next\n")

    assert (tmp_path / "w.log").read_bytes() == b"next\n"


def test_who_reads_along_gets_every_line(tmp_path: Path) -> None:
    echo = io.BytesIO()
    with LogFile(tmp_path / "w.log", limit_bytes=30, echo=echo) as log:
        for line in LINES:
            log.write(line)

    assert echo.getvalue() == b"".join(LINES)
