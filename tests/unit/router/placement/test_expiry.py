"""Whose time is over."""

from twofold_router.placement.expiry import Expiry


def test_those_whose_moment_has_come_are_named_once_and_in_order() -> None:
    expiry = Expiry()
    expiry.add(3.0, "late")
    expiry.add(1.0, "early")
    expiry.add(9.0, "later")

    assert expiry.due(0.9) == []
    assert expiry.due(3.0) == ["early", "late"]
    assert expiry.due(3.0) == []
    assert len(expiry) == 1


def test_those_who_are_gone_are_not_named() -> None:
    expiry = Expiry()
    expiry.add(1.0, "gone")
    expiry.discard("gone")
    expiry.discard("never here")

    assert expiry.due(2.0) == []


def test_a_new_moment_replaces_the_old() -> None:
    expiry = Expiry()
    expiry.add(1.0, "again")
    expiry.add(5.0, "again")

    assert expiry.due(2.0) == []
    assert expiry.due(5.0) == ["again"]
