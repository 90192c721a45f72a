"""What the router counts at one worker, and what it predicts from that."""

import pytest

from twofold_cluster.worker import Load
from twofold_router.placement.accounts import Account
from twofold_router.placement.testing import make_account, make_key, make_waiting
from twofold_router.placement.waiting import Waiting


def account(name: str = "p") -> Account:
    """Make one that takes a millisecond a token."""
    made = make_account(name)
    made.speed.announce(0.001)
    return made


def waiting(serial: int, *candidates: Account, tokens: float = 1000.0) -> Waiting:
    made = make_waiting(serial, prompt_tokens=tokens, key=make_key(serial))
    made.candidates = candidates
    return made


def test_the_time_to_the_first_token_is_that_of_all_work_before_and_its_own() -> None:
    at = account()
    at.start_prefill("a", 500.0, now=0.0)
    at.enqueue(waiting(1, tokens=2000.0), now=0.0)

    assert at.ttft_seconds(waiting(2), now=0.2) == pytest.approx(0.3 + 2.0 + 1.0)
    assert at.wait_seconds(now=0.2) == pytest.approx(0.3 + 2.0)


def test_what_is_cached_takes_no_time() -> None:
    at = account()
    at.mirror.hold(make_key("a", "b"), 1024)
    follower = make_waiting(key=make_key("a", "b", "c"))

    assert at.uncached_tokens(follower) == 512.0
    assert at.ttft_seconds(follower, now=0.0) == pytest.approx(0.512)


def test_what_is_dispatched_here_will_be_cached_for_the_next() -> None:
    at = account()
    first = make_waiting(1, key=make_key("a", "b"))
    at.start_prefill("first", 1024.0, 0.0, first.request.key.blocks)
    follower = make_waiting(2, key=make_key("a", "b", "c"))

    assert at.uncached_tokens(follower) == at.uncached_tokens_in_turn(follower) == 512.0
    at.end_prefill("first", 1.0)
    assert at.uncached_tokens(follower) == 1536.0


def test_what_waits_here_will_be_cached_when_its_turn_is_over() -> None:
    at = account()
    first = make_waiting(1, key=make_key("a", "b"))
    at.enqueue(first, 0.0)
    follower = make_waiting(2, key=make_key("a", "b", "c"))

    assert at.uncached_tokens(follower) == 1536.0
    assert at.uncached_tokens_in_turn(follower) == 512.0
    at.dequeue(first)
    assert at.uncached_tokens_in_turn(follower) == 1536.0


def test_a_token_is_always_left_to_compute() -> None:
    at = account()
    at.mirror.hold(make_key("a", "b"), 2048)

    assert at.uncached_tokens(make_waiting(key=make_key("a", "b"))) == 1.0


def test_work_that_takes_longer_than_predicted_is_expected_at_any_moment() -> None:
    at = account()
    at.start_prefill("a", 500.0, now=0.0)

    assert at.free_at(now=7.0) == 7.0
    assert at.wait_seconds(now=7.0) == 0.0


def test_service_time_leaves_out_the_wait_behind_others() -> None:
    at = account()
    at.start_prefill("a", 500.0, now=1.0)
    at.start_prefill("b", 500.0, now=1.1)

    assert at.end_prefill("a", now=2.0) == pytest.approx(1.0)
    assert at.end_prefill("b", now=2.5) == pytest.approx(0.5)
    assert at.end_prefill("b", now=9.0) is None
    assert at.unprefilled_tokens == 0.0


def test_a_prefill_is_due_before_the_first_token_by_what_that_is_late() -> None:
    at = account()
    for _ in range(20):
        at.statistics.lateness.observe(1.0, 1.3)

    # It arrives at 0, and its first token has 5 s.
    assert at.due_at(waiting(1), seconds=1.0) == pytest.approx(5.0 - 0.3)


def test_no_more_than_a_quarter_of_the_spare_time_is_reserved() -> None:
    at = account()
    for _ in range(20):
        at.statistics.lateness.observe(1.0, 60.0)

    assert at.due_at(waiting(1), seconds=1.0) == pytest.approx(5.0 - 1.0)
    assert at.due_at(waiting(1), seconds=6.0) == pytest.approx(5.0)


def test_who_waits_elsewhere_is_a_guest_until_it_leaves() -> None:
    here, there = account("here"), account("there")
    guest = waiting(1, here, there)

    here.enqueue(guest, 0.0)
    assert (here.guests, list(there.guests.values())) == ({}, [guest])
    here.dequeue(guest)

    assert there.guests == {}
    assert (len(here.queue), here.queued_tokens, guest.at) == (0, 0.0, None)


def test_an_account_may_be_a_candidate_of_one_guest_no_longer() -> None:
    here, there = account("here"), account("there")
    guest, other = waiting(1, here, there), waiting(2, here, there)
    here.enqueue(guest, 0.0)
    here.enqueue(other, 0.0)

    there.dismiss(guest)

    assert (guest.candidates, list(there.guests.values())) == ((here,), [other])


def test_a_newcomer_invites_those_who_wait_elsewhere() -> None:
    here, newcomer = account("here"), account("newcomer")
    guest = waiting(1, here)
    here.enqueue(guest, 0.0)

    newcomer.invite(guest)
    here.dequeue(guest)
    newcomer.enqueue(guest, 0.0)

    assert list(here.guests.values()) == [guest]
    assert newcomer.guests == {}


def test_rounding_does_not_outlive_the_queue() -> None:
    at = account()
    one, two = waiting(1, tokens=0.1 + 1e9), waiting(2, tokens=1.3)
    for each in (one, two):
        at.enqueue(each, 0.0)
    for each in (one, two):
        at.dequeue(each)

    assert at.queued_tokens == 0.0


def test_it_tells_its_counts() -> None:
    at = account()
    at.start_prefill("a", 500.0, now=0.0)
    at.enqueue(waiting(1), now=0.0)
    at.mirror.hold(make_key("a", "b"), 1024)

    counts = at.counts()

    assert (counts.queued, counts.unprefilled, counts.decoding) == (1, 1, 0)
    assert (counts.pending_tokens, counts.mirrored_blocks) == (1500.0, 2)
    assert counts.mirror_is == "approximate"
    assert at.worker.load == Load()


def fetching(
    pulled_seconds_per_token: float | None, held_blocks: int = 3
) -> tuple[Account, Waiting]:
    """Make one that takes a millisecond a token, and a prompt of four blocks of which it has none
    and a peer has *held_blocks*."""
    at = make_account("p", side_channel="p.example:5600")
    at.speed.announce(0.001)
    if pulled_seconds_per_token is not None:
        at.pull_speed.observe(1000 * pulled_seconds_per_token, 1000)
    assert at.circle is not None
    made = make_waiting(key=make_key("a", "b", "c", "d"))
    made.held_tokens = {at.circle: held_blocks * 512}
    return at, made


@pytest.mark.parametrize(
    ("pulled_seconds_per_token", "expected"),
    [(None, 2048), (0.00025, 512 + 1536 / 4), (0.001, 2048), (0.002, 2048)],
)
def test_what_a_peer_holds_takes_the_less_of_computing_and_fetching(
    pulled_seconds_per_token: float | None, expected: float
) -> None:
    at, made = fetching(pulled_seconds_per_token)

    assert at.work_tokens(made, 2048) == pytest.approx(expected)
    at.enqueue(made, now=0.0)
    assert made.seconds == pytest.approx(expected / 1000)
    assert at.queued_tokens == made.uncached_tokens == 2048


def test_only_what_the_worker_lacks_is_fetched() -> None:
    at, made = fetching(0.00025)

    assert at.work_tokens(made, 1024) == pytest.approx(512 + 512 / 4)
    assert at.work_tokens(made, 512) == 512


def test_less_than_a_block_is_not_fetched() -> None:
    at, made = fetching(0.00025)

    assert at.work_tokens(made, 512 + 511) == 512 + 511
    assert at.work_tokens(made, 512 + 512) < 512 + 512


def test_who_has_no_side_channel_fetches_nothing() -> None:
    at, made = fetching(0.00025)
    at.circle = None

    assert at.work_tokens(made, 2048) == 2048


def test_the_last_token_is_computed_in_any_case() -> None:
    at, made = fetching(0.0001, held_blocks=4)

    assert at.work_tokens(made, 2048) == pytest.approx(1 + 2047 / 10)
