"""A keyring that follows its file, as it does in a router."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from twofold_cluster.errors import RequestError
from twofold_router.access import Keyring
from twofold_router.access.keyring import LOOK_SECONDS


def make_key(name: str) -> tuple[str, str]:
    """Run the command as an operator does. Returns the key and its entry."""
    command = [sys.executable, "-m", "twofold_router.access", "new", "--name", name]
    made = subprocess.run(
        [*command, "--tenant", "research"], capture_output=True, text=True, check=True, timeout=30
    )
    return made.stderr.split()[-1], made.stdout


async def test_a_new_key_works_and_a_removed_one_does_not_soon_after_the_change(
    tmp_path: Path,
) -> None:
    path = tmp_path / "keys.toml"
    old_key, old_entry = make_key("old")
    new_key, new_entry = make_key("new")
    path.write_text(old_entry)
    outcomes: list[str] = []
    keyring = Keyring(path, {"default"}, on_reload=outcomes.append)
    task = asyncio.create_task(keyring.run())
    try:
        assert keyring.find(b"Bearer " + old_key.encode(), None).name == "old"

        path.write_text(new_entry)
        async with asyncio.timeout(10 * LOOK_SECONDS):
            while not outcomes:
                await asyncio.sleep(0.05)

        assert keyring.find(b"Bearer " + new_key.encode(), None).name == "new"
        with pytest.raises(RequestError):
            keyring.find(b"Bearer " + old_key.encode(), None)
    finally:
        task.cancel()
        await asyncio.wait([task])
    assert task.cancelled()
