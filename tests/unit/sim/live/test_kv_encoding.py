from array import array

import msgspec
import pytest

from twofold_cluster.kv_events import BlockRemoved, BlockStored, decode_batch
from twofold_sim.engine_model import BlocksRemoved, BlocksStored
from twofold_sim.live.blocks import Keeping, telling_block_ids
from twofold_sim.live.kv_encoding import Encoding, encode_event

TOKENS = array("Q", range(12))
BLOCKS = telling_block_ids(TOKENS, 4, Keeping("m", adapter="a", salt="s"))


@pytest.mark.parametrize("encoding", ["array", "map"])
def test_the_cluster_reads_what_the_engine_writes(encoding: Encoding) -> None:
    stored = BlocksStored(tuple(BLOCKS[1:]), BLOCKS[0])
    events = [encode_event(each, encoding) for each in (stored, BlocksRemoved((BLOCKS[2],)))]

    batch = decode_batch(msgspec.msgpack.encode([1.0, events, 0]))

    assert batch.events == [
        BlockStored(
            block_hashes=tuple(map(int, BLOCKS[1:])),
            parent=int(BLOCKS[0]),
            token_count=8,
            block_tokens=4,
            medium="GPU",
            lora="a",
        ),
        BlockRemoved((int(BLOCKS[2]),), "GPU"),
    ]


def test_a_stored_block_tells_its_tokens_and_what_else_made_its_hash() -> None:
    event = encode_event(BlocksStored(tuple(BLOCKS), None), "map")

    assert event["token_ids"] == list(range(12))
    assert event["parent_block_hash"] is None
    assert event["extra_keys"] == [["a", "s"], ["a"], ["a"]]
    assert (event["lora_name"], event["block_size"], event["group_idx"]) == ("a", 4, 0)


def test_a_block_of_nobody_in_particular_has_no_further_keys() -> None:
    (block,) = telling_block_ids(TOKENS[:4], 4, Keeping("m"))

    event = encode_event(BlocksStored((block,), None), "array")

    assert event[0] == "BlockStored"
    assert event[-2:] == ([None], 0)
