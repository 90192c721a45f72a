"""How long an idle engine waits in a step."""

from twofold_kvtransfer.connector.idling import (
    LONG_SECONDS,
    PATIENT_AFTER_SECONDS,
    SHORT_SECONDS,
    IdleWaits,
)


def wait_in_vain(waits: IdleWaits, seconds: float) -> None:
    waited = 0.0
    while waited < seconds:
        wait = waits.next_seconds()
        waits.note_vain(wait)
        waited += wait


def test_news_are_awaited_in_short_steps_at_first() -> None:
    waits = IdleWaits()
    wait_in_vain(waits, PATIENT_AFTER_SECONDS / 2)

    assert waits.next_seconds() == SHORT_SECONDS


def test_who_has_waited_in_vain_for_long_waits_longer_at_a_time() -> None:
    waits = IdleWaits()
    wait_in_vain(waits, PATIENT_AFTER_SECONDS + SHORT_SECONDS)

    assert waits.next_seconds() == LONG_SECONDS


def test_news_make_the_steps_short_again() -> None:
    waits = IdleWaits()
    wait_in_vain(waits, PATIENT_AFTER_SECONDS + SHORT_SECONDS)

    waits.begin_anew()

    assert waits.next_seconds() == SHORT_SECONDS
