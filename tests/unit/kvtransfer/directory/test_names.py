import hashlib

from twofold_kvtransfer.directory.names import NAME_BYTES, block_name


def test_a_name_is_the_end_of_the_hash() -> None:
    digest = hashlib.sha256(b"block").digest()

    assert block_name(digest) == digest[-NAME_BYTES:]


def test_an_integer_is_named_by_its_64_bits() -> None:
    assert block_name(2**64 - 1) == b"\xff" * 8
    assert block_name(-1) == b"\xff" * 8


def test_the_shortest_hash_still_names_a_shard() -> None:
    assert len(block_name(b"a")) == 8
