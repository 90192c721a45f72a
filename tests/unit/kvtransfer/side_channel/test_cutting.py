import pytest

from twofold_kvtransfer.side_channel.cutting import lease_portions
from twofold_kvtransfer.side_channel.messages import (
    MAX_LEASES_PER_MESSAGE,
    MAX_QUESTION_BYTES,
    Claim,
    GiveBack,
    frame,
)
from twofold_kvtransfer.sources import MAX_NAME_LENGTH


@pytest.mark.parametrize("character", ["r", "\U0001f600"])
def test_leases_with_the_longest_names_are_cut_into_messages_that_fit(character: str) -> None:
    names = [f"{number:04}" + character * (MAX_NAME_LENGTH - 4) for number in range(2000)]
    portions = list(lease_portions(names))

    assert [name for some in portions for name in some] == names
    for message in (Claim, GiveBack):
        assert all(len(frame(message(some))) <= MAX_QUESTION_BYTES for some in portions)


def test_leases_with_usual_names_go_as_many_to_a_message_as_may() -> None:
    names = [f"cmpl-{number:032}-0" for number in range(MAX_LEASES_PER_MESSAGE + 1)]

    assert [len(some) for some in lease_portions(names)] == [MAX_LEASES_PER_MESSAGE, 1]


def test_no_leases_are_no_message() -> None:
    assert list(lease_portions([])) == []
