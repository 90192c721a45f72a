import mmap
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from twofold_cli import processes
from twofold_cli.commands import tied_to_this_process
from twofold_cli.processes import (
    ProcessId,
    descendants,
    identify,
    is_alive,
    kill_all,
    kill_group,
    marked,
    wait_for_end,
)
from twofold_cli.shared_memory import mapped_files, remove_unmapped


@pytest.fixture
def sleeper() -> Iterator[ProcessId]:
    environment = os.environ | {"TWOFOLD_TEST": "sleeper"}
    with subprocess.Popen(
        ["cat"],
        process_group=0,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
    ) as popen:
        assert popen.stdin is not None
        assert popen.stdout is not None
        popen.stdin.write(b".")
        assert popen.stdout.read(1) == b"."  # execve(2) is over, and /proc shows its environment
        found = identify(popen.pid)
        assert found is not None
        yield found
        popen.kill()


def test_a_process_ends_when_it_is_killed(sleeper: ProcessId) -> None:
    assert is_alive(sleeper)

    assert kill_all([sleeper]) == []
    assert not is_alive(sleeper)


def test_a_number_that_was_used_again_is_left_alone(sleeper: ProcessId) -> None:
    earlier = msgspec.structs.replace(sleeper, started_at=sleeper.started_at - 100)

    assert not is_alive(earlier)
    kill_group(earlier)
    kill_all([earlier])
    assert wait_for_end([sleeper], wait_seconds=0.1) == [sleeper]


def test_a_whole_group_ends_with_its_leader(sleeper: ProcessId) -> None:
    kill_group(sleeper)

    assert wait_for_end([sleeper], wait_seconds=5) == []


def test_descendants_and_marked_ones_are_found(sleeper: ProcessId) -> None:
    assert sleeper in descendants(os.getpid())
    assert marked("TWOFOLD_TEST", "sleeper") == [sleeper]
    assert marked("TWOFOLD_TEST", "sleep") == []


def test_one_that_has_just_begun_is_looked_at_again(
    sleeper: ProcessId, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = processes._environ
    asked: list[int] = []

    def nothing_at_first(pid: int) -> bytes:
        asked.append(pid)
        return b"\0" if pid == sleeper.pid and asked.count(pid) == 1 else read(pid)

    monkeypatch.setattr(processes, "_environ", nothing_at_first)

    assert marked("TWOFOLD_TEST", "sleeper") == [sleeper]


def test_a_child_whose_parent_has_died_already_does_not_start() -> None:
    command = tied_to_this_process(["echo", "started"])
    command[command.index("--") - 1] = "1"  # not the parent any more

    done = subprocess.run(command, capture_output=True, check=False)

    assert (done.returncode, done.stdout) == (1, b"")


def test_a_tied_command_gets_its_arguments_as_they_are() -> None:
    script = "import sys; print(sys.argv[1:])"

    done = subprocess.run(
        tied_to_this_process([sys.executable, "-c", script, "--save", "", "--"]),
        capture_output=True,
        check=True,
    )

    assert done.stdout == b"['--save', '', '--']\n"


def test_what_is_mapped_under_a_name_that_it_lost_is_found(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    with first.open("wb+") as file:
        file.truncate(4096)
        mapping = mmap.mmap(file.fileno(), 4096)
    second.hardlink_to(first)
    first.unlink()

    assert mapped_files([os.getpid()], below=tmp_path) == {str(second)}
    mapping.close()


def test_only_what_nobody_maps_is_removed_from_shared_memory(tmp_path: Path) -> None:
    path, other = tmp_path / "with a space", tmp_path.with_name(f"{tmp_path.name}-other")
    other.write_bytes(b"not below")
    with path.open("wb+") as file:
        file.truncate(4096)
        mapping = mmap.mmap(file.fileno(), 4096)

    assert mapped_files([os.getpid()], below=tmp_path) == {str(path)}
    assert remove_unmapped([str(path)], below=tmp_path) == []
    mapping.close()
    assert remove_unmapped([str(path), str(other)], below=tmp_path) == [str(path)]
    assert (path.exists(), other.exists()) == (False, True)
