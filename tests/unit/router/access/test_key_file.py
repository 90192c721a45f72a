"""The file of keys, as operators and charts write it."""

import traceback
from hashlib import sha256
from typing import Any

import pytest

from twofold_router.access import Caller, InvalidAccessError, Limits
from twofold_router.access.callers import shared_salt, tenant_salt
from twofold_router.access.key_file import parse_keys

CLASSES = {"default", "interactive"}
PLAIN_KEY = "tf-this-was-pasted-where-its-hash-belongs"
DIGEST = sha256(b"tf-one").digest()
ENTRY = f'[[key]]\nname = "one"\nhash = "sha256:{DIGEST.hex()}"\ntenant = "research"\n'


def refusal(text: str | bytes) -> str:
    raw = text.encode() if isinstance(text, str) else text
    with pytest.raises(InvalidAccessError) as error:
        parse_keys(raw, CLASSES)
    return str(error.value)


def test_a_short_entry_has_defaults() -> None:
    callers = parse_keys(ENTRY.encode(), CLASSES)

    assert callers == {
        DIGEST: Caller("one", "research", tenant_salt("research"), "default", None, None)
    }


def test_all_fields_are_read() -> None:
    text = (
        ENTRY + 'class = "interactive"\nrequests_per_minute = 60\ntokens_per_minute = 200_000\n'
        'models = ["a", "org/b"]\nsalt = "two-teams"\n'
    )

    [caller] = parse_keys(text.encode(), CLASSES).values()

    assert caller == Caller(
        "one",
        "research",
        shared_salt("two-teams"),
        "interactive",
        Limits(60, 200_000),
        frozenset({"a", "org/b"}),
    )


def test_tenants_with_one_salt_share_it() -> None:
    second = (
        ENTRY.replace("one", "two").replace("research", "sales").replace(DIGEST.hex(), "0" * 64)
    )
    salt = 'salt = "both"\n'

    callers = parse_keys((ENTRY + salt + second + salt).encode(), CLASSES).values()

    assert {caller.salt for caller in callers} == {shared_salt("both")}
    assert {caller.tenant for caller in callers} == {"research", "sales"}


@pytest.mark.parametrize("told", ["acme/eu", "a@b", r"a\\b", "x" * 129, "x" * 256])
def test_the_engines_are_sent_a_salt_that_they_take(told: str) -> None:
    [caller] = parse_keys(f'{ENTRY}salt = "{told}"\n'.encode(), CLASSES).values()
    [other] = parse_keys(f'{ENTRY}salt = "{told[:-1]}"\n'.encode(), CLASSES).values()

    assert caller.salt != other.salt
    for own in (None, told):
        salt = caller.cache_salt(own)
        assert salt is not None
        # As vLLM checks it (vllm/entrypoints/generate/base/protocol.py).
        assert 0 < len(salt) <= 128
        assert not set("@/\\\0") & set(salt)


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("request_per_minute = 5", "request_per_minute"),
        ("requests_per_minute = 0", "requests_per_minute"),
        ("requests_per_minute = -5", "requests_per_minute"),
        ("requests_per_minute = 1_000_000_001", "requests_per_minute"),
        ("requests_per_minute = true", "requests_per_minute"),
        ("tokens_per_minute = 1.5", "tokens_per_minute"),
        ('tokens_per_minute = "many"', "tokens_per_minute"),
        ("models = []", "models"),
        ('models = ["a b"]', "models"),
        ('salt = ""', "salt"),
        ('salt = "a\\nb"', "salt"),
        ('class = "vip"', "class: 'vip' is none of default, interactive"),
        ("class = 1", "class"),
    ],
)
def test_a_bad_field_is_named_with_its_entry(line: str, field: str) -> None:
    message = refusal(ENTRY + line)

    assert "key 'one' (entry 1)" in message
    assert field in message


@pytest.mark.parametrize("field", ["name", "hash", "tenant"])
def test_a_missing_field_is_named(field: str) -> None:
    lines = [line for line in ENTRY.splitlines() if not line.startswith(field)]

    assert f"missing required field `{field}`" in refusal("\n".join(lines))


@pytest.mark.parametrize("name", ["", "a b", "-a", "a" * 64, "a\\n"])
def test_a_name_that_is_no_label_is_refused(name: str) -> None:
    assert "entry 1: " in refusal(ENTRY.replace("one", name))


def test_an_entry_that_is_no_table_is_named_by_its_number() -> None:
    assert "entry 1" in refusal("key = [5]")


def test_a_name_or_hash_that_is_there_twice_is_refused() -> None:
    other_hash = ENTRY.replace(DIGEST.hex(), "0" * 64)

    assert "key 'one' (entry 2), name" in refusal(ENTRY + other_hash)
    assert "key 'two' (entry 2), hash: the key 'one'" in refusal(
        ENTRY + ENTRY.replace("one", "two")
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing yet",
        "key = []",
        "key = 5",
        ENTRY + "[keys]",
        "[[key",
        "a = " + "[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_what_is_no_file_of_keys_is_refused(text: str | bytes) -> None:
    assert refusal(text)


@pytest.mark.parametrize("where", ["hash", "salt", "name", "tenant", "class"])
def test_a_key_that_was_pasted_into_the_file_is_not_repeated_by_the_error(where: str) -> None:
    key = PLAIN_KEY + " " if where != "hash" else PLAIN_KEY  # no value that would be allowed
    lines = [line for line in ENTRY.splitlines() if not line.startswith(where)]
    text = "\n".join([*lines, f'{where} = "{key}"']).encode()

    with pytest.raises(InvalidAccessError) as error:
        parse_keys(text, CLASSES)

    assert PLAIN_KEY not in "".join(traceback.format_exception(error.value))


def test_a_broken_file_is_not_repeated_by_the_error() -> None:
    with pytest.raises(InvalidAccessError) as error:
        parse_keys(f'[[key]]\nhash = "{PLAIN_KEY}\n'.encode(), CLASSES)

    assert "line 2" in str(error.value)
    assert PLAIN_KEY not in "".join(traceback.format_exception(error.value))


def test_many_entries_are_read() -> None:
    entries: list[Any] = [
        ENTRY.replace("one", f"key-{number}").replace(DIGEST.hex(), f"{number:064x}")
        for number in range(100)
    ]

    assert len(parse_keys("".join(entries).encode(), CLASSES)) == 100
