"""What other routers know."""

from twofold_cluster.identity import Incarnation, Role
from twofold_router.placement.testing import make_account, make_key, make_waiting
from twofold_sim.policies.routed import Routed, in_flight


def test_what_was_sent_is_known_at_once() -> None:
    routed = Routed()
    one, other = make_account("a"), make_account("b")

    routed.send(one, make_key(1, 2), 1024)

    assert routed.matched_tokens(one, make_key(1, 2, 3)) == 1024
    assert routed.matched_tokens(other, make_key(1, 2, 3)) == 0


def test_a_new_life_of_a_worker_has_been_sent_nothing() -> None:
    routed = Routed()
    routed.send(make_account("a", incarnation=Incarnation("1")), make_key(1), 512)

    assert routed.matched_tokens(make_account("a", incarnation=Incarnation("2")), make_key(1)) == 0


def test_it_is_no_more_than_the_worker_can_hold() -> None:
    routed, account = Routed(), make_account("a", capacity=1024)
    for number in range(3):
        routed.send(account, make_key(number), 512)

    known = [routed.matched_tokens(account, make_key(number, "new")) for number in range(3)]
    assert known == [0, 512, 512]


def test_whoever_waits_or_is_being_served_is_in_flight() -> None:
    account = make_account("a")
    account.enqueue(make_waiting(1), 0.0)
    account.start_prefill("r", 10.0, 0.0)

    assert in_flight(account) == 2


def test_a_worker_that_decodes_has_a_request_until_its_end() -> None:
    account = make_account("a", Role.BOTH)
    account.start_prefill("r", 10.0, 0.0)
    account.decoding = 3

    assert in_flight(account) == 3
