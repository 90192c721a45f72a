"""Where a prompt's prefix has its homes."""

from twofold_cluster.identity import WorkerId
from twofold_router.placement.homes import Homes
from twofold_router.placement.pools import Pool
from twofold_router.placement.testing import make_account, make_key, make_waiting
from twofold_router.placement.waiting import Waiting


def pool(count: int = 20) -> Pool:
    made = Pool()
    made.add([make_account(f"w{number}") for number in range(count)])
    return made


def names(waiting: Waiting, pool: Pool, count: int = 2) -> list[str]:
    return [home.worker.worker_id for home in Homes().of(waiting, pool, count)]


def found(
    pool: Pool, *blocks: object, rest_tokens: int = 0, avoid: tuple[str, ...] = ()
) -> Waiting:
    waiting = make_waiting(
        key=make_key(*blocks, rest_tokens=rest_tokens), avoid=frozenset(map(WorkerId, avoid))
    )
    Homes().find_key(waiting, pool)
    return waiting


def test_prompts_with_one_beginning_have_the_same_homes() -> None:
    workers = pool()
    first = names(found(workers, "a", 1), workers)

    assert len(set(first)) == 2
    assert names(found(workers, "a", 2, 3, rest_tokens=7), workers) == first
    others = [names(found(workers, "b", number), workers) for number in range(5)]
    assert names(found(workers, "c"), workers) != others[0]


def test_a_prompt_shorter_than_a_block_has_homes_of_its_own() -> None:
    workers = pool()
    short = found(workers, rest_tokens=7)

    assert short.key == short.request.key.end
    assert len(names(short, workers)) == 2


def test_of_those_to_be_avoided_the_other_home_is_left() -> None:
    workers = pool()
    first, second = names(found(workers, "a"), workers)

    assert names(found(workers, "a", avoid=(first,)), workers) == [second]
    assert names(found(workers, "a", avoid=(second, "unknown")), workers) == [first]


def test_when_all_homes_are_to_be_avoided_the_next_hashes_name_others() -> None:
    workers = pool()
    pair = names(found(workers, "a"), workers)
    retried = found(workers, "a", avoid=tuple(pair))

    others = names(retried, workers)

    assert 1 <= len(others) <= 2
    assert others == names(found(workers, "a"), workers, count=4)[2:]


def test_somebody_is_found_as_long_as_one_is_not_to_be_avoided() -> None:
    workers = pool(8)
    for left in range(8):
        avoid = tuple(f"w{number}" for number in range(8) if number != left)

        assert names(found(workers, "a", avoid=avoid), workers) == [f"w{left}"]


def test_a_hot_prefix_makes_longer_keys() -> None:
    workers, homes = pool(20), Homes()
    waiting = make_waiting()
    for number in range(100):
        waiting = make_waiting(key=make_key("system prompt", number))
        homes.find_key(waiting, workers)

    assert waiting.key == waiting.request.key.blocks[1]


def test_the_last_place_is_where_the_longest_known_beginning_went() -> None:
    workers, homes = pool(20), Homes()
    first, second = workers.accounts[:2]
    homes.take(make_waiting(key=make_key("a", "b", "c")), first, workers)
    homes.take(make_waiting(key=make_key("a", "x")), second, workers)

    assert homes.last(make_waiting(key=make_key("a", "b", "d")), workers) is first
    assert homes.last(make_waiting(key=make_key("a", "e")), workers) is second
    assert homes.last(make_waiting(key=make_key("e")), workers) is None


def test_a_last_place_that_has_gone_or_failed_the_request_is_none() -> None:
    workers, homes = pool(20), Homes()
    account = workers.accounts[0]
    waiting = make_waiting(avoid=frozenset({account.worker.worker_id}))
    homes.take(waiting, account, workers)

    assert homes.last(waiting, workers) is None
    assert homes.last(make_waiting(), workers) is account
    workers.remove([account])
    assert homes.last(make_waiting(), workers) is None


def test_models_do_not_share_what_is_hot() -> None:
    workers, homes = pool(20), Homes()
    for number in range(100):
        homes.find_key(make_waiting(key=make_key("hot", number)), workers)
    other = make_waiting(key=make_key("hot", "new"), model="other")
    homes.find_key(other, workers)

    assert other.key == other.request.key.blocks[0]
