"""SGLang's rule, on a few workers."""

from twofold_cluster.identity import Incarnation, Role, WorkerId
from twofold_router.placement.choice import Choose
from twofold_router.placement.pools import Pool
from twofold_router.placement.testing import make_account, make_key, make_waiting
from twofold_sim.policies.sglang import EVICTION_SECONDS, MAX_TREE_TOKENS, cache_aware


def pool(*counts: int) -> Pool:
    """Make workers with so many requests in flight each."""
    made = Pool()
    made.add([make_account(f"w{number}", capacity=10**8) for number in range(len(counts))])
    for account, count in zip(made.accounts, counts, strict=True):
        for number in range(count):
            account.start_prefill(str(number), 1.0, 0.0)
    return made


def send(
    choose: Choose,
    workers: Pool,
    *blocks: object,
    only: str | None = None,
    now: float = 0.0,
    block_tokens: int = 512,
) -> str:
    """Place a prompt of *blocks*; *only* one worker may have it."""
    avoid = {WorkerId(w) for w in workers.by_id if only is not None and w != only}
    key = make_key(*blocks, block_tokens=block_tokens)
    waiting = make_waiting(key=key, avoid=frozenset(avoid))
    _, chosen = choose(waiting, workers, now)
    return chosen.worker.worker_id


def test_more_than_half_of_the_prompt_decides() -> None:
    choose, workers = cache_aware(), pool(5, 0)
    send(choose, workers, "a", "b", only="w0")

    assert send(choose, workers, "a", "b", "c") == "w0"


def test_half_of_the_prompt_is_not_enough() -> None:
    choose, workers = cache_aware(), pool(0, 5)
    send(choose, workers, "a", "b", only="w0")

    assert send(choose, workers, "a", "b", "c", "d") == "w1"


def test_the_longest_part_decides() -> None:
    choose, workers = cache_aware(), pool(0, 5)
    send(choose, workers, "a", "b", only="w0")
    send(choose, workers, "a", "b", "c", only="w1")

    assert send(choose, workers, "a", "b", "c") == "w1"


def test_of_equal_parts_fewer_requests_decide() -> None:
    choose, workers = cache_aware(), pool(5, 3, 4)
    for worker_id in workers.by_id:
        send(choose, workers, "a", "b", only=worker_id)

    assert send(choose, workers, "a", "b", "c") == "w1"


def test_new_prompts_go_where_the_least_was_sent() -> None:
    choose, workers = cache_aware(), pool(0, 5, 0)
    send(choose, workers, "a", "b", "c", only="w0")
    send(choose, workers, "d", only="w1")
    send(choose, workers, "e", "f", only="w2")

    assert send(choose, workers, "new") == "w1"


def test_what_was_sent_again_does_not_count_again() -> None:
    choose, workers = cache_aware(), pool(0, 0)
    send(choose, workers, "a", only="w0")
    send(choose, workers, "b", "c", only="w1")
    for _ in range(5):
        send(choose, workers, "a", only="w0")

    assert send(choose, workers, "new") == "w0"


def test_nothing_was_sent_to_a_new_life_of_a_worker() -> None:
    choose, workers = cache_aware(), pool(0, 0)
    send(choose, workers, "a", "b", "c", only="w0")
    send(choose, workers, "d", only="w1")

    again = Pool()
    reborn = make_account("w0", capacity=10**8, incarnation=Incarnation("2"))
    again.add([reborn, workers.by_id[WorkerId("w1")]])

    assert send(choose, again, "new") == "w0"
    assert send(choose, again, "other", "new", only="w0") == "w0"
    assert send(choose, again, "newer") == "w1"


def test_what_is_beyond_the_size_of_a_tree_is_forgotten_now_and_then() -> None:
    choose, workers = cache_aware(), pool(0, 0)
    send(choose, workers, "a", only="w0", block_tokens=MAX_TREE_TOKENS + 9999)
    send(choose, workers, "b", only="w1", block_tokens=MAX_TREE_TOKENS)
    send(choose, workers, "last", only="w1")
    assert send(choose, workers, "new", now=EVICTION_SECONDS - 1) == "w1"

    first = send(choose, workers, "newer", now=EVICTION_SECONDS)
    second = send(choose, workers, "newest", now=EVICTION_SECONDS)

    assert (first, second) == ("w0", "w1")


def test_imbalance_has_to_be_more_than_32_requests() -> None:
    choose, workers = cache_aware(), pool(32, 0)
    send(choose, workers, "a", only="w0")
    assert send(choose, workers, "a") == "w0"

    workers.accounts[0].start_prefill("one more", 1.0, 0.0)

    assert send(choose, workers, "a") == "w1"


def test_imbalance_has_to_be_more_than_a_ten_thousandth() -> None:
    choose, workers = cache_aware(), Pool()
    workers.add([make_account(f"w{number}", Role.BOTH) for number in range(2)])
    workers.accounts[1].decoding = 400_000
    workers.accounts[0].decoding = 400_040
    send(choose, workers, "a", only="w0")
    assert send(choose, workers, "a") == "w0"

    workers.accounts[0].decoding = 400_041

    assert send(choose, workers, "a") == "w1"


def test_what_goes_elsewhere_for_balance_is_known_there() -> None:
    choose, workers = cache_aware(), pool(33, 0)
    send(choose, workers, "a")
    workers.accounts[0].unprefilled.clear()

    assert send(choose, workers, "a") == "w1"
