"""Keys that are found, and a file that changes."""

import logging
import os
from collections.abc import Set
from pathlib import Path

import pytest

from twofold_cluster.errors import Fault, RequestError
from twofold_router.access import InvalidAccessError, Keyring
from twofold_router.access.keyring import MAX_FILE_BYTES
from twofold_router.access.minting import hash_of

CLASSES = {"default"}
ALICE, BOB = "tf-" + "a" * 43, "tf-" + "b" * 43


def entry(name: str, key: str) -> str:
    return f'[[key]]\nname = "{name}"\nhash = "{hash_of(key)}"\ntenant = "t"\n'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "keys.toml"
    path.write_text(entry("alice", ALICE))
    return path


def replace_file(path: Path, text: str) -> None:
    """Swap *path* for a new file, as editors and Kubernetes do."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


def finds(keyring: Keyring, key: str) -> bool:
    try:
        keyring.find(b"Bearer " + key.encode(), None)
    except RequestError:
        return False
    return True


@pytest.mark.parametrize("scheme", [b"Bearer ", b"bearer ", b"BEARER   "])
def test_a_bearers_key_is_found(path: Path, scheme: bytes) -> None:
    assert Keyring(path, CLASSES).find(scheme + ALICE.encode() + b" ", None).name == "alice"


def test_a_key_of_anthropics_header_is_found(path: Path) -> None:
    keyring = Keyring(path, CLASSES)

    assert keyring.find(None, ALICE.encode()).name == "alice"
    assert keyring.find(b"Basic YTpi", ALICE.encode()).name == "alice"


def test_a_wrong_bearer_is_not_saved_by_the_other_header(path: Path) -> None:
    with pytest.raises(RequestError):
        Keyring(path, CLASSES).find(b"Bearer tf-wrong", ALICE.encode())


@pytest.mark.parametrize(
    ("authorization", "api_key"),
    [
        (None, None),
        (b"", b""),
        (b"Bearer", None),
        (b"Bearer ", None),
        (b"Bearer " + ALICE.encode()[:-1], None),
        (b"Bearer " + ALICE.encode() + b"a", None),
        (b"Bearer " + ALICE.upper().encode(), None),
        (b"Bearer" + ALICE.encode(), None),
        (b"Basic " + ALICE.encode(), None),
        (ALICE.encode(), None),
        (b"Bearer " + hash_of(ALICE).encode(), None),
        (b"Bearer " + b"x" * 100_000, None),
        (b"Bearer \xff\x00", None),
    ],
)
def test_anything_else_is_a_401_that_repeats_nothing(
    path: Path, authorization: bytes | None, api_key: bytes | None
) -> None:
    with pytest.raises(RequestError) as refusal:
        Keyring(path, CLASSES).find(authorization, api_key)

    assert refusal.value.fault is Fault.INVALID_API_KEY
    assert "tf-" not in refusal.value.message


def test_no_key_stays_in_the_keyring(path: Path) -> None:
    keyring = Keyring(path, CLASSES)

    keyring.find(b"Bearer " + ALICE.encode(), None)

    assert ALICE not in repr(vars(keyring))


@pytest.mark.parametrize("text", ["", "[[key]]\nname = 'alice'", None])
def test_a_bad_file_stops_the_start_and_is_named(path: Path, text: str | None) -> None:
    path.unlink() if text is None else path.write_text(text)

    with pytest.raises(InvalidAccessError, match=str(path)):
        Keyring(path, CLASSES)


def test_a_file_without_a_bound_is_refused(path: Path) -> None:
    os.truncate(path, MAX_FILE_BYTES + 1)

    with pytest.raises(InvalidAccessError, match="larger"):
        Keyring(path, CLASSES)


async def test_a_change_is_followed(path: Path) -> None:
    heard: list[Set[str]] = []
    outcomes: list[str] = []
    keyring = Keyring(path, CLASSES, on_change=heard.append, on_reload=outcomes.append)

    replace_file(path, entry("bob", BOB))
    await keyring.look()

    assert finds(keyring, BOB)
    assert not finds(keyring, ALICE)
    assert heard == [{"bob"}]
    assert outcomes == ["done"]


async def test_a_change_in_place_of_the_same_length_and_time_is_followed(path: Path) -> None:
    before = path.stat()
    keyring = Keyring(path, CLASSES)
    text = entry("caren", BOB)
    assert len(text) == before.st_size

    path.write_text(text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    await keyring.look()

    assert finds(keyring, BOB)


async def test_an_unchanged_file_is_not_read_again(path: Path) -> None:
    outcomes: list[str] = []
    keyring = Keyring(path, CLASSES, on_reload=outcomes.append)

    await keyring.look()

    assert outcomes == []


@pytest.mark.parametrize("text", ["", "[[key]]", entry("bob", BOB) + "colour = 1\n", None])
async def test_a_bad_change_leaves_the_old_keys_and_is_told_once(
    path: Path, text: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[Set[str]] = []
    outcomes: list[str] = []
    keyring = Keyring(path, CLASSES, on_change=heard.append, on_reload=outcomes.append)

    with caplog.at_level(logging.INFO):
        path.unlink() if text is None else replace_file(path, text)
        await keyring.look()
        await keyring.look()

    assert finds(keyring, ALICE)
    assert not finds(keyring, BOB)
    assert outcomes == ["failed"]
    assert heard == []
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert str(path) in vars(caplog.records[0])["error"]


async def test_a_good_change_after_a_bad_one_is_followed(path: Path) -> None:
    outcomes: list[str] = []
    keyring = Keyring(path, CLASSES, on_reload=outcomes.append)
    path.unlink()
    await keyring.look()

    replace_file(path, entry("bob", BOB))
    await keyring.look()

    assert finds(keyring, BOB)
    assert outcomes == ["failed", "done"]


async def test_a_swapped_link_of_a_mounted_secret_is_followed(tmp_path: Path) -> None:
    for version, text in (("v1", entry("alice", ALICE)), ("v2", entry("bob", BOB))):
        (tmp_path / version).mkdir()
        (tmp_path / version / "keys.toml").write_text(text)
    (tmp_path / "..data").symlink_to("v1")
    path = tmp_path / "keys.toml"
    path.symlink_to("..data/keys.toml")
    keyring = Keyring(path, CLASSES)

    (tmp_path / "..data_tmp").symlink_to("v2")
    (tmp_path / "..data_tmp").replace(tmp_path / "..data")
    await keyring.look()

    assert finds(keyring, BOB)
    assert not finds(keyring, ALICE)
