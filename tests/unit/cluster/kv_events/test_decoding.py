from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold_cluster.kv_events import (
    AllBlocksCleared,
    BlockRemoved,
    BlockStored,
    EventBatch,
    InvalidKvEventsError,
    KvEvent,
    decode_batch,
)

Row = dict[str, Any]

# As they follow one another in the arrays of vLLM before #42892.
IN_ORDER = {
    "BlockStored": (
        "type",
        "block_hashes",
        "parent_block_hash",
        "token_ids",
        "block_size",
        "lora_id",
        "medium",
        "lora_name",
        "extra_keys",
        "group_idx",
    ),
    "BlockRemoved": ("type", "block_hashes", "medium", "group_idx"),
    "AllBlocksCleared": ("type",),
}

hashes = st.integers(0, 2**64 - 1) | st.binary(min_size=32, max_size=32)
rows_of_stored = st.fixed_dictionaries(
    {
        "type": st.just("BlockStored"),
        "block_hashes": st.lists(hashes, min_size=1, max_size=3),
        "parent_block_hash": st.none() | hashes,
        "token_ids": st.lists(st.integers(0, 200_000), max_size=20),
        "block_size": st.integers(1, 256),
        "lora_id": st.none(),
        "medium": st.none() | st.sampled_from(["GPU", "CPU"]),
        "lora_name": st.none() | st.text(max_size=3),
        "extra_keys": st.none() | st.lists(st.none() | st.lists(st.text(max_size=3)), max_size=2),
        "group_idx": st.integers(0, 3),
    }
)
rows_of_removed = st.fixed_dictionaries(
    {
        "type": st.just("BlockRemoved"),
        "block_hashes": st.lists(hashes, max_size=3),
        "medium": st.none() | st.just("GPU"),
        "group_idx": st.integers(0, 3),
    }
)
rows = rows_of_stored | rows_of_removed | st.just({"type": "AllBlocksCleared"})


@given(row=rows_of_stored, as_array=st.booleans())
def test_a_stored_chain_keeps_its_order_and_of_its_tokens_only_their_number(
    row: Row, as_array: bool
) -> None:
    assert decoded([row], as_array) == [
        BlockStored(
            block_hashes=tuple(row["block_hashes"]),
            parent=row["parent_block_hash"],
            token_count=len(row["token_ids"]),
            block_tokens=row["block_size"],
            medium=row["medium"],
            lora=row["lora_name"],
            group=row["group_idx"],
        )
    ]


@given(row=rows_of_removed, as_array=st.booleans())
def test_a_removal_names_blocks_of_one_medium_and_group(row: Row, as_array: bool) -> None:
    assert decoded([row], as_array) == [
        BlockRemoved(tuple(row["block_hashes"]), row["medium"], row["group_idx"])
    ]


@given(all_rows=st.lists(rows, max_size=6))
def test_both_encodings_say_the_same_and_may_stand_in_one_batch(all_rows: list[Row]) -> None:
    maps, arrays = decoded(all_rows, as_array=False), decoded(all_rows, as_array=True)

    assert maps == arrays
    mixed = [row if i % 2 else array_of(row) for i, row in enumerate(all_rows)]
    assert decode_batch(msgspec.msgpack.encode([1.0, mixed, 0])).events == maps


@pytest.mark.parametrize("count", [0, 15, 16, 65_535, 65_536, 200_000])
def test_tokens_are_counted_however_many_there_are(count: int) -> None:
    stored = decoded([a_row(token_ids=[7] * count)])[0]

    assert isinstance(stored, BlockStored)
    assert stored.token_count == count


def test_an_event_of_an_old_version_ends_early() -> None:
    array = ["BlockStored", [1], None, [5, 6], 2]

    batch = decode_batch(msgspec.msgpack.encode([1.5, [array, ["BlockRemoved", [1]]]]))

    assert batch == EventBatch(1.5, [BlockStored((1,), None, 2, 2), BlockRemoved((1,))])


def test_an_adapter_without_a_name_goes_by_its_number() -> None:
    stored = decoded([a_row(lora_id=3)])[0]

    assert isinstance(stored, BlockStored)
    assert stored.lora == "3"


@pytest.mark.parametrize("as_array", [True, False])
def test_the_fields_and_types_of_a_newer_version_are_ignored(as_array: bool) -> None:
    newer = a_row() | dict.fromkeys("abcdefgh", "new")
    unknown = {"type": "BlockMoved", "block_hashes": "elsewhere"}

    events = decoded([newer, unknown, {"type": "AllBlocksCleared", "new": 1}], as_array)

    assert events == [*decoded([a_row()], as_array), AllBlocksCleared()]


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        msgspec.msgpack.encode({}),
        msgspec.msgpack.encode([1.0]),
        msgspec.msgpack.encode([1.0, [7]]),
        msgspec.msgpack.encode([1.0, [[]]]),
        msgspec.msgpack.encode([1.0, [{}]]),
        msgspec.msgpack.encode([1.0, [["BlockRemoved", "a"]]]),
        msgspec.msgpack.encode([1.0, [{"type": "BlockRemoved"}]]),
        msgspec.msgpack.encode([1.0, [["BlockStored", [1], None, 7, 2]]]),
        msgspec.msgpack.encode([1.0, [["BlockStored", [1.5], None, [7], 2]]]),
        b"\x92\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00" + b"\x91" * 100_000,
        msgspec.msgpack.encode([1.0, [["BlockRemoved", [1]]]])[:-1],
    ],
    ids=lambda payload: payload[:12].hex(),
)
def test_what_is_no_batch_is_refused(payload: bytes) -> None:
    with pytest.raises(InvalidKvEventsError):
        decode_batch(payload)


@given(all_rows=st.lists(rows, max_size=4))
def test_events_travel_between_the_processes_of_a_router(all_rows: list[Row]) -> None:
    events = decoded(all_rows)

    received = msgspec.msgpack.decode(msgspec.msgpack.encode(events), type=list[KvEvent])

    assert received == events


def a_row(**fields: Any) -> Row:
    row = {"type": "BlockStored", "block_hashes": [1], "parent_block_hash": None, "token_ids": [5]}
    more = dict.fromkeys(("lora_id", "medium", "lora_name", "extra_keys", "group_idx"))
    return row | {"block_size": 1} | more | fields


def array_of(row: Row) -> list[Any]:
    known = IN_ORDER.get(row["type"], ("type", "block_hashes"))
    return [row[name] for name in known] + [row[name] for name in row if name not in known]


def decoded(all_rows: list[Row], as_array: bool = False) -> list[KvEvent]:
    encoded = [array_of(row) for row in all_rows] if as_array else all_rows
    return decode_batch(msgspec.msgpack.encode([1.0, encoded, 0])).events
