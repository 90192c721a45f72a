import msgspec

from twofold_cluster.identity import Incarnation, WorkerId
from twofold_kvtransfer.directory.holdings import Holding, Owner, Owners, Search, decode_owners

W = [WorkerId(f"worker-{number}") for number in range(40)]
LIFE = Incarnation("1")
OWNERS: Owners = {slot: Owner(worker, LIFE, "GPU", False) for slot, worker in enumerate(W)}


def narrow(*slots: int) -> bytes:
    return b"\0" + b"".join(slot.to_bytes(2, "big") for slot in slots)


def wide(*slots: int) -> bytes:
    return b"\1" + sum(1 << slot for slot in slots).to_bytes(5, "little")


def counts(search: Search) -> list[tuple[str, int]]:
    return [(holding.worker_id, holding.block_count) for holding in search.result()]


def found(*holders: bytes, is_end: bool = True) -> list[tuple[str, int]]:
    search = Search()
    search.start(OWNERS)
    search.take(holders, is_end)
    return counts(search)


def test_each_is_counted_to_its_first_gap() -> None:
    assert found(narrow(0, 1, 2), narrow(1, 2), narrow(2, 0)) == [
        ("worker-2", 3),
        ("worker-1", 2),
        ("worker-0", 1),
    ]


def test_who_lacks_the_first_block_has_nothing() -> None:
    assert found(narrow(0), narrow(0, 1)) == [("worker-0", 2)]


def test_many_holders_are_read_as_bits() -> None:
    assert found(wide(0, 39), narrow(39)) == [("worker-39", 2), ("worker-0", 1)]


def test_a_slot_that_stands_for_nobody_holds_nothing() -> None:
    assert found(narrow(0, 40), narrow(40)) == [("worker-0", 1)]


def test_a_chain_that_ends_while_some_hold_all_of_it_names_them() -> None:
    assert found(narrow(0), narrow(0), is_end=False) == [("worker-0", 2)]


def test_a_chain_may_come_in_parts() -> None:
    search = Search()
    search.start(OWNERS)
    search.take([narrow(0, 1)], is_end=False)
    search.start(OWNERS)
    search.take([narrow(1)], is_end=True)

    assert counts(search) == [("worker-1", 2), ("worker-0", 1)]
    assert search.is_over


def test_a_slot_that_changes_hands_between_parts_is_out() -> None:
    search = Search()
    search.start(OWNERS)
    search.take([narrow(0, 1, 2), narrow(0, 1)], is_end=False)
    search.start({**OWNERS, 0: Owner(W[0], Incarnation("2"), "GPU", False), 2: OWNERS[3]})
    search.take([narrow(0, 1)], is_end=False)

    assert counts(search) == [("worker-1", 3)]


def test_with_equal_counts_the_gpu_comes_first() -> None:
    search = Search()
    search.start({0: Owner(W[0], LIFE, "CPU", False), 1: Owner(W[1], LIFE, "GPU", True)})
    search.take([narrow(0, 1)], is_end=True)

    assert search.result() == [
        Holding(W[1], LIFE, "GPU", 1, degraded=True),
        Holding(W[0], LIFE, "CPU", 1, degraded=False),
    ]


def test_owners_are_decoded_by_slot() -> None:
    text = msgspec.json.encode(OWNERS[7])

    assert decode_owners([b"7", text]) == {7: OWNERS[7]}
